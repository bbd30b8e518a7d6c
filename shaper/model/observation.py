"""What one tick saw of an interface, as the controller and the SLA evaluation read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

TICK = 0.2
"""Seconds from one reading of the counters, and decision, to the next, where nothing else is asked for."""


class Rung(StrEnum):
    """By what delay, arrivals and losses are measured, the best first; counters are read in any case."""

    EBPF = "ebpf"
    CAPTURE = "capture"
    COUNTERS = "counters"


@dataclass(frozen=True, slots=True)
class DelayView:
    """Queueing delay of one class over a sliding window, from matched packets.

    `quantiles` maps a percentile in 0..1 to seconds; `late` maps a target in seconds to the share of packets
    that waited longer; `count` is the number of matched packets in the window; `largest` and `least` in seconds.
    `source` says who measured. Of `sampling` packets one was looked at: with more than 1, `low` and `high` are the ends
    of each quantile's 95 % interval in seconds, as far as so few samples have them; a full count has no interval. Of
    packets that were captured in slices of time the slices are the sample: with fewer than five there is no end.
    `coverage` is the share of the sent packets that were measured, since the start, None where nothing was sent.
    `ipdv` maps percentiles to the difference (s) of consecutive packets' delays without its sign (RFC 3393); empty
    where nobody saw which packet followed which: delays that the kernel counted, and samples.
    """

    count: int
    window: float
    quantiles: Mapping[float, float]
    late: Mapping[float, float]
    largest: float
    least: float | None = None
    source: str = "capture"
    sampling: int = 1
    coverage: float | None = None
    low: Mapping[float, float] = field(default_factory=dict)
    high: Mapping[float, float] = field(default_factory=dict)
    ipdv: Mapping[float, float] = field(default_factory=dict)

    @property
    def variation(self) -> Mapping[float, float]:
        """Each quantile over the least delay (RFC 5481, PDV), in seconds; empty where the least is not known."""
        least = self.least
        return {} if least is None else {q: max(0.0, delay - least) for q, delay in self.quantiles.items()}


@dataclass(frozen=True, slots=True)
class ClassObservation:
    """One leaf class in one tick of `seconds`. Counters are differences over the tick, from the kernel.

    `offered` is the arrival rate in bit/s before the queue: served + change of backlog + drops x mean size.
    `inelastic` is the part of it that is not TCP, where the capture could tell (else None).
    `envelope` maps tau in seconds to the most inelastic bytes that arrived in any window of tau.
    `delay` is None where nothing was measured: no data, never zero.
    """

    path: str
    seconds: float
    sent_bytes: int
    sent_packets: int
    dropped_packets: int
    backlog_bytes: int
    offered: float
    inelastic: float | None = None
    envelope: Mapping[float, int] = field(default_factory=dict)
    delay: DelayView | None = None


@dataclass(frozen=True, slots=True)
class CaptureHealth:
    """How far the captured packets can be trusted: counts over the tick, or since the start in a status.

    `audited` frames were decoded a second time by scapy, `misclassified` of them came out in another class;
    `super_packets` were longer than a frame and could not be matched; `reason` says why the capture is not trusted.
    `rung` is what measures, of one packet in `sampling`, in a share of the time, `listening`; `lacking` says why
    nothing better does.
    """

    running: bool
    captured: int = 0
    capture_drops: int = 0
    matched: int = 0
    ambiguous: int = 0
    undecoded: int = 0
    super_packets: int = 0
    audited: int = 0
    misclassified: int = 0
    reason: str = ""
    rung: Rung = Rung.COUNTERS
    lacking: str = ""
    sampling: int = 1
    listening: float = 1.0

    @property
    def drop_ratio(self) -> float:
        """Frames that the capture itself lost, of all it should have seen."""
        total = self.captured + self.capture_drops
        return self.capture_drops / total if total else 0.0

    @property
    def trusted(self) -> bool:
        """More than 0.1 % lost by the capture, and no decision is made by delay."""
        return self.running and self.drop_ratio <= 0.001


@dataclass(frozen=True, slots=True)
class Observation:
    """One tick of one interface. `fresh` is false when the counters could not be read."""

    seconds: float
    classes: Mapping[str, ClassObservation]
    capture: CaptureHealth
    unshaped_packets: int = 0
    fresh: bool = True
