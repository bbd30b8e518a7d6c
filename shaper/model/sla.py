"""Targets of a class and what became of them in a window."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DelayTarget:
    """At most `1 - percentile` of the packets wait longer than `seconds` (queueing delay at this hop)."""

    percentile: float
    seconds: float

    @property
    def key(self) -> str:
        """As the policy writes it: `delay-p99`, `delay-p99.9`."""
        return f"delay-p{self.percentile * 100:.6g}"


@dataclass(frozen=True, slots=True)
class Sla:
    """All targets of one class; `loss` a ratio, `throughput` bit/s of layer 2. Empty means none."""

    delays: tuple[DelayTarget, ...] = ()
    loss: float | None = None
    throughput: int | None = None

    def __bool__(self) -> bool:
        return bool(self.delays) or self.loss is not None or self.throughput is not None


class SlaState(enum.StrEnum):
    """Three results that are never confused, and one for classes that promise nothing."""

    MET = "met"
    MISSED = "missed"
    NO_DATA = "no data"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class TargetResult:
    """One target in one window: what was wanted, what was measured (None without data), on how many samples."""

    target: str
    wanted: float
    measured: float | None
    samples: int
    state: SlaState


@dataclass(frozen=True, slots=True)
class SlaResult:
    """A class in one window: the worst of its targets. No data never counts as met."""

    path: str
    state: SlaState
    targets: tuple[TargetResult, ...]
