"""How a root qdisc counts a packet: struct tc_sizespec, whose fields say all that its table holds.

Every queue and class below the root counts in these bytes: what a class sends, its bursts, its quantum, what waits in
a FIFO. The kernel dumps the eight fields and not the table, which follows from them.
"""

from __future__ import annotations

from typing import NamedTuple

ETHERNET, ATM = 1, 2
"""TC_LINKLAYER_ETHERNET, TC_LINKLAYER_ATM."""
CELL, CELL_PAYLOAD = 53, 48
_SLOTS, _MOST_SLOTS = 2048, 16384
_LARGEST = 0xFFFF


class SizeTable(NamedTuple):
    """`overhead` bytes come on top of the frame (or off it), `mpu` is the least a packet counts for.

    `slots` sizes of steps of 1 << `cell_log` bytes each, in units of 1 << `size_log`; without slots only the overhead
    counts. `mtu` is for people.
    """

    cell_log: int
    size_log: int
    cell_align: int
    overhead: int
    linklayer: int
    mpu: int
    mtu: int
    slots: int

    def sizes(self) -> tuple[int, ...]:
        """The table: what each step counts for."""
        return tuple(
            _adjusted((slot + 1) << self.cell_log, self.mpu, self.linklayer) >> self.size_log
            for slot in range(self.slots)
        )

    def count(self, length: int) -> int:
        """The bytes that a frame of `length` counts for, as __qdisc_calculate_pkt_len() in net/sched/sch_api.c does."""
        size = length + self.overhead
        if self.slots:
            slot = max(0, size + self.cell_align) >> self.cell_log
            whole, rest = divmod(slot, self.slots)
            size = (self._size(self.slots - 1) * whole + self._size(rest)) if whole else self._size(rest)
            size <<= self.size_log
        return max(1, size)

    def _size(self, slot: int) -> int:
        return _adjusted((slot + 1) << self.cell_log, self.mpu, self.linklayer) >> self.size_log


def size_table(*, overhead: int, mpu: int, atm: bool, longest: int) -> SizeTable:
    """A table that is exact, byte by byte, for frames that count for up to `longest` bytes, as long as it is short.

    Every byte has its own slot up to 16 KB; tc(8) takes 512 slots of 4 bytes, and so rounds up by as many as 3.
    """
    linklayer = ATM if atm else ETHERNET
    if not (mpu or atm):
        return SizeTable(0, 0, 0, overhead, linklayer, 0, 0, 0)
    slots = _SLOTS
    while slots < min(longest, _MOST_SLOTS):
        slots *= 2
    cell_log = 0
    while slots << cell_log < longest:
        cell_log += 1
    size_log = 0
    while _adjusted(slots << cell_log, mpu, linklayer) >> size_log > _LARGEST:
        size_log += 1
    return SizeTable(cell_log, size_log, -1, overhead, linklayer, mpu, (slots << cell_log) - 1, slots)


def _adjusted(size: int, mpu: int, linklayer: int) -> int:
    size = max(size, mpu)
    return -(-size // CELL_PAYLOAD) * CELL if linklayer == ATM else size
