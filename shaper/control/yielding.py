"""Classes that yield: they start at their floor, borrow up to their guarantee, and get it as a rate only when harmed.

A rate is served before anybody borrows, so a class that was promised much takes from the tiers above it once its rate
is high. It is therefore raised late and in steps, and what a higher tier needs is taken from it at once. It helps only
where others borrow more than they were promised: what they have by right no rate of a lower tier brings back.
"""

from __future__ import annotations

from dataclasses import replace

from shaper.control.needs import Need
from shaper.control.setup import ClassSetup
from shaper.control.state import Memory
from shaper.control.tuning import Tuning


def entitle(
    cls: ClassSetup, memory: Memory, wanted: Need, *, calm: bool, takeable: float, now: float, tuning: Tuning
) -> Memory:
    """What of its guarantee the class is given back. `calm` says that every tier above has what it needs; `takeable`
    is what the others have beyond their needs and guarantees and could lose without being late, in bit/s."""
    if cls.guarantee <= cls.lowest:
        return memory
    least = tuning.restore_short * cls.guarantee
    short = cls.guarantee - wanted.throughput > least
    harmed = calm and wanted.pressed and short and takeable > least
    eased = wanted.throughput > tuning.restore_surplus * cls.guarantee or wanted.demand < memory.restored
    harmed_since = (memory.harmed_since if memory.harmed_since is not None else now) if harmed else None
    eased_since = (memory.eased_since if memory.eased_since is not None else now) if eased else None
    restored = memory.restored
    if harmed_since is not None and now - harmed_since >= tuning.restore_wait:
        # Below what it has by borrowing a rate changes nothing.
        restored = max(restored, wanted.throughput) + min(tuning.restore_step * cls.guarantee, takeable)
        harmed_since = now
    elif eased_since is not None and now - eased_since >= tuning.window:
        restored, eased_since = float(cls.lowest), None
    restored = min(float(cls.guarantee), max(float(cls.lowest), restored))
    if (restored, harmed_since, eased_since) == (memory.restored, memory.harmed_since, memory.eased_since):
        return memory
    return replace(memory, restored=restored, harmed_since=harmed_since, eased_since=eased_since)
