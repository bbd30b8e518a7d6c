"""Confidence intervals of what was sampled: ratios and percentiles. A full count has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

from shaper.stats.distributions import binomial_cdf


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


def wilson(hits: int, count: int, *, confidence: float = 0.95) -> Interval:
    """The score interval of a ratio (E. B. Wilson, 1927): for few samples and for ratios near 0 and 1, too.

    Raises ValueError without samples, or with more hits than samples.
    """
    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"no ratio of {hits} in {count}")
    return score(hits / count, count, confidence=confidence)


def score(ratio: float, count: float, *, confidence: float) -> Interval:
    """The same of a ratio (0..1) that is worth so many independent samples, which may be a fraction of a number."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    weight = z * z / count
    centre = (ratio + weight / 2) / (1 + weight)
    half = z * math.sqrt(ratio * (1 - ratio) / count + weight / (4 * count)) / (1 + weight)
    low = 0.0 if ratio == 0 else max(0.0, centre - half)
    high = 1.0 if ratio == 1 else min(1.0, centre + half)
    return Interval(low, high)


@lru_cache(maxsize=4096)
def ranks(count: int, quantile: float, *, confidence: float = 0.95) -> tuple[int, int]:
    """The ranks, from 1, of the two samples of `count` between which the quantile lies (David, Order Statistics, 7.1).

    Whatever the distribution: how many of independent samples are below a quantile is binomial. Rank 0 or `count` + 1:
    so few samples bound it on that side by nothing.
    """
    if not (count > 0 and 0 < quantile < 1 and 0 < confidence < 1):
        raise ValueError(f"no interval of quantile {quantile} from {count} samples")
    tail = (1 - confidence) / 2
    low = _first(lambda rank: binomial_cdf(rank, count, quantile) > tail, count)
    high = _first(lambda rank: binomial_cdf(rank, count, quantile) >= 1 - tail, count) + 1
    return low, min(high, count + 1)


def _first(holds: Callable[[int], bool], most: int) -> int:
    """The least number from 0 to `most` that holds, where all after it do."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
