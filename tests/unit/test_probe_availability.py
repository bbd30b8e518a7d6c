"""Ten bad seconds in a row begin it, ten others end it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.probe.availability import IN_A_ROW, Availability, availability, unavailable_seconds

GOOD, BAD, HALF, NOTHING = (5, 0), (5, 3), (4, 2), (0, 0)


@pytest.mark.parametrize(
    ("seconds", "unavailable"),
    [
        ([GOOD] * 30, 0),
        ([BAD] * 9 + [GOOD] * 9 + [BAD] * 9, 0),
        ([GOOD] * 5 + [BAD] * 10 + [GOOD] * 10, 10),
        ([BAD] * 10 + [GOOD] * 9, 19),  # not over yet
        ([BAD] * 10 + [GOOD] * 9 + [BAD] + [GOOD] * 10, 20),
        ([HALF] * 30, 0),  # exactly half is not more than half
        ([BAD] * 5 + [NOTHING] + [BAD] * 5, 0),  # nobody knows of the one in between
        ([BAD] * 10 + [NOTHING] * 3 + [GOOD] * 10, 10),
    ],
)
def test_by_example(seconds: list[tuple[int, int]], unavailable: int) -> None:
    found = availability(seconds)
    assert found.unavailable == unavailable
    assert found.seconds == sum(1 for sent, _ in seconds if sent)


def test_nothing_is_no_ratio() -> None:
    assert availability([]).ratio is None
    assert availability([NOTHING] * 20).ratio is None
    assert Availability(3, 1).ratio == 0.75


@given(st.lists(st.sampled_from((GOOD, BAD, HALF, NOTHING)), max_size=80))
def test_every_unavailable_time_begins_with_ten_bad_seconds(seconds: list[tuple[int, int]]) -> None:
    marked = unavailable_seconds(seconds)
    assert len(marked) == len(seconds)
    for place, bad in enumerate(marked):
        if bad and (place == 0 or not marked[place - 1]):
            assert seconds[place : place + IN_A_ROW] == [BAD] * IN_A_ROW
        if not bad and place and marked[place - 1]:
            assert all(sent and not lost > sent / 2 for sent, lost in seconds[place : place + IN_A_ROW])
