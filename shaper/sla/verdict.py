"""Whether a change made anything worse: each class's delay and loss after it against before. Pure.

A class that is worse, and a class of which too little is known, both speak against the change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shaper.units import format_duration, format_percent

LEAST = 100
"""Packets that each period must have of a class to say anything."""

QUANTILE = 0.95
_RATIO, _STEP = 1.25, 0.001
"""A delay is worse when it is above this ratio of the one before and at least so many seconds above it."""

_LOSS, _SIGMAS = 0.001, 3.0
"""A loss is worse when it is so much above the one before, beyond so many standard errors of both samples."""


@dataclass(frozen=True, slots=True)
class Period:
    """One class in one span of time: `delay` is the QUANTILE of `samples` matched packets in seconds.

    `sent` and `dropped` are the kernel's counts.
    """

    samples: int
    delay: float | None
    sent: int
    dropped: int

    @property
    def offered(self) -> int:
        return self.sent + self.dropped


@dataclass(frozen=True, slots=True)
class Verdict:
    """`against` is every reason not to keep the change, none where it is good; `judged` classes were compared."""

    against: tuple[str, ...]
    judged: int
    packets: int

    @property
    def good(self) -> bool:
        return not self.against


def compare(before: Mapping[str, Period], after: Mapping[str, Period], *, spare: frozenset[str]) -> Verdict:
    """Judges every class that carried a packet before or after.

    Classes in `spare`, those that the policy did not write, are left out where there is too little of them. When no
    class can be judged nothing is known, and that is no confirmation.
    """
    against: list[str] = []
    judged = packets = 0
    for path in sorted({*before, *after}):
        old, new = before.get(path, _NONE), after.get(path, _NONE)
        if not old.offered and not new.offered:
            continue
        few = _too_few(old, new)
        if few and path in spare:
            continue
        judged += 1
        packets += new.offered
        against.extend(f"{path}: {reason}" for reason in ([few] if few else _worse(old, new)))
    if not judged:
        against.append("no class carried any traffic, so nothing was measured")
    return Verdict(tuple(against), judged, packets)


_NONE = Period(0, None, 0, 0)


def _too_few(old: Period, new: Period) -> str:
    for when, period in (("before", old), ("after", new)):
        if period.offered < LEAST:
            return f"only {period.offered} packets {when} the change, {LEAST} are needed"
        if period.samples < LEAST:
            return f"the delay of only {period.samples} packets was measured {when} the change, {LEAST} are needed"
    return ""


def _worse(old: Period, new: Period) -> list[str]:
    found = []
    assert old.delay is not None
    assert new.delay is not None
    if new.delay > old.delay * _RATIO and new.delay > old.delay + _STEP:
        found.append(
            f"its delay (p{QUANTILE * 100:.0f}) went from {format_duration(old.delay)} to "
            f"{format_duration(new.delay)} ({new.samples} packets)"
        )
    was, now = old.dropped / old.offered, new.dropped / new.offered
    noise = math.sqrt(was * (1 - was) / old.offered + now * (1 - now) / new.offered)
    if now > was + _LOSS + _SIGMAS * noise:
        found.append(f"its loss went from {format_percent(was)} to {format_percent(now)} ({new.offered} packets)")
    return found
