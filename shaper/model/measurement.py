"""What one measurement found, without anything being controlled: the object behind `shaper measure`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shaper.model.observation import CaptureHealth, DelayView
from shaper.model.policy import Direction, place_text
from shaper.model.tcp import TcpView
from shaper.stats import Availability


@dataclass(frozen=True, slots=True)
class Loss:
    """`lost` of `offered` packets, and the ratio. `low` and `high` are of a sample only: a full count has no interval.

    `source` is "counters" (the kernel's own, of all packets) or "packets" (those that were seen before the queue).
    """

    lost: int
    offered: int
    source: str
    low: float | None = None
    high: float | None = None

    @property
    def ratio(self) -> float:
        return self.lost / self.offered if self.offered else 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """How a call through the class sounds by the E-model: `playout` (s) is the wait its jitter buffer makes up for."""

    mos: float
    rating: float
    codec: str
    playout: float
    lost: float


@dataclass(frozen=True, slots=True)
class Flow:
    """One that sent much: at least `bytes`, and `error` more at most."""

    flow: str
    bytes: int
    packets: int
    error: int


@dataclass(frozen=True, slots=True)
class ClassMeasure:
    """One class. Delays in s, rates in bit/s: `throughput` is what left, `offered` what came. None is not measured.

    `mean` is of all delays. `ipdv` maps percentiles to the difference (s) of consecutive packets' delays without its
    sign. `dispersion` and `peaks` say how bursty arrivals were: variance over mean of counts, and the most that came in
    a window of so many s of what is not TCP, over its mean rate. `occupancy` is the mean share of the queue's limit
    that was full.
    """

    path: str
    throughput: float | None = None
    offered: float | None = None
    loss: Loss | None = None
    delay: DelayView | None = None
    mean: float | None = None
    ipdv: Mapping[float, float] = field(default_factory=dict)
    dispersion: float | None = None
    peaks: Mapping[float, float] = field(default_factory=dict)
    occupancy: float | None = None
    in_flight: int = 0
    call: Call | None = None
    availability: Availability | None = None
    flows: tuple[Flow, ...] = ()
    tcp: TcpView | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One direction of a device, or a pair of recordings, over `seconds`.

    `source` is "capture" (packets captured for this), "run" (what a running shaper measured), "counters" (nothing but
    those), or "file". `files` were written.
    """

    interface: str
    device: str
    direction: Direction
    source: str
    seconds: float
    sampling: int
    classes: tuple[ClassMeasure, ...]
    capture: CaptureHealth
    files: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """For people."""
        return place_text(self.device, self.direction)
