"""What comes through a queue that stands: C = S / (1 + d(delay)/dt), where S is what was sent meanwhile.

A queue of Q bits at C bit/s makes wait Q / C; sent S bit/s it grows by S - C, so its delay by (S - C) / C a second.
This holds while it fills and while it drains, as long as it is not empty and loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from shaper.control.link.state import Excess
from shaper.control.link.tuning import Tuning

_LEAST_SLOPE = -0.9


def capacity(
    excesses: Sequence[Excess], sent: Sequence[tuple[float, float]], *, standing: float, tuning: Tuning
) -> float | None:
    """In bit/s, of the newest samples that found a queue of `standing` seconds or more; None where they are too few."""
    newest: list[Excess] = []
    for one in reversed(excesses):
        if one.delay < standing or (newest and newest[0].at - one.at > tuning.reach):
            break
        newest.append(one)
    if len(newest) < tuning.least_samples or newest[0].at - newest[-1].at < tuning.least_span:
        return None
    bits = between(sent, newest[-1].at, newest[0].at)
    if bits is None:
        return None
    slope = max(_LEAST_SLOPE, _slope([(one.at, one.delay) for one in newest]))
    return bits / (newest[0].at - newest[-1].at) / (1 + slope)


def between(sent: Sequence[tuple[float, float]], since: float, until: float) -> float | None:
    """The bits sent between two times, from (time, bits since the start); None before the first of them."""
    if not sent or since < sent[0][0] or until > sent[-1][0] or until <= since:
        return None
    return _at(sent, until) - _at(sent, since)


def _at(sent: Sequence[tuple[float, float]], time: float) -> float:
    for (before, low), (after, high) in pairwise(sent):
        if before <= time <= after:
            return low + (high - low) * (time - before) / (after - before)
    return sent[-1][1]


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """By least squares."""
    count = len(points)
    x = sum(at for at, _ in points) / count
    y = sum(value for _, value in points) / count
    spread = sum((at - x) ** 2 for at, _ in points)
    return sum((at - x) * (value - y) for at, value in points) / spread
