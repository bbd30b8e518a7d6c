"""The verdict on a change: worse, as good, or not known; and the periods that it is made from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_run_observe import PROGRAM, counters, window

from collectors.histogram import DelayHistogram
from shaper.run.observe import Observer
from shaper.run.trial import Trial
from shaper.sla.verdict import LEAST, Period, compare

GOOD = Period(samples=1000, delay=0.010, sent=1000, dropped=0)
NONE = frozenset[str]()


def reasons(before: Period, after: Period) -> tuple[str, ...]:
    return compare({"voice": before}, {"voice": after}, spare=NONE).against


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Period(1000, 0.020, 1000, 0), "delay (p95) went from 10ms to 20ms"),
        (Period(1000, 0.010, 1000, 30), "loss went from 0% to 2.913%"),
        (Period(99, 0.010, 1000, 0), "the delay of only 99 packets was measured after"),
        (Period(50, 0.010, 99, 0), "only 99 packets after"),
        (Period(0, None, 0, 0), "only 0 packets after"),
    ],
)
def test_what_speaks_against_a_change(after: Period, words: str) -> None:
    (reason,) = reasons(GOOD, after)
    assert words in reason


@pytest.mark.parametrize(
    "after",
    [
        GOOD,
        Period(1000, 0.0005, 1000, 0),
        Period(1000, 0.0124, 1000, 0),
        Period(1000, 0.0109, 1000, 0),
        Period(1000, 0.010, 1000, 1),
        Period(100, 0.010, 100, 0),
    ],
    ids=["the same", "better", "within a quarter", "within a millisecond", "one packet lost by chance", "just enough"],
)
def test_what_does_not(after: Period) -> None:
    assert reasons(GOOD, after) == ()


def test_nothing_measured_is_no_confirmation_and_an_idle_class_says_nothing() -> None:
    idle = Period(0, None, 0, 0)
    assert not compare({}, {}, spare=NONE).good
    assert not compare({"a": idle}, {"a": idle}, spare=NONE).good
    verdict = compare({"a": idle, "b": GOOD}, {"a": idle, "b": GOOD}, spare=NONE)
    assert (verdict.good, verdict.judged, verdict.packets) == (True, 1, 1000)


def test_too_little_of_a_class_of_ours_is_left_out_and_of_the_policys_is_not() -> None:
    few = Period(3, 0.1, 3, 0)
    before, after = {"arp": few, "b": GOOD}, {"arp": few, "b": GOOD}
    assert compare(before, after, spare=frozenset({"arp"})).good
    assert not compare(before, after, spare=NONE).good


periods = st.builds(
    lambda samples, delay, sent, dropped: Period(samples, delay if samples else None, sent, dropped),
    st.integers(0, 5000),
    st.floats(0, 1),
    st.integers(0, 5000),
    st.integers(0, 500),
)


@given(periods, periods)
def test_it_never_confirms_on_fewer_packets_than_it_says(before: Period, after: Period) -> None:
    verdict = compare({"a": before}, {"a": after}, spare=NONE)
    if verdict.good:
        assert min(before.samples, after.samples, before.offered, after.offered) >= LEAST


@given(periods)
def test_a_change_to_the_same_is_never_worse(period: Period) -> None:
    verdict = compare({"a": period}, {"a": period}, spare=NONE)
    assert verdict.good == (period.samples >= LEAST and period.offered >= LEAST)


@given(st.lists(st.floats(1e-5, 1)), st.lists(st.floats(1e-5, 1), min_size=1))
def test_a_histogram_since_another_is_of_what_came_after(before: list[float], after: list[float]) -> None:
    histogram, alone = DelayHistogram(), DelayHistogram()
    histogram.add(before)
    earlier = histogram.copy()
    histogram.add(after)
    alone.add(after)
    since = histogram.since(earlier)
    assert since.count == len(after)
    assert since._counts == alone._counts
    assert since.quantile(0.5) >= alone.quantile(0.5) * 0.98
    assert earlier.count == len(before)


class Lane:
    """An observer of one class at work, second by second."""

    def __init__(self) -> None:
        self.trial = Trial()
        self.now = 0.0
        self.sent = self.drops = 0
        self.observer = Observer(PROGRAM, counters(0))

    def run(self, seconds: int, delay: float, *, packets: int = 50, drops: int = 0) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.sent += packets
            self.drops += drops
            seen = window(*[delay] * packets)
            self.observer.tick(now=self.now, seconds=1.0, counters=counters(self.sent, self.drops), window=seen, why="")
            self.trial.tick(self.observer, now=self.now)

    def change(self) -> None:
        self.trial.closes(self.observer, now=self.now)
        self.trial.anew()
        self.observer = Observer(PROGRAM, counters(self.sent, self.drops), before=self.observer)
        self.trial.begins(self.observer, now=self.now)

    def reasons(self) -> tuple[str, ...]:
        return self.trial.verdict(self.observer, now=self.now, spare=NONE).against


@pytest.mark.parametrize(
    ("delay", "drops", "words"), [(0.010, 0, ""), (0.030, 0, "delay"), (0.010, 5, "loss"), (0.001, 0, "")]
)
def test_what_was_measured_decides(delay: float, drops: int, words: str) -> None:
    lane = Lane()
    lane.run(20, 0.010)
    lane.change()
    lane.run(10, delay, drops=drops)
    assert [words in reason for reason in lane.reasons()] == ([True] if words else [])


def test_before_is_the_last_minutes_and_not_the_day() -> None:
    lane = Lane()
    lane.run(300, 0.200)
    lane.run(130, 0.010)
    lane.change()
    lane.run(10, 0.100)
    assert any("delay" in reason for reason in lane.reasons())


def test_without_a_before_nothing_is_confirmed() -> None:
    lane = Lane()
    lane.run(20, 0.010)
    assert any("nothing is known of before" in reason for reason in lane.reasons())
    lane.change()
    assert any("only 0 packets after" in reason for reason in lane.reasons())
    lane.trial.ended()
    assert any("nothing is known of before" in reason for reason in lane.reasons())
