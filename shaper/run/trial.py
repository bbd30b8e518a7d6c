"""What was measured before a change and after it, for the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collectors.histogram import DelayHistogram
from shaper.run.observe import Observer
from shaper.sla.verdict import QUANTILE, Period, Verdict, compare

_SPAN = 60.0
"""Seconds between marks; what counts as before the change is one to two of them, less where the run is younger."""

_LOSSY = 0.001
"""A capture that lost more than this of the frames itself is believed in nothing about delay."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The account of an interface since its run began, at one moment. Delays, sent and dropped packets by class."""

    at: float
    classes: Mapping[str, tuple[DelayHistogram, int, int]]
    captured: int
    lost_by_capture: int


class Trial:
    """Of one interface: keeps two marks all the time, and the periods once a change is on trial."""

    def __init__(self) -> None:
        self._marks: list[Mark] = []
        self._before: dict[str, Period] | None = None
        self._begun: Mark | None = None
        self._trusted = True

    def tick(self, observer: Observer, *, now: float) -> None:
        """Keeps the marks young."""
        if not self._marks or now - self._marks[-1].at >= _SPAN:
            self._marks = [*self._marks[-1:], mark(observer, now=now)]

    def closes(self, observer: Observer, *, now: float) -> None:
        """The last moment before the change."""
        latest = mark(observer, now=now)
        first = self._marks[0] if self._marks else latest
        self._before, self._trusted = _periods(first, latest), _trusted(first, latest)

    def begins(self, observer: Observer, *, now: float) -> None:
        """The first moment after the change."""
        self._begun = mark(observer, now=now)

    def verdict(self, observer: Observer, *, now: float, spare: frozenset[str]) -> Verdict:
        """On everything since the change. Where nothing is known of before there is nothing to compare with."""
        if self._before is None or self._begun is None:
            return Verdict(("the shaper was started again meanwhile, so nothing is known of before the change",), 0, 0)
        latest = mark(observer, now=now)
        if not (self._trusted and _trusted(self._begun, latest)):
            return Verdict(("the capture itself lost too much to be believed",), 0, 0)
        return compare(self._before, _periods(self._begun, latest), spare=spare)

    def anew(self) -> None:
        """Another policy came: what was measured under the one before it is no ground for a comparison."""
        self._marks = []

    def ended(self) -> None:
        """Decided: what comes now is measured anew."""
        self._marks, self._before, self._begun = [], None, None


def mark(observer: Observer, *, now: float) -> Mark:
    """The account as it stands."""
    health = observer.health
    return Mark(now, observer.account(), health.captured, health.capture_drops)


def _periods(first: Mark, last: Mark) -> dict[str, Period]:
    periods = {}
    for path, (delays, sent, dropped) in last.classes.items():
        old, old_sent, old_dropped = first.classes.get(path, (DelayHistogram(), 0, 0))
        seen = delays.since(old)
        delay = seen.quantile(QUANTILE) if seen.count else None
        periods[path] = Period(seen.count, delay, max(0, sent - old_sent), max(0, dropped - old_dropped))
    return periods


def _trusted(first: Mark, last: Mark) -> bool:
    lost, captured = last.lost_by_capture - first.lost_by_capture, last.captured - first.captured
    return lost <= _LOSSY * (lost + captured)
