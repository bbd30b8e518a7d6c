"""Confidence intervals of a cluster sample: of packets that wait in the same slice of time, and so wait alike.

By how much they tell less than as many drawn one by one is the design effect (Kish, Survey Sampling, 1965), from the
linearised variance of a ratio: how far each cluster's hits are from those of all. The sample is worth its size over
that, less for few clusters, as a variance of few is a guess itself (Korn and Graubard, Survey Methodology 24, 1998);
the intervals are those of so many independent samples, of a percentile by its probability (Woodruff, Journal of the
American Statistical Association 47, 1952). None is narrower than if all samples were independent.

Where clusters come one as long after the other they are taken for drawn at random: where neighbours are alike that
claims too little and not too much (Cochran, Sampling Techniques, 1977, chapter 8); what goes up and down in step with
them nothing here can see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from shaper.stats.distributions import student_quantile
from shaper.stats.interval import Interval, ranks, score

Cluster = tuple[int, int]
"""How many of its samples are hits (lost, or not above a quantile), and how many samples it has."""

LEAST = 5
"""Clusters: of fewer hardly any interval has an end, and those that do owe it to luck."""
_FEW = 10
"""Hits, or misses: the variance of fewer is luck as well."""


def design_effect(clusters: Sequence[Cluster]) -> float | None:
    """How many times the variance of the ratio is that of independent samples, at least 1.

    None where all or none of the samples are hits, and with fewer than two clusters that have any: nobody knows.
    """
    held = [one for one in clusters if one[1]]
    hits, count = _sums(held)
    if len(held) < 2 or hits in (0, count):
        return None
    ratio = hits / count
    spread = math.fsum((mine - ratio * size) ** 2 for mine, size in held)
    return max(1.0, len(held) / (len(held) - 1) * spread / (count * ratio * (1 - ratio)))


def clustered_ranks(
    clusters: Sequence[Cluster], quantile: float, *, effect: float | None = None, confidence: float = 0.95
) -> tuple[int, int]:
    """As `ranks`, of all samples together; hits are those that do not exceed the quantile of the sample.

    `effect` is the design effect of the median, None where it is not known: of a tail with few samples beyond it the
    larger of the two is taken. With fewer than `LEAST` clusters there is no end on either side.
    """
    held = [one for one in clusters if one[1]]
    count = sum(size for _, size in held)
    if len(held) < LEAST:
        return 0, count + 1
    alone = ranks(count, quantile, confidence=confidence)
    worth = max(1, int(_worth(held, effect, confidence)))
    low, high = ranks(worth, quantile, confidence=confidence)
    return min(alone[0], low * count // worth), max(alone[1], (high - 1) * count // worth + 1)


def clustered_wilson(
    clusters: Sequence[Cluster], *, effect: float | None = None, confidence: float = 0.95
) -> Interval | None:
    """As `wilson`, None with fewer than `LEAST` clusters.

    `effect` is a design effect that is known of the same clusters, None of none: with few hits, or none at all, which
    have no variance of their own, it is taken where it is larger. Unknown, each cluster counts as one sample.
    """
    held = [one for one in clusters if one[1]]
    if len(held) < LEAST:
        return None
    hits, count = _sums(held)
    alone = score(hits / count, count, confidence=confidence)
    found = score(hits / count, _worth(held, effect, confidence), confidence=confidence)
    return Interval(min(alone.low, found.low), max(alone.high, found.high))


def _worth(held: Sequence[Cluster], effect: float | None, confidence: float) -> float:
    """Of how many independent samples as much is known."""
    hits, count = _sums(held)
    own = design_effect(held) or 1.0
    if min(hits, count - hits) < _FEW:
        own = max(own, count / len(held) if effect is None else effect)
    side = (1 + confidence) / 2
    guess = student_quantile(side, len(held) - 1) / student_quantile(side, count - 1)
    return count / own / (guess * guess)


def _sums(clusters: Sequence[Cluster]) -> tuple[int, int]:
    return sum(hits for hits, _ in clusters), sum(size for _, size in clusters)
