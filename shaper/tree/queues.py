"""The values of the queues that a leaf may have beside fq_codel and the FIFOs, as the kernel holds and reads them back.

Times are microseconds, sizes bytes, limits packets, where nothing else is said.
"""

from __future__ import annotations

from typing import NamedTuple


class CodelOptions(NamedTuple):
    """CoDel on one queue (RFC 8289)."""

    limit: int
    target: int
    interval: int
    ecn: bool


class PieOptions(NamedTuple):
    """PIE on one queue (RFC 8033). `alpha` and `beta` are sixteenths of a hertz: 2 and 20 are the RFC's 0.125 and 1.25.

    `update` is how often the probability is worked out; 0 stands for the RFC's 15 ms, as near as the kernel's clock has
    them.
    """

    limit: int
    target: int
    ecn: bool
    alpha: int = 2
    beta: int = 20
    update: int = 0
    bytemode: bool = False
    rate_estimator: bool = False


class FqPieOptions(NamedTuple):
    """PIE on each of `flows` queues, taken in turns of `quantum` bytes; `memory` is in bytes.

    `ecn_prob` is the probability of a drop, in per cent, up to which a packet is marked instead.
    """

    limit: int
    flows: int
    target: int
    quantum: int
    memory: int
    ecn: bool
    ecn_prob: int = 10
    alpha: int = 2
    beta: int = 20
    update: int = 0
    bytemode: bool = False
    rate_estimator: bool = False


class RedOptions(NamedTuple):
    """RED on one queue; `limit`, `least` and `most` (the thresholds of the average) in bytes.

    A packet counts 2**-`weight` in the average. `cell` is log2 of the microseconds after which an idle queue's average
    falls by a step. `probability` is in units of 2**-32, at the threshold `most`; adaptive, the kernel moves it within
    1 % and 50 % by itself, and it is 0 here.
    """

    limit: int
    least: int
    most: int
    weight: int
    cell: int
    probability: int
    ecn: bool
    adaptive: bool
    harddrop: bool = False


class SfqOptions(NamedTuple):
    """Turns among `flows` queues of up to `depth` packets each; `quantum` in bytes, `perturb` in seconds, 0 for never.

    `divisor` is the number of hash buckets.
    """

    limit: int
    quantum: int
    perturb: int = 0
    divisor: int = 1024
    flows: int = 127
    depth: int = 127
    headdrop: bool = False


LeafOptions = CodelOptions | PieOptions | FqPieOptions | RedOptions | SfqOptions

LEAF_KINDS: dict[type[LeafOptions], str] = {
    CodelOptions: "codel",
    PieOptions: "pie",
    FqPieOptions: "fq_pie",
    RedOptions: "red",
    SfqOptions: "sfq",
}
"""By tc's name."""
