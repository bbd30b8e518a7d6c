"""From counters and captured packets to what the controller reads: differences, windows, health, totals."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace

from collectors.histogram import DelayHistogram, SlidingDelays, SlidingHistogram
from collectors.sample import CaptureWindow, ClassWindow
from shaper.compile.program import Program
from shaper.kernel.protocol import ClassCounters, DeviceCounters
from shaper.model.decision import Allocation
from shaper.model.observation import CaptureHealth, ClassObservation, DelayView, Observation, Rung
from shaper.model.policy import TrafficClass
from shaper.model.sla import SlaResult
from shaper.model.status import Borrowing, ClassStatus, ClassTotals, Histogram
from shaper.run.borrowing import added, borrowed
from shaper.run.bursts import burst
from shaper.run.policed import policed
from shaper.run.seconds import EachSecond
from shaper.run.views import delay_view, ipdv_of, percentiles_of, thresholds_of, with_intervals
from shaper.sla import Waited, evaluate, waited
from shaper.stats import consecutive

SLA_WINDOW = 5.0
"""Seconds over which loss and throughput are judged, the same that delay reaches back to."""

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_HEALTH_COUNTS = (
    "captured", "capture_drops", "matched", "ambiguous", "undecoded", "super_packets", "audited", "misclassified"
)  # fmt: skip
_EXACT = 1e-6
_NOTHING = ClassCounters(0, 0, 0, 0, 0, 0)
_ROUND = 1 << 32


@dataclass(slots=True)
class _Leaf:
    """What is remembered of one leaf class. `whole_since` (boot time) no packet has been left out."""

    cls: TrafficClass
    first: ClassCounters
    last: ClassCounters
    percentiles: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    sliding: SlidingDelays = field(default_factory=SlidingDelays)
    counted: SlidingHistogram = field(default_factory=SlidingHistogram)
    delays: DelayHistogram = field(default_factory=DelayHistogram)
    sliced: int = 0  # so many of them are of slices of time
    recent: deque[ClassObservation] = field(default_factory=deque)
    waited: Waited = field(default_factory=Waited)
    borrowing: Borrowing | None = None
    each_second: EachSecond = field(default_factory=EachSecond)
    arrivals: int = 0
    lost: int | None = 0  # None once losses were not told of all that is counted as arrived
    in_flight: int = 0
    view: DelayView | None = None
    newest: SlidingDelays | SlidingHistogram = field(default_factory=SlidingDelays)  # what the view is of
    whole_since: float = -math.inf

    def regard(self, current: ClassCounters) -> None:
        """Where counters have begun anew or gone round since the last reading, it is told as these would tell it."""
        last = before = self.last
        if current.sent_bytes < last.sent_bytes:  # somebody made the class anew
            before = _NOTHING
        elif current.drops < last.drops or current.marked < last.marked:
            drops, marked = _before(last.drops, current.drops), _before(last.marked, current.marked)
            before = replace(last, drops=drops, marked=marked)
        if before is not last:
            self.first = replace(
                _NOTHING,
                sent_bytes=self.first.sent_bytes - last.sent_bytes + before.sent_bytes,
                sent_packets=self.first.sent_packets - last.sent_packets + before.sent_packets,
                drops=self.first.drops - last.drops + before.drops,
                marked=self.first.marked - last.marked + before.marked,
            )
            self.last = before

    def take(self, now: float, seen: ClassWindow) -> SlidingDelays | SlidingHistogram:
        """The delays of a tick; gives the window that they are the newest of."""
        if seen.histogram is None:
            self.delays.add(seen.delays)
            self.sliding.add(now, seen.delays, slices=seen.slices)
            self.sliced += sum(each.matched for each in seen.slices)
            return self.sliding
        if not self.delays.count:
            self.delays = seen.histogram.copy()
        elif self.delays.is_like(seen.histogram):
            self.delays.merge(seen.histogram)
        else:  # another rung has taken over
            self.delays.merge(seen.histogram.regrouped(self.delays))
        self.counted.add(now, seen.histogram)
        return self.counted

    @property
    def shown(self) -> DelayView | None:
        """The view with its intervals."""
        return None if self.view is None else with_intervals(self.view, self.newest)


class Observer:
    """Keeps the windows of one interface. `begin` it with the first counters, then one `tick` each time."""

    def __init__(self, program: Program, first: DeviceCounters, *, before: Observer | None = None) -> None:
        """`before` observed the same interface under another policy: classes that stay keep their history."""
        self._program = program
        self._handles = {leaf.path: program.handles[leaf.path] for leaf in program.interface.leaves()}
        self._leaves: dict[str, _Leaf] = {}
        for leaf in program.interface.leaves():
            start = first.classes.get(self._handles[leaf.path], _NOTHING)
            same = before is not None and before.number(leaf.path) == self._handles[leaf.path]
            kept = before.leaf(leaf.path) if before and same else None  # a band may have become another class's
            fresh = kept or _Leaf(leaf, first=start, last=start)
            self._leaves[leaf.path] = replace(
                fresh,
                cls=leaf,
                percentiles=percentiles_of(leaf.sla),
                thresholds=thresholds_of(leaf.sla),
            )
        self._unshaped = first.unshaped
        self._counters = first
        self._health = before.health if before else CaptureHealth(running=False)

    def tick(
        self,
        *,
        now: float,
        seconds: float,
        counters: DeviceCounters | None,
        window: CaptureWindow | None,
        why: str,
        rung: Rung = Rung.CAPTURE,
        lacking: str = "",
    ) -> Observation:
        """One tick of `seconds` that ends at boot time `now`.

        `counters` is None when they could not be read; `window` is None where nothing is measured, and `why` says why.
        `rung` is what measures, `lacking` why nothing better does.
        """
        health = replace(_health(window, why), rung=rung, lacking=lacking)
        self._health = replace(
            health, **{name: getattr(self._health, name) + getattr(health, name) for name in _HEALTH_COUNTS}
        )
        classes: dict[str, ClassObservation] = {}
        for path, leaf in self._leaves.items():
            seen = None
            if window is not None and health.trusted:
                seen = window.classes.get(self._handles[path], ClassWindow())
                flying = window.in_flight.get(self._handles[path], 0)
                self._take(leaf, seen, now=now, in_flight=flying, window=window)
            else:
                # What was measured before the capture broke off says nothing of now; and of what it lost many packets
                # of itself, nobody knows how long those waited.
                leaf.view, leaf.whole_since = None, now
            current = counters.classes.get(self._handles[path], leaf.last) if counters else leaf.last
            leaf.regard(current)
            one = _difference(path, leaf.last, current, seconds)
            if seen is not None and window is not None and window.arrivals_complete and window.seconds > 0:
                one = replace(one, inelastic=seen.inelastic_bytes * 8 / window.seconds, envelope=seen.envelope)
            one = replace(one, delay=leaf.view)
            leaf.borrowing = added(leaf.borrowing, borrowed(leaf.last, current))
            leaf.last = current
            leaf.each_second.add(now, seconds, offered=one.sent_packets + one.dropped_packets, lost=one.dropped_packets)
            leaf.recent.append(one)
            leaf.waited += waited(tuple(leaf.recent)[-3:])
            while len(leaf.recent) > 1 and sum(each.seconds for each in leaf.recent) > SLA_WINDOW:
                leaf.recent.popleft()
            classes[path] = one
        unshaped = 0
        if counters is not None:
            before, self._unshaped = self._unshaped, counters.unshaped
            self._counters = counters
            unshaped = max(0, counters.unshaped - before)
        return Observation(seconds, classes, health, unshaped, fresh=counters is not None)

    def statuses(self, allocation: Allocation) -> tuple[ClassStatus, ...]:
        """Every leaf class as it stands, with the SLA judged over the last seconds."""
        return tuple(self._status(leaf, allocation) for leaf in self._leaves.values())

    def passed(self) -> dict[str, int]:
        """The packets that came to every leaf class since the start, sent or dropped."""
        return {
            path: leaf.last.sent_packets - leaf.first.sent_packets + leaf.last.drops - leaf.first.drops
            for path, leaf in self._leaves.items()
        }

    @property
    def health(self) -> CaptureHealth:
        """The capture since the start, its counts summed."""
        return self._health

    def totals(self) -> tuple[ClassTotals, ...]:
        """Every leaf class since the start, by both accounts."""
        measured = self._health.running
        return tuple(
            ClassTotals(
                path=path,
                samples=leaf.delays.count,
                quantiles={q: leaf.delays.quantile(q) for q in leaf.percentiles} if leaf.delays.count else {},
                sent_bytes=leaf.last.sent_bytes - leaf.first.sent_bytes,
                sent_packets=leaf.last.sent_packets - leaf.first.sent_packets,
                kernel_drops=leaf.last.drops - leaf.first.drops,
                arrivals=leaf.arrivals if measured else None,
                lost=leaf.lost if measured else None,
                in_flight=leaf.in_flight,
            )
            for path, leaf in self._leaves.items()
        )

    def account(self) -> dict[str, tuple[DelayHistogram, int, int]]:
        """Delays, sent and dropped packets of every leaf class since the start."""
        return {
            path: (
                leaf.delays.copy(),
                leaf.last.sent_packets - leaf.first.sent_packets,
                leaf.last.drops - leaf.first.drops,
            )
            for path, leaf in self._leaves.items()
        }

    def delays(self) -> dict[str, DelayHistogram]:
        """The delays of every leaf class since the start."""
        return {path: leaf.delays for path, leaf in self._leaves.items()}

    def sliced(self) -> dict[str, int]:
        """How many of them are of slices of time."""
        return {path: leaf.sliced for path, leaf in self._leaves.items()}

    def waited(self) -> dict[str, Waited]:
        """When every leaf class wanted more than it got, since the start, as far as that is known by now."""
        return {path: leaf.waited for path, leaf in self._leaves.items()}

    def leaf(self, path: str) -> _Leaf | None:
        """What is remembered of a class, for the observer that follows."""
        return self._leaves.get(path)

    def number(self, path: str) -> int | None:
        """The class handle whose counters are a class's."""
        return self._handles.get(path)

    def _take(self, leaf: _Leaf, seen: ClassWindow, *, now: float, in_flight: int, window: CaptureWindow) -> None:
        leaf.arrivals += seen.arrived_packets if seen.taken is None else seen.taken
        leaf.lost = leaf.lost + seen.lost if leaf.lost is not None and window.losses_complete else None
        leaf.in_flight = in_flight
        leaf.newest = sliding = leaf.take(now, seen)
        sent = leaf.last.sent_packets - leaf.first.sent_packets
        coverage = min(1.0, leaf.delays.count / sent) if sent > 0 else None
        leaf.view = delay_view(
            sliding,
            leaf.percentiles,
            leaf.thresholds,
            sampling=window.sampling,
            coverage=coverage,
            source=window.source,
        )
        if window.sampling > 1 or window.listening < 1:
            leaf.whole_since = now
        # The kernel's histogram does not know which packet followed which.
        if leaf.view is not None and sliding is leaf.sliding and now - leaf.view.window > leaf.whole_since - _EXACT:
            steps = consecutive(leaf.sliding.in_order())
            leaf.view = replace(leaf.view, ipdv=ipdv_of(steps, leaf.percentiles))

    def _status(self, leaf: _Leaf, allocation: Allocation) -> ClassStatus:
        path = leaf.cls.path
        seconds = sum(each.seconds for each in leaf.recent) or 1.0
        sent = sum(each.sent_packets for each in leaf.recent)
        dropped = sum(each.dropped_packets for each in leaf.recent)
        throughput = sum(each.sent_bytes for each in leaf.recent) * 8 / seconds
        bounds = sorted({*_BUCKETS, *leaf.thresholds})
        return ClassStatus(
            path=path,
            tier=leaf.cls.tier,
            granted=allocation[path],
            bounds=self._program.bounds[path],
            guarantee=leaf.cls.guarantee,
            sent_bytes=leaf.last.sent_bytes - leaf.first.sent_bytes,
            sent_packets=leaf.last.sent_packets - leaf.first.sent_packets,
            dropped_packets=leaf.last.drops - leaf.first.drops,
            marked_packets=leaf.last.marked - leaf.first.marked,
            backlog_bytes=leaf.last.backlog_bytes,
            waiting_seconds=leaf.waited.seconds,
            waiting_bytes=leaf.waited.bytes,
            throughput=throughput,
            offered=sum(each.offered * each.seconds for each in leaf.recent) / seconds,
            loss=dropped / (sent + dropped) if sent + dropped else None,
            delay=leaf.shown,
            histogram=Histogram(
                tuple(bounds),
                tuple(leaf.delays.count - leaf.delays.count_above(bound) for bound in bounds),
                leaf.delays.count,
                leaf.delays.sum,
            ),
            measured_lost=leaf.lost if self._health.running else None,
            in_flight=leaf.in_flight,
            policed=policed(self._program, path, self._counters),
            borrowing=leaf.borrowing,
            availability=leaf.each_second.availability,
            burst=burst(leaf.recent),
            sla=self._judge(leaf, sent, dropped, throughput),
        )

    def _judge(self, leaf: _Leaf, sent: int, dropped: int, throughput: float) -> SlaResult | None:
        if not leaf.cls.sla:
            return None
        return evaluate(
            leaf.cls.sla,
            path=leaf.cls.path,
            delay=leaf.view,
            offered_packets=sent + dropped,
            dropped_packets=dropped,
            throughput=throughput,
            waiting=waited(tuple(leaf.recent)).rate,
        )


