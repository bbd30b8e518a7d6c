"""How much of a period an agreement held: what counts, what does not, and what is said where little is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.model.shortage import Shortage
from shaper.model.sla import SlaState
from shaper.sla.attainment import Look, attainment

MET, MISSED, NO_DATA = SlaState.MET, SlaState.MISSED, SlaState.NO_DATA


def looks(*states: SlaState, idle: bool = False) -> list[Look]:
    return [Look(second, state, idle) for second, state in enumerate(states)]


def test_seconds_are_told_apart() -> None:
    found = attainment([*looks(MET, MISSED, NO_DATA, MET), Look(7, MET, True), Look(8, NO_DATA, True)], seconds=10)
    assert (found.met, found.missed, found.no_data, found.idle) == (2, 1, 1, 2)
    assert found.ratio == pytest.approx(2 / 3)
    assert found.coverage == pytest.approx(0.5)  # the second without data and four that nobody looked at


def test_a_miss_counts_whatever_is_idle_by_then() -> None:
    """A window may hold what was lost before the traffic ended."""
    assert attainment([Look(0, MISSED, True)], seconds=1).missed == 1


def test_of_the_seconds_missed_those_are_marked_in_which_the_link_was_too_small() -> None:
    of_link = Shortage("video", "delay-p95", 10.0, 12, 8, 24, ended=14.0)
    misses = [Look(second, MISSED, False) for second in (3, 12, 17, 25)] + [Look(13, MET, False)]
    seen = sorted(misses, key=lambda look: look.second)

    def marked(*shortages: Shortage) -> int:
        return attainment(seen, seconds=30, shortages=shortages, window=5.0).capacity

    assert marked(of_link) == 2  # 12, and 17, whose window reaches back to 13
    assert marked(replace(of_link, ended=None)) == 3
    assert marked(of_link, replace(of_link, target="loss")) == 2
    assert marked(replace(of_link, bound="latency")) == 2
    assert marked(replace(of_link, bound="limit")) == marked(replace(of_link, bound="parent")) == marked() == 0


def test_nothing_judged_is_no_ratio() -> None:
    found = attainment(looks(NO_DATA, NO_DATA), seconds=5)
    assert found.ratio is None
    assert found.interval is None
    assert found.coverage == 0


def test_a_row_of_misses_is_broken_by_a_good_second_and_by_one_unseen() -> None:
    assert attainment(looks(MISSED, MISSED, MET, MISSED), seconds=9).longest == 2
    assert attainment([Look(1, MISSED, False), Look(3, MISSED, False)], seconds=9).longest == 1


def test_seconds_that_hang_together_widen_the_interval() -> None:
    """Forty misses at once say less than forty here and there: batches see it, single seconds would not."""
    at_once = attainment(looks(*[MISSED] * 40, *[MET] * 360), seconds=400)
    apart = attainment(looks(*([MISSED] + [MET] * 9) * 40), seconds=400)
    assert at_once.ratio == apart.ratio == 0.9
    assert at_once.interval is not None
    assert apart.interval is not None
    assert at_once.interval.low < apart.interval.low < 0.9 < apart.interval.high < at_once.interval.high


@given(st.lists(st.tuples(st.sampled_from((MET, MISSED, NO_DATA)), st.booleans()), max_size=200), st.integers(0, 50))
def test_every_second_is_one_thing(states: list[tuple[SlaState, bool]], unseen: int) -> None:
    found = attainment(
        [Look(second, state, idle) for second, (state, idle) in enumerate(states)], seconds=max(1, len(states) + unseen)
    )
    assert found.met + found.missed + found.no_data + found.idle == len(states)
    assert found.longest <= found.missed
    assert 0 <= found.coverage <= 1
    if found.ratio is not None and found.interval is not None:
        assert 0 <= found.interval.low <= found.interval.high <= 1
