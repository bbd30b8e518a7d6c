"""Counters are read as often as is asked for, unless that takes more than 5 % of a processor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.run.pace import SHARE, Pace


@given(st.floats(0.05, 1.0), st.lists(st.floats(0, 0.02), min_size=1, max_size=50))
def test_it_costs_no_more_than_its_share_and_never_hurries(wanted: float, costs: list[float]) -> None:
    pace = Pace(wanted)
    assert pace.seconds == wanted
    for cost in costs:
        pace.spent(cost)
    assert wanted <= pace.seconds <= max(wanted, max(costs) / SHARE)
    if max(costs) <= wanted * SHARE:
        assert pace.seconds == wanted


def test_a_large_tree_is_read_less_often_and_one_slow_reading_changes_little() -> None:
    large, small = Pace(0.2), Pace(0.2)
    for _ in range(30):
        large.spent(0.05)
        small.spent(0.001)
    assert large.seconds == pytest.approx(1.0)
    small.spent(0.02)
    assert small.seconds == 0.2
    large.spent(60.0)
    assert large.seconds == 2.0
