"""Quantiles against sorted lists."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.histogram import DelayHistogram, SlidingDelays

seconds = st.floats(0, 100, allow_subnormal=False) | st.floats(1e-7, 1e-2)
samples = st.lists(seconds, min_size=1, max_size=200)
quantile = st.floats(0, 1)


def upper(ordered: list[float], q: float) -> float:
    return ordered[max(1, math.ceil(q * len(ordered) - 1e-9)) - 1]


def histogram(*parts: list[float]) -> DelayHistogram:
    made = DelayHistogram()
    for part in parts:
        made.add(part)
    return made


@given(samples, quantile)
def test_a_quantile_is_never_below_the_order_statistic_and_at_most_a_bucket_above(
    values: list[float], q: float
) -> None:
    true, got = upper(sorted(values), q), histogram(values).quantile(q)
    assert true <= got * (1 + 1e-12)
    if true < 60:
        assert got <= max(true * 1.01, 1e-6) * (1 + 1e-9)
    else:
        assert got <= max(values)


@given(samples, seconds)
def test_the_count_above_is_never_too_small_and_exact_a_bucket_below(values: list[float], limit: float) -> None:
    got = histogram(values).count_above(limit)
    assert got >= sum(1 for value in values if value > limit)
    floor = min(limit / 1.01, 60.0) * (1 - 1e-9) if limit >= 1e-6 else 0.0
    assert got <= sum(1 for value in values if value >= floor)


@given(samples, samples)
def test_merged_is_the_same_as_added(one: list[float], other: list[float]) -> None:
    both, merged = histogram(one, other), histogram(one)
    merged.merge(histogram(other))
    assert (merged.count, merged.least, merged.largest) == (both.count, both.least, both.largest)
    assert (merged.least, merged.largest) == (min(one + other), max(one + other))
    assert merged.sum == pytest.approx(math.fsum(one + other))
    assert [merged.quantile(q / 20) for q in range(21)] == [both.quantile(q / 20) for q in range(21)]


def test_an_empty_one_has_counts_but_no_quantile() -> None:
    empty = histogram([])
    assert (empty.count, empty.sum, empty.count_above(0.0)) == (0, 0.0, 0)
    with pytest.raises(ValueError, match="no quantile"):
        empty.quantile(0.5)
    with pytest.raises(ValueError, match="different buckets"):
        empty.merge(DelayHistogram(width=0.1))
    with pytest.raises(ValueError, match="no histogram"):
        DelayHistogram(width=0)


@given(st.lists(st.lists(seconds, max_size=40), min_size=1, max_size=30), quantile, seconds)
def test_the_sliding_window_is_the_newest_ticks_that_make_up_the_samples(
    ticks: list[list[float]], q: float, limit: float
) -> None:
    sliding = SlidingDelays(least=100, seconds=5.0)
    for number, delays in enumerate(ticks):
        sliding.add((number + 1) * 0.25, delays, seconds=0.25)
    wanted: list[float] = []
    taken = 0
    for delays in list(reversed(ticks))[:20]:
        if taken and len(wanted) >= 100:
            break
        wanted += delays
        taken += 1
    summary = sliding.view((q,), (limit,))
    if not wanted:
        assert summary is None
        return
    assert summary is not None
    ordered = sorted(wanted)
    assert (summary.count, summary.largest) == (len(ordered), ordered[-1])
    assert summary.window == pytest.approx(taken * 0.25)
    assert summary.quantiles == {q: upper(ordered, q)}
    assert summary.late[limit] == pytest.approx(sum(1 for value in ordered if value > limit) / len(ordered))


def test_voice_at_fifty_a_second_reaches_back_over_ticks_and_bulk_does_not() -> None:
    voice, bulk = SlidingDelays(), SlidingDelays()
    for number in range(1, 41):
        voice.add(number * 0.25, [0.001 * number] * 12)
        bulk.add(number * 0.25, [0.001 * number] * 500)
    voiced, bulked = voice.view((0.99,), (0.01,)), bulk.view((0.5,), ())
    assert voiced is not None
    assert bulked is not None
    assert (voiced.count, voiced.window, voiced.quantiles) == (108, 2.25, {0.99: 0.04})
    assert (bulked.count, bulked.window) == (500, 0.25)


def test_what_is_older_than_five_seconds_is_gone() -> None:
    sliding = SlidingDelays()
    sliding.add(0.25, [0.001], seconds=0.25)
    for number in range(2, 40):
        sliding.add(number * 0.25, [])
    assert sliding.view((0.5,), ()) is None
