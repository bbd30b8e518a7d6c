"""How many packets of a class had which colour, from the counters of its policers."""

from __future__ import annotations

from shaper.compile.program import Program
from shaper.kernel.protocol import DeviceCounters, PolicerCounters
from shaper.model.status import Policed

_NONE = PolicerCounters(0, 0)


def policed(program: Program, path: str, counters: DeviceCounters) -> Policed | None:
    """None for a class that nothing polices.

    What exceeds the peak rate is red and never comes to the committed one's policer. With one rate what exceeds is red.
    """
    indexes = program.policers.get(path, ())
    if not indexes:
        return None
    *peak, committed = (counters.policers.get(index, _NONE) for index in indexes)
    green = max(0, committed.packets - committed.exceeded)
    if not peak:
        return Policed(green, 0, committed.exceeded)
    return Policed(green, committed.exceeded, peak[0].exceeded)
