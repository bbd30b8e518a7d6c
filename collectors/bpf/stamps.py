"""The stamps of packets that wait in a queue: when each came, and what becomes of those that never come out."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence

from collectors.bpf.library import Map

_KEY = 8
_STAMP = struct.Struct("=QII")

SIZE = _STAMP.size
"""Bytes of one."""


class Stamps:
    """The map of them, by what is in the packet or by its address.

    `cut` counts super-packets that were known by their address and did not come out as they were.
    """

    def __init__(self, stamps: Map) -> None:
        self._stamps = stamps
        self.cut = 0

    @property
    def by_bytes(self) -> bool:
        """Whether any is found by what is in its packet."""
        return any(_by_bytes(key) for key, _ in self._stamps.items(_KEY))

    def keep(self, mask: int) -> None:
        """Forgets those that a sampling by this mask does not pick, since nobody will look for them."""
        for key, _ in list(self._stamps.items(_KEY)):
            if _by_bytes(key) and int.from_bytes(key, "little") >> 8 & mask:
                self._stamps.remove(key)

    def sweep(self, handles: Sequence[int], *, before: int) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """As `KernelDelays.sweep`; `handles` are those of the classes, by their slots."""
        lost: Counter[int] = Counter()
        waiting: Counter[int] = Counter()
        for key, value in list(self._stamps.items(_KEY)):
            at, slot, segments = _STAMP.unpack(value)
            found = waiting if at >= before else lost if self._stamps.remove(key) else None
            if not _by_bytes(key):
                self.cut += found is lost and segments > 1
            elif found is not None and slot < len(handles):  # a probe has no slot
                found[handles[slot]] += segments
        return lost, waiting


def _by_bytes(key: bytes) -> bool:
    """Whether a stamp is found by what is in its packet, and not by its address."""
    return bool(key[0] & 1)
