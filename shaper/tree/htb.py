"""HTB's options and classes, in the kernel's own rounding: whole bytes a second, ticks of 64 ns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shaper.tree.handles import TICK_NS, Handle, ticks, ticks_to_bytes


class HtbOptions(NamedTuple):
    """`default` is the minor of the class for what no filter matches; 0 lets it pass unshaped.

    `direct_queue` holds that many such packets; 0 stands for the kernel's own, the device's transmit queue length.
    """

    default: int
    direct_queue: int = 0


@dataclass(frozen=True, slots=True)
class HtbClass:
    """`rate` and `ceil` in bit/s, whole bytes a second; bursts in ticks at rate and ceil; `quantum` in bytes.

    `parent` is the root qdisc's handle for a top class (the kernel's dumps say TC_H_ROOT there), else a class's.
    """

    handle: Handle
    parent: Handle
    rate: int
    ceil: int
    burst: int
    cburst: int
    prio: int
    quantum: int

    @property
    def key(self) -> tuple[str, int, int]:
        return ("class", self.handle, 0)


BURST_NS = 1_000_000
"""A burst lasts at least 1 ms of its rate, the field's practice: timers that come late then cost no throughput."""


def burst_after(count: int, rate: int, new_rate: int) -> int:
    """A burst of `count` ticks at `rate` as ticks at `new_rate` (bit/s): no fewer bytes, and at least BURST_NS."""
    if new_rate == rate:
        return count
    return max(ticks(ticks_to_bytes(count, rate), new_rate), -(-BURST_NS // TICK_NS))
