"""The two clocks in which the kernel's queues keep a time that crosses the wire in microseconds.

Both round down on the way in and on the way out, so that a time read and sent again would shrink. What is read is
turned into the one time that comes back as itself.
"""

from __future__ import annotations

_CODEL_NS = 1024
_PSCHED_NS = 64


def codel_canonical(microseconds: int) -> int:
    """The smallest time that CoDel keeps as it keeps this one; whole milliseconds are canonical."""
    return _codel_smallest(microseconds * 1000 // _CODEL_NS)


def codel_read(dumped: int) -> int:
    """What was dumped, as it would have to be sent."""
    return _codel_smallest(-(-dumped * 1000 // _CODEL_NS))


def _codel_smallest(units: int) -> int:
    return -(-units * _CODEL_NS // 1000)


def psched_canonical(microseconds: int) -> int:
    """The time that the packet scheduler's clock (64 ns) shows as it shows this one; multiples of 8 are canonical."""
    return psched_read(microseconds * 1000 // _PSCHED_NS * _PSCHED_NS // 1000)


def psched_read(dumped: int) -> int:
    """What was dumped, as it would have to be sent: an odd one is dumped one less."""
    return dumped if dumped % 8 == 0 else dumped + 1