def _before(last: int, current: int) -> int:
    """What was read last of a counter of a queue, which has 32 bits: below zero where it has gone round since, 0 where
    somebody made the queue anew."""
    if current >= last:
        return last
    return last - _ROUND if current - last + _ROUND < _ROUND // 2 else 0


def _difference(path: str, before: ClassCounters, after: ClassCounters, seconds: float) -> ClassObservation:
    """Counters over one tick. Offered load is what was served, what the backlog grew by, and what was dropped."""
    sent = max(0, after.sent_bytes - before.sent_bytes)
    packets = max(0, after.sent_packets - before.sent_packets)
    drops = max(0, after.drops - before.drops)
    size = sent / packets if packets else (after.backlog_bytes / after.queued_packets if after.queued_packets else 0.0)
    arrived = sent + after.backlog_bytes - before.backlog_bytes + drops * size
    return ClassObservation(
        path=path,
        seconds=seconds,
        sent_bytes=sent,
        sent_packets=packets,
        dropped_packets=drops,
        backlog_bytes=after.backlog_bytes,
        offered=max(0.0, arrived) * 8 / seconds,
    )


def _health(window: CaptureWindow | None, why: str) -> CaptureHealth:
    if window is None:
        return CaptureHealth(running=False, reason=why)
    matched = sum(each.matched for each in window.classes.values())
    health = CaptureHealth(
        running=True,
        captured=window.captured,
        capture_drops=window.capture_drops,
        matched=matched,
        ambiguous=window.ambiguous,
        undecoded=window.undecoded,
        super_packets=window.super_packets,
        audited=window.audited,
        misclassified=window.misclassified,
        sampling=window.sampling,
        listening=window.listening,
    )
    if health.trusted:
        return health
    return replace(health, reason=f"the capture lost {health.drop_ratio:.2%} of the packets itself")
