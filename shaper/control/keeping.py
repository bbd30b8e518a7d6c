"""The rate that a class keeps while its need varies: in steady state nothing moves.

Up at once; down only when the need was well below for a whole window, and then straight to the most of that window.
"""

from __future__ import annotations

from dataclasses import replace

from shaper.control.setup import ClassSetup
from shaper.control.state import Memory
from shaper.control.tuning import Tuning


def keep(cls: ClassSetup, memory: Memory, needed: float, *, now: float, thin: bool, tuning: Tuning) -> Memory:
    """What it keeps after it `needed` so many bit/s. With too few samples (`thin`) it does not come down."""
    needed = max(needed, float(cls.lowest))
    level = max(memory.level, float(cls.lowest))
    if needed > level * (1 + tuning.apply_up):
        # The largest of few samples is seldom the last: who rises twice in a window gets room for the next time.
        again = memory.grown_at is not None and now - memory.grown_at < tuning.window
        risen = min(needed * (1 + tuning.spare if again else 1), max(needed, float(cls.highest)))
        return replace(memory, level=risen, grown_at=now, lower_since=None)
    if needed >= level * (1 - tuning.slack):
        if memory.level == level and memory.lower_since is None:
            return memory
        return replace(memory, level=level, lower_since=None)
    since, most = (now, needed) if memory.lower_since is None else (memory.lower_since, memory.lower_most)
    most = max(most, needed)
    if thin or now - since < tuning.window:
        return replace(memory, level=level, lower_since=since, lower_most=most)
    return replace(memory, level=most, lower_since=None)
