"""Times at which a policy's numbers are others: periods of the week by the clock of a time zone, and when they change.

A period holds whenever the clocks of its zone show a time inside it. So on the day on which they are put forward it is
shorter, or does not come at all; when they are put back, what it takes of the hour that comes twice comes twice, too.
Instants are Unix time in seconds. Nothing here asks what time it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import product

from shaper.errors import Where

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 86400
WEEK = 7 * DAY
_HORIZON = 16
"""Days in which every period comes or goes, also one of a weekly hour that the clocks skip once."""

Phase = tuple[str, ...]
"""The periods that hold together, by their paths; of those at one place the first."""


@dataclass(frozen=True, slots=True)
class Period:
    """`days` are those on which it begins, Monday 0; from second `begin` of the day to before `end`, which lies on the
    next day where it is beyond 86400. `path` is its place in the policy, `of` the name of what it is about."""

    path: str
    of: str
    days: frozenset[int]
    begin: int
    end: int
    zone: tzinfo
    zone_name: str
    where: Where

    def holds(self, second: int) -> bool:
        """Whether it holds at a second of the week, by its zone's clock."""
        day, second = divmod(second, DAY)
        return (day in self.days and self.begin <= second < self.end) or (
            (day - 1) % 7 in self.days and second + DAY < self.end
        )

    def edges(self) -> Iterator[int]:
        """The seconds of the week at which it begins or ends."""
        for day in self.days:
            yield (day * DAY + self.begin) % WEEK
            yield (day * DAY + self.end) % WEEK

    @property
    def hours(self) -> str:
        """When it is, for people."""
        end = self.end if self.end <= DAY else self.end - DAY
        hours = "" if (self.begin, self.end) == (0, DAY) else f" {_clock(self.begin)}-{_clock(end)}"
        return f"{_days(self.days)}{hours} {self.zone_name}"


@dataclass(frozen=True, slots=True)
class Timetable:
    """Places of a policy whose numbers are others at times; each has periods, of which the first that holds counts."""

    places: tuple[tuple[Period, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.places)

    def periods(self) -> Iterator[Period]:
        """All of them, in the policy's order."""
        for periods in self.places:
            yield from periods

    def phase(self, at: float) -> Phase:
        """What holds at an instant."""
        seconds = {zone: _second_of_week(at, zone) for zone in self._zones()}
        return self._first(period for period in self.periods() if period.holds(seconds[period.zone]))

    def phases(self) -> Iterator[Phase]:
        """Everything that can hold together, some of it repeatedly.

        Of different zones anything may meet: governments move their clocks.
        """
        yield from map(self._first, map(_joined, product(*map(self._together, self._zones()))))

    def next_change(self, at: float) -> float | None:
        """The first instant after `at` from which something else holds; None where nothing ever changes."""
        now = self.phase(at)
        for begin in (at + number * DAY for number in range(_HORIZON)):
            edges = {edge for zone in self._zones() for edge in self._edges(zone, begin)}
            for edge in sorted(edges):
                if begin < edge <= begin + DAY and self.phase(edge) != now:
                    return edge
        return None

    def words(self, phase: Phase) -> str:
        """What holds, for people."""
        holding, named = frozenset(phase), dict[str, list[str]]()
        for period in self.periods():
            if period.path in holding:
                named.setdefault(period.hours, []).append(period.of)
        return ", ".join(f"{_some(names)} {hours}" for hours, names in named.items()) or "outside every period"

    def local(self, at: float) -> str:
        """An instant by the clock of the first period's zone, such as `Mon 2026-11-23 08:00 CET`."""
        return datetime.fromtimestamp(math.floor(at), self.zone).strftime("%a %Y-%m-%d %H:%M %Z")

    @property
    def zone(self) -> tzinfo:
        """That of the first period: in which people are told of time."""
        return next((period.zone for period in self.periods()), UTC)

    def _zones(self) -> list[tzinfo]:
        return list(dict.fromkeys(period.zone for period in self.periods()))

    def _first(self, holding: Iterable[Period]) -> Phase:
        paths = {period.path for period in holding}
        first = (next((each.path for each in periods if each.path in paths), "") for periods in self.places)
        return tuple(path for path in first if path)

    def _together(self, zone: tzinfo) -> set[frozenset[Period]]:
        """The sets of one zone's periods that hold at the same time."""
        alike: dict[tuple[frozenset[int], int, int], list[Period]] = {}
        for period in self.periods():
            if period.zone is zone:
                alike.setdefault((period.days, period.begin, period.end), []).append(period)
        firsts = [periods[0] for periods in alike.values()]
        edges = {0, *(edge for period in firsts for edge in period.edges())}
        found = {tuple(period.holds(edge) for period in firsts) for edge in edges}
        return {
            frozenset(
                period for holds, periods in zip(each, alike.values(), strict=True) if holds for period in periods
            )
            for each in found
        }

    def _edges(self, zone: tzinfo, begin: float) -> Iterator[float]:
        """The instants of the day from `begin`, and some more, at which what the zone's clock shows may begin or end.

        Those are the hours of its periods, each twice in case it comes twice, and the clocks being set.
        """
        seconds = {edge % DAY for period in self.periods() if period.zone is zone for edge in period.edges()}
        today = datetime.fromtimestamp(math.floor(begin), zone).date()
        for day in (today + timedelta(days=number) for number in (-1, 0, 1, 2)):
            for second in seconds:
                shown = datetime.combine(day, datetime.min.time(), zone) + timedelta(seconds=second)
                yield from (shown.replace(fold=fold).timestamp() for fold in (0, 1))
        yield from _clocks_set(zone, math.floor(begin))


def _second_of_week(at: float, zone: tzinfo) -> int:
    shown = datetime.fromtimestamp(math.floor(at), zone)
    return shown.weekday() * DAY + shown.hour * 3600 + shown.minute * 60 + shown.second


def _clocks_set(zone: tzinfo, begin: int) -> Iterator[float]:
    """The instant within a day from `begin` at which the zone's clocks are put forward or back."""
    low, high, before = begin, begin + DAY + 1, _offset(zone, begin)
    if _offset(zone, high) == before:
        return
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    yield float(high)


def _offset(zone: tzinfo, at: int) -> timedelta | None:
    return datetime.fromtimestamp(at, zone).utcoffset()


def _joined(sets: Iterable[frozenset[Period]]) -> frozenset[Period]:
    return frozenset().union(*sets)


def _some(names: list[str]) -> str:
    """`backup`, `backup and mail`, `backup, mail and 498 more`."""
    shown = [*names[:2], f"{len(names) - 2} more"] if len(names) > 3 else names
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]


def _clock(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}" + (f":{second % 60:02}" if second % 60 else "")


def _days(days: frozenset[int]) -> str:
    """`mon-fri`, `sat, sun`, `daily`."""
    if len(days) == 7:
        return "daily"
    starts = sorted(day for day in days if (day - 1) % 7 not in days)
    runs = []
    for start in starts:
        length = next(number for number in range(1, 8) if (start + number) % 7 not in days)
        last = (start + length - 1) % 7
        run = [DAYS[start]] if length == 1 else [f"{DAYS[start]}-{DAYS[last]}"] if length > 2 else []
        runs += run or [DAYS[start], DAYS[last]]
    return ", ".join(runs)
