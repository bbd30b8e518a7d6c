"""How a leaf's queue is kept short: the discipline that the policy asks for, its numbers, and among whom it is fair."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from shaper.tree import AckFilter, FlowMode


class AqmKind(enum.StrEnum):
    """By tc's name; `fifo` is a plain queue that drops what comes when it is full."""

    FQ_CODEL = "fq_codel"
    FIFO = "fifo"
    CAKE = "cake"
    CODEL = "codel"
    FQ_PIE = "fq_pie"
    PIE = "pie"
    RED = "red"
    SFQ = "sfq"

    @property
    def fair(self) -> bool:
        """Whether it has a queue for each flow, and so can have one for each host."""
        return self in (AqmKind.FQ_CODEL, AqmKind.CAKE, AqmKind.FQ_PIE, AqmKind.SFQ)


KEYS: Mapping[AqmKind, frozenset[str]] = {
    AqmKind.FQ_CODEL: frozenset({"ecn", "target", "interval", "limit", "flows", "quantum"}),
    AqmKind.FIFO: frozenset({"limit"}),
    AqmKind.CAKE: frozenset({"target", "interval", "limit", "nat", "wash", "ack-filter", "split-gso"}),
    AqmKind.CODEL: frozenset({"ecn", "target", "interval", "limit"}),
    AqmKind.FQ_PIE: frozenset({"ecn", "target", "limit", "flows", "quantum", "alpha", "beta"}),
    AqmKind.PIE: frozenset({"ecn", "target", "limit", "alpha", "beta"}),
    AqmKind.RED: frozenset({"ecn", "target", "limit", "min", "max", "probability"}),
    AqmKind.SFQ: frozenset({"limit", "flows", "quantum", "depth", "perturb"}),
}
"""The numbers that each has, by their keys in a policy."""

IN_PACKETS = frozenset({AqmKind.FQ_CODEL, AqmKind.FIFO, AqmKind.CODEL, AqmKind.FQ_PIE, AqmKind.PIE, AqmKind.SFQ})
IN_BYTES = frozenset({AqmKind.FQ_CODEL, AqmKind.FIFO, AqmKind.FQ_PIE, AqmKind.CAKE, AqmKind.RED})
"""The kinds whose limit may be so counted."""

MOST_FLOWS = 65_536
MOST_SFQ_DEPTH = 127

HOSTS_ALONE: Mapping[FlowMode, FlowMode] = {
    FlowMode.SRCHOST: FlowMode.SRCHOST,
    FlowMode.DSTHOST: FlowMode.DSTHOST,
    FlowMode.HOSTS: FlowMode.HOSTS,
    FlowMode.DUAL_SRCHOST: FlowMode.SRCHOST,
    FlowMode.DUAL_DSTHOST: FlowMode.DSTHOST,
}
"""The fairness that a queue for each host has: nearest to each of CAKE's, as far as hosts get the same share by it."""

TURNED: Mapping[FlowMode, FlowMode] = {
    FlowMode.SRCHOST: FlowMode.DSTHOST,
    FlowMode.DSTHOST: FlowMode.SRCHOST,
    FlowMode.DUAL_SRCHOST: FlowMode.DUAL_DSTHOST,
    FlowMode.DUAL_DSTHOST: FlowMode.DUAL_SRCHOST,
}
"""A fairness for what comes in, where it was said of what goes out: the same hosts. The others are their own."""


@dataclass(frozen=True, slots=True)
class Aqm:
    """What is None was not said.

    `target`, `interval` and `perturb` in seconds; a limit in `packets` or in `size` bytes; `quantum`, `least` and
    `most` (RED's `min` and `max`) in bytes; `probability` a ratio; `alpha` and `beta` in sixteenths of a hertz.
    """

    kind: AqmKind = AqmKind.FQ_CODEL
    ecn: bool | None = None
    target: float | None = None
    interval: float | None = None
    packets: int | None = None
    size: int | None = None
    flows: int | None = None
    quantum: int | None = None
    depth: int | None = None
    perturb: float | None = None
    least: int | None = None
    most: int | None = None
    probability: float | None = None
    alpha: int | None = None
    beta: int | None = None
    nat: bool | None = None
    wash: bool | None = None
    ack_filter: AckFilter | None = None
    split_gso: bool | None = None


@dataclass(frozen=True, slots=True)
class CakeSettings:
    """What an interface says of the CAKE at its root; `rtt` in seconds and `size` in bytes, None for the usual.

    `fwmark` is the mask of a mark that names a tin, 0 for none.
    """

    fairness: FlowMode = FlowMode.TRIPLE_ISOLATE
    rtt: float | None = None
    size: int | None = None
    nat: bool = False
    wash: bool = False
    ack_filter: AckFilter = AckFilter.NONE
    split_gso: bool = True
    fwmark: int = 0
