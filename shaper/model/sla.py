"""Targets of a class and what became of them in a window."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from shaper.stats import CODECS, PLAYOUTS, longest_wait, mos_of, rating

_MOS_PERCENTILES = (0.99, 0.999, 0.9999)


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
class JitterTarget:
    """At most `1 - percentile` of the packets wait `seconds` longer than the one that waits least (RFC 5481, PDV)."""

    percentile: float
    seconds: float

    @property
    def key(self) -> str:
        """As the policy may write it: `jitter-p99`."""
        return f"jitter-p{self.percentile * 100:.6g}"

    @property
    def bound(self) -> DelayTarget:
        """Who keeps this keeps the target, since nobody waits less than not at all."""
        return DelayTarget(self.percentile, self.seconds)


@dataclass(frozen=True, slots=True)
class MosTarget:
    """A call over this hop scores at least `least` by the E-model; `path` (s) is the rest of the one-way delay."""

    least: float
    codec: str
    path: float = 0.0

    @property
    def best(self) -> float:
        """The score without queue and loss, behind the shortest jitter buffer."""
        codec = CODECS[self.codec]
        return mos_of(rating(self.path + codec.delay + PLAYOUTS[0], 0.0, codec))

    @property
    def bound(self) -> DelayTarget:
        """Who keeps this, and loses nothing, keeps the target: of the fewest packets that may be late at all."""
        for percentile in _MOS_PERCENTILES:
            wait = longest_wait(self.least, 1 - percentile, CODECS[self.codec], path=self.path)
            if wait is not None:
                return DelayTarget(percentile, wait)
        return DelayTarget(_MOS_PERCENTILES[-1], PLAYOUTS[0])


@dataclass(frozen=True, slots=True)
class Sla:
    """All targets of one class; `loss` a ratio, `throughput` bit/s of layer 2. Empty means none."""

    delays: tuple[DelayTarget, ...] = ()
    loss: float | None = None
    throughput: int | None = None
    jitters: tuple[JitterTarget, ...] = ()
    mos: MosTarget | None = None

    def __bool__(self) -> bool:
        several = (self.delays, self.jitters)
        return any(several) or any(one is not None for one in (self.loss, self.throughput, self.mos))

    @property
    def bounds(self) -> tuple[DelayTarget, ...]:
        """The delays that keep every target of delay, jitter and voice: what queues and rates are made for."""
        more = [target.bound for target in (*self.jitters, self.mos) if target is not None]
        if not more:
            return self.delays
        least: dict[float, DelayTarget] = {}
        for target in (*self.delays, *more):
            known = least.get(target.percentile)
            least[target.percentile] = target if known is None or target.seconds < known.seconds else known
        return tuple(least[percentile] for percentile in sorted(least))

    @property
    def tightest(self) -> str:
        """The target that asks for the shortest wait, else for no loss, else for a throughput; "" for none."""
        waits = [(target.seconds, target.key) for target in self.delays]
        waits += [(target.bound.seconds, target.key) for target in self.jitters]
        waits += [(self.mos.bound.seconds, "mos")] if self.mos is not None else []
        if waits:
            return min(waits)[1]
        return "loss" if self.loss is not None else "throughput" if self.throughput is not None else ""


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

    @property
    def at_least(self) -> bool:
        """Whether more is better."""
        return self.target in ("throughput", "mos")


@dataclass(frozen=True, slots=True)
class SlaResult:
    """A class in one window: the worst of its targets. No data never counts as met."""

    path: str
    state: SlaState
    targets: tuple[TargetResult, ...]
