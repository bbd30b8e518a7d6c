"""Attainment over time, where what happens in one slice says much about the next: batch means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from shaper.stats.distributions import student_quantile
from shaper.stats.interval import Interval, wilson

BATCHES = 20
"""Between 10 and 30 is the usual advice (Schmeiser, Batch size effects in the analysis of simulation output, 1982)."""


def batch_means(slices: Sequence[bool], *, batches: int = BATCHES, confidence: float = 0.95) -> Interval | None:
    """The interval of the share of good slices, by non-overlapping batch means; None with less than two a batch.

    Queues are correlated: slices beside each other are no independent samples, batches of many nearly are. Student's t
    has as many degrees of freedom as there are batches but one. The oldest slices that fill no batch count in none. It
    is never narrower than if the slices were independent (Wilson): a period without a miss proves no perfection.
    """
    if batches < 2:
        raise ValueError(f"{batches} batches have no variance")
    size = len(slices) // batches
    if size < 2:
        return None
    used = slices[len(slices) - size * batches :]
    means = [fmean(used[at : at + size]) for at in range(0, len(used), size)]
    half = student_quantile((1 + confidence) / 2, batches - 1) * stdev(means) / math.sqrt(batches)
    centre, independent = fmean(means), wilson(sum(used), len(used), confidence=confidence)
    return Interval(max(0.0, min(centre - half, independent.low)), min(1.0, max(centre + half, independent.high)))
