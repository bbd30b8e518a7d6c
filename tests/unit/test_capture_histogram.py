"""Quantiles against sorted lists."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.batches import Batches
from collectors.histogram import DelayHistogram, SlidingDelays, SlidingHistogram
from collectors.slices import Slice

seconds = st.floats(0, 100, allow_subnormal=False) | st.floats(1e-7, 1e-2)
samples = st.lists(seconds, min_size=1, max_size=200)
quantile = st.floats(0, 1)


def upper(ordered: list[float], q: float) -> float:
    return ordered[max(1, math.ceil(q * len(ordered) - 1e-9)) - 1]


def histogram(*parts: list[float], limits: tuple[float, ...] = (), width: float = 0.01) -> DelayHistogram:
    made = DelayHistogram(width=width, limits=limits)
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


def newest(ticks: list[list[float]]) -> tuple[list[float], int]:
    """The samples of the last ticks that make up 100, in 20 ticks of 0.25 s at most; how many ticks those are."""
    wanted: list[float] = []
    taken = 0
    for delays in list(reversed(ticks))[:20]:
        if taken and len(wanted) >= 100:
            break
        wanted += delays
        taken += 1
    return wanted, taken


@given(st.lists(st.lists(seconds, max_size=40), min_size=1, max_size=30), quantile, seconds)
def test_the_sliding_window_is_the_newest_ticks_that_make_up_the_samples(
    ticks: list[list[float]], q: float, limit: float
) -> None:
    sliding = SlidingDelays(least=100, seconds=5.0)
    for number, delays in enumerate(ticks):
        sliding.add((number + 1) * 0.25, delays, seconds=0.25)
    wanted, taken = newest(ticks)
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


parts = st.dictionaries(st.integers(0, 6), st.lists(seconds, max_size=12), max_size=6)


def told(found: dict[int, list[float]]) -> tuple[list[float], tuple[Slice, ...]]:
    """Delays by slice as a window has them."""
    ordered = sorted(found.items())
    delays = [delay for _, part in ordered for delay in part]
    return delays, tuple(Slice(number, len(part), len(part) % 3) for number, part in ordered if number)


def by_slice(windows: list[dict[int, list[float]]]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for number, delays in (part for window in windows for part in window.items()):
        found.setdefault(number, []).extend(delays)
    return {number: delays for number, delays in found.items() if delays}


@given(st.lists(parts, min_size=1, max_size=8), quantile)
def test_clusters_of_the_sliding_window_are_its_slices(windows: list[dict[int, list[float]]], q: float) -> None:
    sliding = SlidingDelays(least=1 << 30, seconds=5.0)
    for number, window in enumerate(windows):
        delays, slices = told(window)
        sliding.add(number * 0.25, delays, slices=slices)
    assert sliding.sliced == any(told(window)[1] for window in windows)
    known = by_slice(windows)
    if known:
        limit = upper(sorted(delay for delays in known.values() for delay in delays), q)
        expected = sorted((sum(delay <= limit for delay in delays), len(delays)) for delays in known.values())
        assert sorted(one for one in sliding.clusters((q,))[q] if one[1]) == expected


def test_slices_leave_the_sliding_window_with_their_tick() -> None:
    sliding = SlidingDelays(least=2)
    sliding.add(0.25, [0.1, 0.2], slices=[Slice(1, 2, 0)])
    sliding.add(0.5, [0.1, 0.2])
    assert not sliding.sliced
    assert sliding.clusters((0.5,)) == {0.5: [(1, 2)]}


@given(st.lists(parts, min_size=1, max_size=12), st.floats(0.01, 1), st.integers(1, 4))
def test_batches_hold_all_slices_whatever_is_merged(windows: list[dict[int, list[float]]], q: float, most: int) -> None:
    whole, batches = histogram([]), Batches(most)
    lost, unsliced = 0, 2
    for number, window in enumerate(windows):
        delays, slices = told({one + 3 * number if one else 0: part for one, part in window.items()})
        whole.add(delays)
        lost += sum(one.lost for one in slices)
        batches.add(delays, slices, like=whole)
    always = sum(len(window.get(0, ())) for window in windows)
    losses = batches.losses(lost + unsliced, whole.count + lost + unsliced)
    assert len(losses) <= most + 1
    assert losses[0] == (unsliced, always + unsliced)
    assert tuple(map(sum, zip(*losses, strict=True))) == (lost + unsliced, whole.count + lost + unsliced)
    if whole.count:
        found = batches.delays(whole, q)
        assert [size for _, size in found] == [size - gone for gone, size in losses]
        hits = sum(one for one, _ in found)
        assert q * whole.count - 1e-6 <= hits
        assert hits == whole.up_to(q, [whole])[0] <= whole.count


def test_batches_are_of_neighbours_and_never_so_few_that_nothing_is_left_to_compare() -> None:
    batches, whole = Batches(), histogram([])
    for number in range(1, 1000):
        delays = [number / 1000] * 3
        whole.add(delays)
        batches.add(delays, [Slice(number, 3, 0)], like=whole)
        held = len(batches.losses(0, whole.count)) - 1
        assert held == number or 21 <= held <= 40
    clusters = batches.delays(whole, 0.5)
    assert sum(0 < hits < size for hits, size in clusters) == 1, "the median parts one batch of neighbours"


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


@given(st.lists(st.lists(seconds, max_size=40), min_size=1, max_size=30), quantile, seconds)
def test_a_window_of_histograms_reaches_back_as_far(ticks: list[list[float]], q: float, limit: float) -> None:
    sliding = SlidingHistogram(least=100, seconds=5.0)
    for number, delays in enumerate(ticks):
        sliding.add((number + 1) * 0.25, histogram(delays, limits=(limit,)), seconds=0.25)
    wanted, taken = newest(ticks)
    summary = sliding.view((q,), (limit,))
    if not wanted:
        assert summary is None
        return
    assert summary is not None
    ordered = sorted(wanted)
    assert (summary.count, summary.least, summary.largest) == (len(ordered), ordered[0], ordered[-1])
    assert summary.window == pytest.approx(taken * 0.25)
    assert summary.quantiles == {q: histogram(ordered).quantile(q)}
    assert summary.late[limit] == pytest.approx(sum(1 for value in ordered if value > limit) / len(ordered))


@given(samples, samples, seconds)
def test_how_many_exceed_a_limit_is_exact_and_stays_so_when_merged(
    one: list[float], other: list[float], limit: float
) -> None:
    merged = histogram(one, limits=(limit,))
    merged.merge(histogram(other, limits=(limit,)))
    assert merged.count_above(limit) == sum(1 for value in one + other if value > limit)
    merged.merge(histogram(one))
    assert merged.count_above(limit) >= sum(1 for value in one + other + one if value > limit)


@given(samples, quantile)
def test_in_coarser_buckets_nothing_grows_shorter(values: list[float], q: float) -> None:
    fine, coarse = histogram(values, limits=(0.01,)), histogram([], width=1 / 32)
    moved = fine.regrouped(coarse)
    assert moved.is_like(coarse)
    assert (moved.count, moved.sum, moved.least, moved.largest) == (fine.count, fine.sum, fine.least, fine.largest)
    assert fine.quantile(q) * (1 - 1e-9) <= moved.quantile(q) <= max(fine.quantile(q) * (1 + 1 / 32) + 1e-6, 60.0)
    assert moved.count_above(0.01) == fine.count_above(0.01)


@given(samples, quantile)
def test_what_was_counted_elsewhere_says_the_same(values: list[float], q: float) -> None:
    """The kernel gives numbers of buckets and its extremes, which may be of a moment before or after."""
    own = DelayHistogram(width=1 / 32, lowest=1.024e-6, highest=68.0)
    own.add(values)
    parts = {"cuts": 32, "lowest": 1.024e-6, "octaves": 26, "above": {}}
    exact = DelayHistogram.counted(own._counts, sum=own.sum, least=own.least, largest=own.largest, **parts)  # type: ignore[arg-type]
    assert exact.is_like(own)
    assert (exact.count, exact.quantile(q), exact.count_above(0.01)) == (
        own.count,
        own.quantile(q),
        own.count_above(0.01),
    )
    late = DelayHistogram.counted(own._counts, sum=own.sum, least=None, largest=0.0, **parts)  # type: ignore[arg-type]
    true = upper(sorted(values), q)
    assert late.quantile(q) >= min(true, 68.0) * (1 - 1 / 32) * (1 - 1e-9) or true < 1.1e-6


def test_other_buckets_begin_the_window_anew() -> None:
    sliding = SlidingHistogram()
    sliding.add(0.25, histogram([0.001] * 5))
    sliding.add(0.50, histogram([0.002] * 3, width=1 / 32))
    summary = sliding.view((0.5,), ())
    assert summary is not None
    assert summary.count == 3
