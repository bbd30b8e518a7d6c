"""Classes that yield: they start at their floor, borrow up to their guarantee, and get it as a rate only when harmed.

A rate is served before anybody borrows, so a class that was promised much takes from the tiers above it once its rate
is high. It is therefore raised late and slowly, and what a higher tier needs is taken from it at once.
"""

from __future__ import annotations

from dataclasses import replace

from shaper.control.needs import Need
from shaper.control.setup import ClassSetup
from shaper.control.state import Memory
from shaper.control.tuning import Tuning


def entitle(
    cls: ClassSetup, memory: Memory, wanted: Need, *, calm: bool, now: float, seconds: float, tuning: Tuning
) -> Memory:
    """What of its guarantee the class is given back. `calm` says that every tier above has what it needs."""
    if cls.guarantee <= cls.lowest:
        return memory
    harmed = calm and wanted.pressed and wanted.throughput < 0.98 * cls.guarantee
    since = (memory.harmed_since if memory.harmed_since is not None else now) if harmed else None
    restored = memory.restored
    if since is not None and now - since >= tuning.restore_wait:
        restored += tuning.restore_up * cls.guarantee * seconds
    elif wanted.throughput > tuning.restore_surplus * cls.guarantee or wanted.demand < restored:
        restored -= tuning.restore_down * cls.guarantee * seconds
    restored = min(float(cls.guarantee), max(float(cls.lowest), restored))
    return replace(memory, restored=restored, harmed_since=since)


def given_back(cls: ClassSetup, memory: Memory, tuning: Tuning) -> float:
    """The restored part: it rises in whole steps, so that a slow rise makes few changes, and falls without."""
    span = cls.guarantee - cls.lowest
    if span <= 0 or memory.restored >= cls.guarantee:
        return float(max(cls.guarantee, cls.lowest))
    step = span / tuning.restore_steps
    risen = cls.lowest + step * int((memory.restored - cls.lowest) / step)
    return max(risen, min(memory.restored, memory.grant.rate))
