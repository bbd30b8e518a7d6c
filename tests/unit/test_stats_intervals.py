"""Intervals cover what they claim to: exactly where that can be reckoned, else over seeds kept back for it."""

from __future__ import annotations

import math
from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.stats import batch_means, ranks, wilson
from shaper.stats.distributions import beta_ratio, binomial_cdf, student_quantile

HELD_BACK = range(770_000, 770_400)
"""Seeds that nothing was tried with before these tests."""


def _mass(hits: int, count: int, chance: float) -> float:
    return math.comb(count, hits) * chance**hits * (1 - chance) ** (count - hits)


@given(count=st.integers(1, 60), hits=st.integers(0, 60), chance=st.floats(0.001, 0.999))
def test_the_binomial_is_the_sum_of_its_terms(count: int, hits: int, chance: float) -> None:
    expected = sum(_mass(one, count, chance) for one in range(min(hits, count) + 1))
    assert binomial_cdf(hits, count, chance) == pytest.approx(expected, abs=1e-9)


def test_known_values() -> None:
    # Student's t from tables; Wilson from Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert [round(student_quantile(share, free), 3) for share, free in ((0.975, 1), (0.975, 19), (0.995, 9))] == [
        12.706,
        2.093,
        3.250,
    ]
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert ranks(100, 0.5) == (40, 61)
    assert beta_ratio(0.5, 0.5, 0.5) == pytest.approx(0.5)


def test_what_is_no_question_is_refused() -> None:
    for refused in (
        lambda: wilson(1, 0),
        lambda: wilson(3, 2),
        lambda: ranks(0, 0.5),
        lambda: ranks(10, 1.0),
        lambda: batch_means([True] * 10, batches=1),
        lambda: beta_ratio(0, 1, 0.5),
        lambda: student_quantile(0.3, 4),
    ):
        with pytest.raises(ValueError, match=r"no |variance"):
            refused()


@given(count=st.integers(1, 10_000), share=st.floats(0, 1), confidence=st.sampled_from((0.9, 0.95, 0.99)))
def test_wilson_holds_the_ratio_and_grows_with_the_confidence(count: int, share: float, confidence: float) -> None:
    hits = round(share * count)
    found, wider = wilson(hits, count, confidence=confidence), wilson(hits, count, confidence=0.999)
    assert 0 <= wider.low <= found.low <= hits / count <= found.high <= wider.high <= 1
    mirrored = wilson(count - hits, count, confidence=confidence)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx(found, abs=1e-12)


@given(count=st.integers(10, 120), chance=st.floats(0.05, 0.95))
def test_wilson_covers_a_ratio_on_the_average(count: int, chance: float) -> None:
    """Of single ratios it covers some less (Brown, Cai and DasGupta, 2001); here around each the mean is taken."""
    near = [min(0.99, max(0.01, chance + step / 100)) for step in range(-4, 5)]
    covered = [
        sum(_mass(hits, count, one) for hits in range(count + 1) if _holds(wilson(hits, count), one)) for one in near
    ]
    assert sum(covered) / len(covered) > 0.93
    assert min(covered) > 0.83


def _holds(interval: tuple[float, float], value: float) -> bool:
    return interval[0] <= value <= interval[1]


@given(
    count=st.integers(1, 3000),
    quantile=st.sampled_from((0.05, 0.5, 0.9, 0.95, 0.99, 0.999)),
    confidence=st.sampled_from((0.9, 0.95, 0.99)),
)
def test_ranks_cover_a_quantile_and_not_by_one_rank_too_much(count: int, quantile: float, confidence: float) -> None:
    low, high = ranks(count, quantile, confidence=confidence)
    tail = (1 - confidence) / 2
    assert 0 <= low <= high <= count + 1

    def below(rank: int) -> float:
        return binomial_cdf(rank - 1, count, quantile)

    assert below(low) <= tail < below(low + 1)
    assert high == count + 1 or 1 - below(high) <= tail + 1e-12
    assert high == low or 1 - below(high - 1) > tail - 1e-12


def test_percentiles_of_held_back_samples_are_covered() -> None:
    """Delays of a heavy tail (log-normal), 300 a window."""
    truth = {q: math.exp(NormalDist().inv_cdf(q)) for q in (0.5, 0.95, 0.99)}
    covered = dict.fromkeys(truth, 0)
    for seed in HELD_BACK:
        chance = Random(seed)
        delays = sorted(chance.lognormvariate(0, 1) for _ in range(300))
        for quantile, value in truth.items():
            low, high = ranks(len(delays), quantile, confidence=0.95)
            covered[quantile] += (
                (delays[low - 1] if low else 0.0) <= value <= (delays[high - 1] if high <= len(delays) else math.inf)
            )
    least = len(HELD_BACK) * 0.95 - 3 * math.sqrt(len(HELD_BACK) * 0.95 * 0.05)
    assert min(covered.values()) >= least, covered


def test_batch_means_cover_the_attainment_of_a_correlated_queue() -> None:
    """Slices good or bad by a Markov chain that stays where it is: independent samples would claim too much."""
    stays, chains = 0.9, 0.0
    batched = naive = 0
    for seed in HELD_BACK:
        chance, good = Random(seed), seed % 2 == 0
        slices = []
        for _ in range(3000):
            good = good if chance.random() < stays else not good
            slices.append(good)
        chains += sum(slices) / len(slices)
        found = batch_means(slices)
        assert found is not None
        batched += _holds(found, 0.5)
        naive += _holds(wilson(sum(slices), len(slices)), 0.5)
    assert chains / len(HELD_BACK) == pytest.approx(0.5, abs=0.01)
    assert batched >= 0.92 * len(HELD_BACK), "nominal are 95 %"
    assert naive < 0.6 * len(HELD_BACK), "the chain is correlated, or the test shows nothing"


def test_batch_means_without_a_miss_promise_no_perfection() -> None:
    assert batch_means([True] * 39) is None
    found = batch_means([True] * 400)
    assert found is not None
    assert found.high == 1
    assert 0.98 < found.low < 1
