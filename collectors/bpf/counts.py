"""What the kernel's programs count of a class and of a device (`measure.bpf.c`), and into how many buckets and bins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

CUTS, FINE_CUTS, OCTAVES = 32, 256, 26
LOWEST = 1.024e-6
"""Buckets of a class: below so many seconds, then `CUTS` (3 % wide) or `FINE_CUTS` (0.4 %) to each power of two, and
one beyond; as in `DelayHistogram`."""

BINS, BIN = 2048, 1.048576e-3
"""Arrivals are kept for so many bins of so many seconds."""

LIMITS = 4
"""Of a class: how many delays there are beyond each is counted apart."""


class Counting(NamedTuple):
    """How the queue counts a packet, where that is not its length: as struct tc_sizespec has it."""

    overhead: int
    least: int
    cells: bool
    steps: bool
    step_log: int
    align: int


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Of one class since the start. `delays` counts packets by bucket; times in seconds, `least` None for no packet.
    `inelastic_bytes` are those of `arrived_bytes` that are not TCP.

    `arrived` counts what would be on the wire: the segments of super-packets one by one. Of these `stamped` were
    picked, of which `matched` came out, and `ambiguous` looked like another; by address only what came out is picked.
    `late` maps limits (s) to packets that waited longer. `least` and `largest` are of the time since the counts were
    read last.
    """

    arrived: int
    arrived_bytes: int
    inelastic_bytes: int
    stamped: int
    matched: int
    ambiguous: int
    no_room: int
    delay_sum: float
    least: float | None
    largest: float
    delays: Sequence[int]
    late: Mapping[float, int] = field(default_factory=dict)
    cuts: int = CUTS

    def quantile(self, q: float) -> float:
        """The upper edge (s) of the bucket in which the upper order statistic is. Raises ValueError without samples."""
        rank, below = max(1, math.ceil(q * self.matched - 1e-9)), 0
        for number, count in enumerate(self.delays):
            below += count
            if below >= rank:
                octave, cut = divmod(number - 1, self.cuts)
                return LOWEST if number == 0 else LOWEST * 2.0**octave * (1 + (cut + 1) / self.cuts)
        raise ValueError(f"no quantile {q} of {self.matched} samples")


@dataclass(frozen=True, slots=True)
class Health:
    """Of the whole device since the start: malformed packets, packets that no class took, packets that came out and had
    no stamp, super-packets, and of these those that were known by address and did not come out as they were."""

    undecoded: int
    unclassified: int
    unknown: int
    super_packets: int
    cut: int = 0


def buckets_of(cuts: int) -> int:
    """So many buckets a class has. Raises ValueError."""
    if not 1 <= cuts <= 1024 or cuts & (cuts - 1):
        raise ValueError(f"an octave cannot be cut into {cuts}")
    return 2 + cuts * OCTAVES
