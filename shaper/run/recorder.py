"""The account of one measurement: windows of captured packets in, what they say of each class out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from collectors.batches import Batches
from collectors.histogram import DelayHistogram
from collectors.hitters import Hitter
from collectors.sample import CaptureWindow, ClassWindow
from shaper.model.measurement import Call, ClassMeasure, Flow, Loss
from shaper.model.observation import CaptureHealth, DelayView
from shaper.model.sla import MosTarget, Sla
from shaper.run.views import clustered_ends, percentiles_of
from shaper.stats import (
    CODECS,
    PLAYOUTS,
    clustered_wilson,
    consecutive,
    design_effect,
    dispersion,
    peak_to_mean,
    ranks,
    voice,
    wilson,
)

CODEC = "g711-plc"
"""Of a call through a class whose SLA names none."""

_WIDTH = 0.005
_VOICE = frozenset(("telephony", "voice-admit"))
_FEW = 20
COUNTS = (
    "captured",
    "capture_drops",
    "matched",
    "ambiguous",
    "undecoded",
    "super_packets",
    "audited",
    "misclassified",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked about a class: its targets, and the service class whose calls are judged."""

    sla: Sla = field(default_factory=Sla)
    service: str = ""

    @property
    def call(self) -> MosTarget | None:
        """Whose score is told: that of the SLA's, or a usual one where the class carries calls."""
        return self.sla.mos or (MosTarget(4.0, CODEC) if self.service in _VOICE else None)


@dataclass(slots=True)
class _Class:
    delays: DelayHistogram = field(default_factory=lambda: DelayHistogram(width=_WIDTH))
    steps: DelayHistogram = field(default_factory=lambda: DelayHistogram(width=_WIDTH))
    newest: float | None = None
    arrived: int = 0
    bytes: int = 0
    inelastic: int = 0
    lost: int = 0
    in_flight: int = 0
    counts: list[int] = field(default_factory=list)
    envelope: dict[float, int] = field(default_factory=dict)
    batches: Batches | None = None


class Recorder:
    """Windows of one capture, by classid."""

    def __init__(self, paths: Mapping[int, str], wanted: Mapping[str, Wanted]) -> None:
        self._paths = paths
        self._wanted = wanted
        self._classes = {classid: _Class() for classid in paths}
        self._seconds = 0.0
        self._sampling = 1
        self.health = CaptureHealth(running=True)

    def add(self, window: CaptureWindow) -> None:
        """One more. Where the capture itself lost frames, loss is not told: what is missing proves nothing."""
        self._seconds += window.seconds
        self._sampling = max(self._sampling, window.sampling)
        matched = sum(one.matched for one in window.classes.values())
        counts = {name: getattr(window, name) for name in COUNTS if name != "matched"}
        counts["matched"] = matched
        self.health = replace(
            self.health, **{name: getattr(self.health, name) + count for name, count in counts.items()}
        )
        for classid, one in self._classes.items():
            self._take(one, window.classes.get(classid, ClassWindow()), window)
            one.in_flight = window.in_flight.get(classid, 0)

    def _take(self, one: _Class, seen: ClassWindow, window: CaptureWindow) -> None:
        one.delays.add(seen.delays)
        if seen.slices:
            one.batches = one.batches or Batches()
            one.batches.add(seen.delays, seen.slices, like=one.delays)
        if seen.delays:
            before = () if one.newest is None else (one.newest,)
            one.steps.add(abs(step) for step in consecutive((*before, *seen.delays)))
            one.newest = seen.delays[-1]
        one.arrived += seen.arrived_packets
        one.bytes += seen.arrived_bytes
        one.inelastic += seen.inelastic_bytes
        one.lost += seen.lost
        if window.seconds > 0:
            one.counts.append(seen.arrived_packets)
        for tau, most in seen.envelope.items():
            one.envelope[tau] = max(one.envelope.get(tau, 0), most)

    @property
    def sampling(self) -> int:
        """One packet in so many was looked at, or the most there was."""
        return self._sampling

    def measures(
        self, hitters: Callable[[int], Sequence[Hitter]] | None = None, *, source: str = "capture"
    ) -> tuple[ClassMeasure, ...]:
        """Of every class; loss and rates by the packets that were seen, those lost of mean size."""
        return tuple(self._measure(classid, one, hitters, source) for classid, one in self._classes.items())

    def _measure(
        self, classid: int, one: _Class, hitters: Callable[[int], Sequence[Hitter]] | None, source: str
    ) -> ClassMeasure:
        path = self._paths[classid]
        wanted = self._wanted.get(path, Wanted())
        judged = one.lost + one.delays.count
        loss = None
        if judged and not self.health.capture_drops:
            loss = Loss(one.lost, judged, "packets", *self._between(one, judged))
        offered = one.bytes * 8 / self._seconds if self._seconds > 0 and self._sampling == 1 else None
        coverage = one.delays.count / (one.arrived - one.lost) if one.arrived > one.lost else None
        delay = histogram_view(
            one.delays,
            wanted.sla,
            window=self._seconds,
            sampling=self._sampling,
            source=source,
            coverage=coverage,
            ends=_ends(one, wanted.sla),
        )
        return ClassMeasure(
            path=path,
            throughput=None if offered is None else offered * (1 - (loss.ratio if loss else 0.0)),
            offered=offered,
            loss=loss,
            delay=delay,
            mean=one.delays.sum / one.delays.count if one.delays.count else None,
            ipdv=_quantiles(one.steps, (0.5, 0.95, 0.99)) if self._sampling == 1 else {},
            dispersion=dispersion(one.counts) if self._sampling == 1 else None,
            peaks=peak_to_mean(one.envelope, one.inelastic * 8 / self._seconds) if offered is not None else {},
            in_flight=one.in_flight,
            call=call(wanted, delay, loss),
            flows=tuple(Flow(each.flow, each.bytes, each.packets, each.error) for each in hitters(classid))
            if hitters
            else (),
        )

    def _between(self, one: _Class, judged: int) -> tuple[float, float] | tuple[None, None]:
        """The interval of its loss ratio, if it has one."""
        if one.batches is None:
            return wilson(one.lost, judged) if self._sampling > 1 else (None, None)
        middle = design_effect(one.batches.delays(one.delays, 0.5)) if one.delays.count else None
        return clustered_wilson(one.batches.losses(one.lost, judged), effect=middle) or (None, None)


