"""The arrival envelope against counting every window on the grid."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from collectors.envelope import GRID, Envelope

TAUS = (0.002, 0.01, 0.05, 0.2)

steps = st.lists(st.tuples(st.integers(0, 60), st.integers(60, 1514), st.booleans()), max_size=60)


@given(steps)
def test_equals_the_most_in_any_window_across_drains(arrivals: list[tuple[int, int, bool]]) -> None:
    envelope = Envelope(TAUS)
    largest = dict.fromkeys(TAUS, 0)
    held: dict[int, int] = {}
    at = 5
    for step, size, drain in arrivals:
        at += step
        held[at] = held.get(at, 0) + size
        envelope.add(at * GRID + GRID // 2, size)
        if drain:
            largest = {tau: max(largest[tau], most) for tau, most in envelope.take().items()}
    largest = {tau: max(largest[tau], most) for tau, most in envelope.take().items()}
    for tau in TAUS:
        width = round(tau / 0.002)
        windows = [sum(held.get(number, 0) for number in range(end - width + 1, end + 1)) for end in held]
        assert largest[tau] == max(windows, default=0)


@given(st.lists(st.tuples(st.integers(-3, 130), st.lists(st.integers(0, 9), max_size=9)), max_size=9))
def test_bins_in_a_row_are_as_good_as_one_by_one(rows: list[tuple[int, list[int]]]) -> None:
    one, other, first = Envelope(TAUS), Envelope(TAUS), 5
    for gap, sizes in rows:
        first = max(0, first + gap)
        for number, size in enumerate(sizes, first):
            if size:
                one.add(number * GRID, size)
        other.extend(first, [*accumulate(sizes, initial=7 * first)])
        first += len(sizes)
        if gap % 2:
            assert one.take() == other.take()
    assert one.take() == other.take()


def test_a_burst_is_told_once_and_silence_is_zero() -> None:
    envelope = Envelope((0.002, 0.01))
    envelope.add(0, 1000)
    assert envelope.take() == {0.002: 1000, 0.01: 1000}
    assert envelope.take() == {0.002: 0, 0.01: 0}
    envelope.add(2 * GRID, 500)
    assert envelope.take() == {0.002: 500, 0.01: 1500}


def test_a_stamp_that_falls_behind_counts_with_the_newest() -> None:
    envelope = Envelope((0.002,))
    envelope.add(10 * GRID, 100)
    assert envelope.take() == {0.002: 100}
    envelope.add(9 * GRID, 50)
    assert envelope.take() == {0.002: 150}
