"""When a schedule's periods hold: by the clocks of its zones, whatever is done to those, and when that changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shaper.errors import Where
from shaper.model.schedule import DAY, Period, Timetable

ZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # half an hour of summer time
    "America/Santiago",  # at midnight
    "Africa/Casablanca",  # around Ramadan
)
MINUTE = 60


def period(path: str, days: frozenset[int], begin: int, end: int, zone: str = "Europe/Paris") -> Period:
    return Period(path, "backup", days, begin, end, ZoneInfo(zone), zone, Where("p.yaml", 1, 1))


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@st.composite
def periods(draw: st.DrawFn, path: str) -> Period:
    begin = draw(st.integers(0, 24 * 60 - 1)) * MINUTE
    end = draw(st.integers(1, 24 * 60)) * MINUTE
    assume(begin != end)
    days = draw(st.frozensets(st.integers(0, 6), min_size=1))
    return period(path, days, begin, end if end > begin else end + DAY, draw(st.sampled_from(ZONES)))


@st.composite
def timetables(draw: st.DrawFn) -> Timetable:
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    places = (tuple(draw(periods(f"{place}.{n}")) for n in range(size)) for place, size in enumerate(sizes))
    return Timetable(tuple(places))


INSTANTS = st.floats(at("2024-01-01T00:00+00:00"), at("2036-01-01T00:00+00:00"))


def shown(one: Period, instant: float) -> bool:
    """Whether the clock on the wall shows a time between its hours, of today or of yesterday."""
    now = datetime.fromtimestamp(int(instant), one.zone).replace(tzinfo=None)
    midnight = now.replace(hour=0, minute=0, second=0)
    for day in (midnight, midnight - timedelta(days=1)):
        if day.weekday() in one.days and day + timedelta(seconds=one.begin) <= now < day + timedelta(seconds=one.end):
            return True
    return False


@given(timetables(), INSTANTS)
def test_of_every_place_the_first_period_holds_that_the_clock_shows(timetable: Timetable, instant: float) -> None:
    first = (next((one.path for one in places if shown(one, instant)), None) for places in timetable.places)
    assert timetable.phase(instant) == tuple(path for path in first if path)


@given(timetables(), INSTANTS, st.lists(st.floats(0, 1), min_size=20, max_size=20))
def test_nothing_changes_before_the_next_change(timetable: Timetable, instant: float, between: list[float]) -> None:
    now, change = timetable.phase(instant), timetable.next_change(instant)
    end = instant + 15 * DAY if change is None else change
    assert end > instant
    for part in between:
        then = instant + part * (end - instant)
        assert then >= end or timetable.phase(then) == now
    if change is not None:
        assert timetable.phase(change) != now
        assert timetable.phase(max(instant, change - 0.001)) == now


@given(timetables(), INSTANTS)
def test_whatever_holds_was_known_to_be_able_to(timetable: Timetable, instant: float) -> None:
    assert timetable.phase(instant) in set(timetable.phases())


@given(timetables(), INSTANTS)
def test_a_week_of_changes_ends(timetable: Timetable, instant: float) -> None:
    """One after the other they go forward, and there are no more than periods begin and end."""
    end, count = instant + 7 * DAY, 0
    while instant < end:
        change = timetable.next_change(instant)
        if change is None:
            break
        assert change > instant
        instant, count = change, count + 1
    # Every edge may come twice where clocks are put back; setting them is an edge of its own.
    assert count <= 2 * sum(2 * len(one.days) + 4 for one in timetable.periods())


EVERY_DAY = frozenset(range(7))
NIGHT = Timetable(((period("night", EVERY_DAY, 2 * 3600 + 15 * 60, 2 * 3600 + 45 * 60),),))
"""02:15 to 02:45: inside the hour that Paris skips in March and has twice in October."""


def changes(timetable: Timetable, start: str, hours: float) -> list[str]:
    instant, end = at(start), at(start) + hours * 3600
    found = []
    while (change := timetable.next_change(instant)) is not None and change <= end:
        found.append(f"{datetime.fromtimestamp(change, UTC):%H:%M} {'on' if timetable.phase(change) else 'off'}")
        instant = change
    return found


def test_in_the_hour_that_is_skipped_it_does_not_come() -> None:
    assert changes(NIGHT, "2026-03-28T00:00+01:00", 23) == ["01:15 on", "01:45 off"]
    assert changes(NIGHT, "2026-03-29T00:00+01:00", 22) == []
    assert changes(NIGHT, "2026-03-30T00:00+02:00", 23) == ["00:15 on", "00:45 off"]


def test_in_the_hour_that_comes_twice_it_comes_twice() -> None:
    assert changes(NIGHT, "2026-10-25T00:00+02:00", 24) == ["00:15 on", "00:45 off", "01:15 on", "01:45 off"]


def test_over_the_hour_that_is_skipped_it_is_shorter_and_over_that_which_comes_twice_longer() -> None:
    long = Timetable(((period("night", EVERY_DAY, 3600, 5 * 3600),),))
    assert changes(long, "2026-03-29T00:00+01:00", 22) == ["00:00 on", "03:00 off"]
    assert changes(long, "2026-10-25T00:00+02:00", 24) == ["23:00 on", "04:00 off"]


def test_an_edge_inside_the_skipped_hour_is_where_the_clocks_are_put_forward() -> None:
    ends = Timetable(((period("night", EVERY_DAY, 3600, 2 * 3600 + 1800),),))
    begins = Timetable(((period("night", EVERY_DAY, 2 * 3600 + 1800, 4 * 3600),),))
    assert changes(ends, "2026-03-29T00:00+01:00", 6) == ["00:00 on", "01:00 off"]
    assert changes(begins, "2026-03-29T00:00+01:00", 6) == ["01:00 on", "02:00 off"]


def test_over_midnight_it_belongs_to_the_day_on_which_it_begins() -> None:
    friday = Timetable(((period("night", frozenset({4}), 22 * 3600, DAY + 6 * 3600, "UTC"),),))
    assert friday.phase(at("2026-11-20T21:59:59+00:00")) == ()  # a Friday
    assert friday.phase(at("2026-11-20T22:00+00:00")) == ("night",)
    assert friday.phase(at("2026-11-21T05:59:59.9+00:00")) == ("night",)
    assert friday.phase(at("2026-11-21T06:00+00:00")) == ()
    assert friday.phase(at("2026-11-22T01:00+00:00")) == ()


def test_over_the_end_of_the_week() -> None:
    sunday = Timetable(((period("night", frozenset({6}), 22 * 3600, DAY + 6 * 3600, "UTC"),),))
    assert changes(sunday, "2026-11-22T00:00+00:00", 48) == ["22:00 on", "06:00 off"]


def test_what_always_holds_never_changes() -> None:
    always = Timetable(((period("always", EVERY_DAY, 0, DAY),),))
    assert always.next_change(at("2026-03-28T00:00+01:00")) is None
    assert set(always.phases()) == {("always",)}


def test_a_weekly_hour_that_is_skipped_once_is_found_a_week_later() -> None:
    sunday = Timetable(((period("night", frozenset({6}), 2 * 3600, 3 * 3600),),))
    change = sunday.next_change(at("2026-03-22T04:00+01:00"))
    assert change == at("2026-04-05T02:00+02:00")


@pytest.mark.parametrize(
    ("days", "begin", "end", "words"),
    [
        (EVERY_DAY, 22 * 3600, DAY + 6 * 3600, "backup daily 22:00-06:00 UTC"),
        (frozenset(range(5)), 8 * 3600, 18 * 3600, "backup mon-fri 08:00-18:00 UTC"),
        (frozenset({5, 6}), 0, DAY, "backup sat, sun UTC"),
        (frozenset({4, 5, 6, 0}), 0, DAY, "backup fri-mon UTC"),
        (frozenset({0, 2, 4}), 0, 12 * 3600, "backup mon, wed, fri 00:00-12:00 UTC"),
        (frozenset({1}), 18 * 3600, DAY, "backup tue 18:00-24:00 UTC"),
    ],
)
def test_in_words(days: frozenset[int], begin: int, end: int, words: str) -> None:
    one = period("p", days, begin, end, "UTC")
    assert Timetable(((one,),)).words(("p",)) == words


@pytest.mark.parametrize(("count", "words"), [(2, "c0 and c1"), (3, "c0, c1 and c2"), (500, "c0, c1 and 498 more")])
def test_what_has_the_same_hours_is_named_with_them_once(count: int, words: str) -> None:
    many = [replace(period(f"p{n}", EVERY_DAY, 0, 3600, "UTC"), of=f"c{n}") for n in range(count)]
    timetable = Timetable(tuple((one,) for one in many))
    assert timetable.words(tuple(one.path for one in many)) == f"{words} daily 00:00-01:00 UTC"


def test_an_instant_is_told_by_the_clock_of_the_policy() -> None:
    assert NIGHT.local(at("2026-11-23T07:00+00:00")) == "Mon 2026-11-23 08:00 CET"
    assert NIGHT.words(()) == "outside every period"