def _ends(one: _Class, sla: Sla) -> Mapping[float, tuple[int, int]] | None:
    """Of what was seen in slices of time, None of anything else."""
    if one.batches is None or not one.delays.count:
        return None
    return clustered_ends({q: one.batches.delays(one.delays, q) for q in percentiles_of(sla)})


def histogram_view(
    delays: DelayHistogram,
    sla: Sla,
    *,
    window: float,
    sampling: int,
    source: str,
    coverage: float | None,
    ends: Mapping[float, tuple[int, int]] | None = None,
) -> DelayView | None:
    """The view of a histogram, None of an empty one. The ranks of the intervals' `ends` are given of slices of time."""
    if not delays.count:
        return None
    percentiles = percentiles_of(sla)
    if ends is None:
        ends = {q: ranks(delays.count, q) for q in percentiles} if sampling > 1 else {}
    return DelayView(
        delays.count,
        window,
        _quantiles(delays, percentiles),
        {at: delays.count_above(at) / delays.count for at in PLAYOUTS},
        delays.largest,
        least=delays.quantile(0.0),
        source=source,
        sampling=sampling,
        coverage=None if coverage is None else min(1.0, coverage),
        low={q: delays.quantile(low / delays.count) for q, (low, _) in ends.items() if low >= 1},
        high={q: delays.quantile(high / delays.count) for q, (_, high) in ends.items() if high <= delays.count},
    )


def call(wanted: Wanted, delay: DelayView | None, loss: Loss | None) -> Call | None:
    """How a call sounds, of classes that carry calls; None of too few packets."""
    target = wanted.call
    if target is None or delay is None or delay.count < _FEW:
        return None
    late = {at: share for at, share in delay.late.items() if at in PLAYOUTS}
    heard = voice(late, loss.ratio if loss else 0.0, CODECS[target.codec], path=target.path)
    return None if heard is None else Call(heard.mos, heard.rating, target.codec, heard.playout, heard.lost)


def _quantiles(delays: DelayHistogram, percentiles: Sequence[float]) -> dict[float, float]:
    return {q: delays.quantile(q) for q in percentiles} if delays.count else {}
