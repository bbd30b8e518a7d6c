"""From a probe's outcomes to what is said of a class: counts, windows, and its SLA where it has no own traffic."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from collectors.histogram import DelayHistogram, SlidingDelays
from collectors.probe.log import Outcome
from collectors.probe.summary import ipdv
from shaper.model.observation import DelayView
from shaper.model.policy import TrafficClass
from shaper.model.probe import Probe
from shaper.model.sla import SlaResult, SlaState, TargetResult
from shaper.model.status import Histogram, ProbeStatus
from shaper.run.views import REPORTED, delay_view, ipdv_of, percentiles_of, thresholds_of
from shaper.sla import evaluate
from shaper.stats.availability import availability

_LEAST_SECONDS, _MOST_SECONDS = 5.0, 60.0
_PACKETS = 25
"""The window holds so many packets where that takes no longer than the most seconds."""

_FEW = 2
"""Packets of a class that do not count as traffic: those that were counted between two looks."""

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SECOND = 1.0
_SECONDS_KEPT = 3600


class Findings:
    """What one probe of a class has found. Outcomes come in the order of sending."""

    def __init__(self, cls: TrafficClass, probe: Probe) -> None:
        self._cls = cls
        self._probe = probe
        self._window: deque[Outcome] = deque()
        self._trips, self._waits = DelayHistogram(), DelayHistogram()
        self._seconds: deque[tuple[int, int]] = deque(maxlen=_SECONDS_KEPT)
        self._second: tuple[int, int, int] | None = None  # its number, sent, lost
        self._status = ProbeStatus(probe.kind, probe.to, probe.port, probe.dscp)

    def regard(self, cls: TrafficClass) -> None:
        """The class has other targets by now, and the same probe."""
        self._cls = cls

    @property
    def reach(self) -> float:
        """Seconds that the window reaches back."""
        return min(_MOST_SECONDS, max(_LEAST_SECONDS, _PACKETS * self._probe.interval))

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """What was settled since the last call."""
        for one in outcomes:
            self._window.append(one)
            self._trips.add([one.round_trip] if one.round_trip is not None else [])
            self._waits.add([one.waited] if one.waited is not None else [])
            self._count(one)
            now = self._status
            self._status = replace(
                now,
                sent=now.sent + 1,
                lost=now.lost + one.lost,
                dropped=now.dropped + one.dropped,
                duplicates=now.duplicates + max(0, one.copies - 1),
                reordered=now.reordered + one.reordered,
            )

    def _count(self, one: Outcome) -> None:
        number = int(one.at / _SECOND)
        if self._second is not None and self._second[0] == number:
            _, sent, lost = self._second
            self._second = (number, sent + 1, lost + one.lost)
            return
        if self._second is not None:
            self._seconds.append(self._second[1:])
            if number > self._second[0] + 1:
                self._seconds.append((0, 0))  # nothing was sent in between
        self._second = (number, 1, int(one.lost))

    def status(self, *, now: float, resting: bool, says: str) -> ProbeStatus:
        """As it stands at boot time `now`."""
        while self._window and self._window[0].at < now - self.reach:
            self._window.popleft()
        sent = len(self._window)
        sla = self._cls.sla
        thresholds = thresholds_of(sla)
        each_second = availability(self._seconds if self._probe.interval <= _SECOND else ())
        bounds = tuple(sorted({*_BUCKETS, *thresholds}))
        return replace(
            self._status,
            resting=resting,
            says=says,
            loss=sum(one.lost for one in self._window) / sent if sent else None,
            round_trip=_view(((one.sequence, one.round_trip) for one in self._window), self.reach, REPORTED, ()),
            waited=_view(
                ((one.sequence, one.waited) for one in self._window), self.reach, percentiles_of(sla), thresholds
            ),
            round_trips=_histogram(self._trips, _BUCKETS),
            waits=_histogram(self._waits, bounds),
            available=each_second.available,
            unavailable=each_second.unavailable,
        )

    def judged(self, status: ProbeStatus) -> SlaResult | None:
        """The class's SLA by its probe alone: the wait in this hop's queue, and drops in it. None where it has none.

        A throughput is not to be had from probes: that target stays without data.
        """
        sla = self._cls.sla
        if not sla:
            return None
        dropped = sum(one.dropped for one in self._window)
        offered = dropped + (status.waited.count if status.waited else 0)
        found = evaluate(
            replace(sla, throughput=None),
            path=self._cls.path,
            delay=status.waited,
            offered_packets=offered,
            dropped_packets=dropped,
            throughput=0.0,
            waiting=None,
        )
        if sla.throughput is None:
            return found
        silent = TargetResult("throughput", sla.throughput, None, 0, SlaState.NO_DATA)
        state = SlaState.MISSED if found.state is SlaState.MISSED else SlaState.NO_DATA
        return SlaResult(found.path, state, (*found.targets, silent))


class OwnTraffic:
    """Whether anything but probes passed a class, by the kernel's count of packets and the probe's of its own.

    With `connections` the probe's own count is a packet or two off for each.
    """

    def __init__(self, *, connections: bool) -> None:
        self._connections = connections
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, *, passed: int, probes: int) -> None:
        """Packets that came to the class, and probes sent, both since some beginning, at boot time `now`."""
        if self._seen and passed < self._seen[-1][1]:
            self._seen.clear()  # somebody made the class anew
        self._seen.append((now, passed, probes))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _LEAST_SECONDS:
            self._seen.popleft()

    @property
    def idle(self) -> bool:
        """Over the last seconds; not before there are two counts to compare."""
        if len(self._seen) < 2:
            return False
        (_, passed, probes), (_, passed_now, probes_now) = self._seen[0], self._seen[-1]
        sent = probes_now - probes
        return passed_now - passed - sent <= _FEW * (1 + (sent if self._connections else 0))


def _view(
    delays: Iterable[tuple[int, float | None]], reach: float, percentiles: Sequence[float], thresholds: Sequence[float]
) -> DelayView | None:
    series = [(number, delay) for number, delay in delays if delay is not None]
    known = [delay for _, delay in series]
    sliding = SlidingDelays(least=len(known), seconds=reach)
    sliding.add(0.0, known, seconds=reach)
    view = delay_view(sliding, percentiles, thresholds, sampling=1, coverage=None)
    return None if view is None else replace(view, source="probe", ipdv=ipdv_of(ipdv(series), percentiles))


def _histogram(delays: DelayHistogram, bounds: Sequence[float]) -> Histogram:
    counts = tuple(delays.count - delays.count_above(bound) for bound in bounds)
    return Histogram(tuple(bounds), counts, delays.count, delays.sum)
