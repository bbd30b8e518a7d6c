"""How unevenly traffic comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pvariance


def dispersion(counts: Sequence[int]) -> float | None:
    """The index of dispersion for counts of arrivals in equal intervals (Cox and Lewis, 1966): variance over mean.

    1 for Poisson arrivals, 0 for a steady stream, more for bursts; None with less than two intervals or no arrival.
    """
    return pvariance(counts) / mean if len(counts) > 1 and (mean := fmean(counts)) > 0 else None


def peak_to_mean(envelope: Mapping[float, int], rate: float) -> dict[float, float]:
    """By the length of a window (s): the most bytes that came in any such window, against the mean of `rate` bit/s."""
    return {tau: most * 8 / (rate * tau) for tau, most in sorted(envelope.items()) if rate > 0 and tau > 0}
