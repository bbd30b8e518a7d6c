"""How much of a period a class's agreement held: of the seconds that were judged, and how many were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shaper.model.shortage import Shortage
from shaper.model.sla import SlaState
from shaper.stats.batches import batch_means
from shaper.stats.interval import Interval


@dataclass(frozen=True, slots=True)
class Look:
    """A class in one second of wall time: what was judged then, and whether it carried anything at all."""

    second: int
    state: SlaState
    idle: bool


@dataclass(frozen=True, slots=True)
class Attainment:
    """Seconds of a period of `seconds`: those that were `met` and `missed`, of `no_data` and `idle` ones.

    What is left nobody looked at. Of those missed the link was too small in `capacity`. `longest` is the longest row of
    missed seconds; `interval` that of `ratio` with 95 % confidence, None of a period too short for batches.
    """

    seconds: int
    met: int
    missed: int
    capacity: int
    no_data: int
    idle: int
    longest: int
    interval: Interval | None

    @property
    def ratio(self) -> float | None:
        """Of the seconds judged those that were met; None where none was: missing data is never good."""
        judged = self.met + self.missed
        return self.met / judged if judged else None

    @property
    def coverage(self) -> float:
        """The share of the period of which something is known: judged, or without traffic."""
        return min(1.0, (self.met + self.missed + self.idle) / self.seconds)


def attainment(
    looks: Sequence[Look], *, seconds: int, shortages: Sequence[Shortage] = (), window: float = 0.0
) -> Attainment:
    """One class's looks, by time, of a period of so many seconds (at least one).

    `shortages` are the class's own; a look tells of the `window` (s) that ends with its second.
    """
    lacking = [one for one in shortages if one.of_capacity]
    judged: list[bool] = []
    capacity = no_data = idle = longest = row = 0
    before: int | None = None
    for look in looks:
        if look.state is SlaState.MISSED:
            row = row + 1 if before == look.second - 1 else 1
            before = look.second
            longest = max(longest, row)
            capacity += any(one.overlaps(look.second + 1 - window, look.second + 1) for one in lacking)
        if look.state is SlaState.MISSED or (look.state is SlaState.MET and not look.idle):
            judged.append(look.state is SlaState.MET)
        elif look.idle:
            idle += 1
        else:
            no_data += 1
    met = sum(judged)
    return Attainment(seconds, met, len(judged) - met, capacity, no_data, idle, longest, batch_means(judged))
