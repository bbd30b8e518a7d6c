"""When a service counts as unavailable: the one definition of it, for probes and for agreements.

Seconds are looked at one by one. One in which more than half of what was sent was lost is bad. Ten bad ones in a row
begin an unavailable time, which counts from the first of them; ten in a row that are not bad end it, and it ends with
the last before these (as ITU-T Y.1540 and MEF 10 have it). A second in which nothing was sent is no data: it counts as
neither, and nothing goes on across it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INTERVAL = 1.0
IN_A_ROW = 10
WORST_LOSS = 0.5


@dataclass(frozen=True, slots=True)
class Availability:
    """Seconds that were looked at, by what they count as; those without data are in none."""

    available: int = 0
    unavailable: int = 0

    @property
    def seconds(self) -> int:
        """All that were looked at."""
        return self.available + self.unavailable

    @property
    def ratio(self) -> float | None:
        """The share of available seconds, None where there were none to look at."""
        return self.available / self.seconds if self.seconds else None


def unavailable_seconds(seconds: Sequence[tuple[int, int]]) -> tuple[bool, ...]:
    """Whether each of the seconds, given as packets sent and lost, is part of an unavailable time."""
    marked = [False] * len(seconds)
    down, run = False, 0
    for place, (sent, lost) in enumerate(seconds):
        turns = sent > 0 and (lost > WORST_LOSS * sent) is not down
        run = run + 1 if turns else 0
        marked[place] = down
        if run == IN_A_ROW:
            down, run = not down, 0
            marked[place - IN_A_ROW + 1 : place + 1] = [down] * IN_A_ROW
    return tuple(marked)


def availability(seconds: Sequence[tuple[int, int]]) -> Availability:
    """Of the seconds, given as packets sent and lost."""
    marked = [bad for bad, (sent, _) in zip(unavailable_seconds(seconds), seconds, strict=True) if sent]
    return Availability(marked.count(False), marked.count(True))
