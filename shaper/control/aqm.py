"""The target of a leaf's AQM: it moves the delay of TCP in a queue that keeps itself short.

CoDel and PIE hold a queue near their target over many round trips; what a class promises is a percentile, and a crowd
of flows stays above the target for seconds. So the target follows what is measured: down in proportion while the
percentile is over what is wanted of it, and back by no more than leaves it there even if the delay grows as much as the
target does. So one move never calls for the other.

It is never below what a frame and a half take at the rate that the class is served at (RFC 8289, 4.3: no less than one;
CAKE has the same half more), and never above the compiled one. CoDel's interval stays: it is the round trip in which a
sender can answer, which is not shorter for a shorter queue (RFC 8289, 4.4).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from shaper.control.needs import Need, lossy
from shaper.control.setup import ClassSetup, Setup
from shaper.control.state import Memory
from shaper.control.tuning import Tuning
from shaper.model.observation import ClassObservation


class Aim(NamedTuple):
    """A `target` in microseconds; when it last moved, and since when a longer one has been called for."""

    target: int
    moved_at: float | None
    longer_since: float | None


def kept(memory: Memory) -> Aim:
    """As it is."""
    return Aim(memory.grant.target, memory.aimed_at, memory.longer_since)


def aim(
    setup: Setup,
    cls: ClassSetup,
    memory: Memory,
    wanted: Need,
    *,
    seen: ClassObservation,
    rate: float,
    spent: bool,
    now: float,
    tuning: Tuning,
) -> Aim:
    """The target for the `rate` in bit/s that the class is served at.

    With the budget of changes `spent` it only moves for a class that misses its SLA.
    """
    low, high = cls.bounds.target
    here, moved_at = min(high, max(low, memory.grant.target)), memory.aimed_at
    if low == high:
        return Aim(here, moved_at, None)
    shortest = setup.shortest_target(cls, rate, tuning)
    excess, band = wanted.excess, 1 - tuning.queue_band
    if wanted.elastic and excess is not None and excess > 0:
        lower = max(shortest, cls.aimed(here * max(math.exp(-excess), tuning.aqm_cut)))
        # What was measured before the last move says nothing of it.
        since = max(tuning.aqm_settle, seen.delay.window if seen.delay is not None else 0.0)
        settled = moved_at is None or now - moved_at >= since
        if lower <= band * here and settled and not lossy(cls, seen) and (wanted.missed or not spent):
            return Aim(lower, now, None)
    below = wanted.pressed and here < band * shortest
    room = 0.0 if excess is None else -excess - tuning.dead_band
    if here == high or not (below or room >= tuning.queue_band):
        return Aim(here, moved_at, None)
    since = now if memory.longer_since is None else memory.longer_since
    if spent or now - since < (tuning.aqm_settle if below else tuning.window):
        return Aim(here, moved_at, since)
    longer = shortest if below else cls.aimed(here * math.exp(min(room, tuning.aqm_raise)))
    return Aim(min(high, max(longer, here + 1)), now, None)
