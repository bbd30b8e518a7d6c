"""The distributions behind the intervals: binomial and Student's t, both by the regularised incomplete beta function.

Its continued fraction is DLMF 8.17.22, evaluated by Lentz's method (Thompson and Barnett, 1986).
"""

from __future__ import annotations

import math
from functools import lru_cache

_TINY = 1e-300
_EPSILON = 1e-15


def beta_ratio(a: float, b: float, x: float) -> float:
    """I_x(a, b) for a, b > 0 and x in 0..1. Raises ValueError outside."""
    if not (a > 0 and b > 0 and 0 <= x <= 1):
        raise ValueError(f"no incomplete beta function of {a=}, {b=}, {x=}")
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - beta_ratio(b, a, 1 - x)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    value, c, d = 1.0, 1.0, 0.0
    step = 0
    while True:
        m, odd = divmod(step, 2)
        if step == 0:
            term = 1.0
        elif odd:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        if step:
            d = 1 / (1 + term * d or _TINY)
            c = 1 + term / c or _TINY
            value *= c * d
            if abs(c * d - 1) < _EPSILON or step > 100_000:
                return value
        step += 1


def binomial_cdf(most: int, count: int, chance: float) -> float:
    """The chance of at most `most` successes in `count` trials of `chance` each."""
    if most < 0:
        return 0.0
    return 1.0 if most >= count else beta_ratio(count - most, most + 1, 1 - chance)


@lru_cache(maxsize=1024)
def student_quantile(share: float, freedom: int) -> float:
    """Below it lies `share` (0.5..1) of Student's t distribution with so many degrees of freedom; by bisection."""
    if not (0.5 <= share < 1 and freedom > 0):
        raise ValueError(f"no quantile {share} of {freedom} degrees of freedom")
    low, high = 0.0, 1.0
    while _student_cdf(high, freedom) < share:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if _student_cdf(middle, freedom) >= share else (middle, high)
    return high


def _student_cdf(t: float, freedom: int) -> float:
    return 1 - beta_ratio(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
