"""When a class wanted more than it got: the time by which a throughput target is judged.

Who begins or ends within a tick has not asked for all of it, though packets wait at one end of it or were dropped: what
was not sent then is demand that was not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shaper.model.observation import ClassObservation


@dataclass(frozen=True, slots=True)
class Waited:
    """For how long a class wanted more than it got, and what it sent meanwhile."""

    seconds: float = 0.0
    bytes: int = 0

    @property
    def rate(self) -> float | None:
        """In bit/s; None where it never waited."""
        return self.bytes * 8 / self.seconds if self.seconds > 0 else None

    def __add__(self, other: Waited) -> Waited:
        return Waited(self.seconds + other.seconds, self.bytes + other.bytes)

    def __sub__(self, other: Waited) -> Waited:
        return Waited(self.seconds - other.seconds, self.bytes - other.bytes)


def waited(ticks: Sequence[ClassObservation]) -> Waited:
    """Of ticks one behind the other, all but the first and the last: what came before and after tells of them."""
    found = Waited()
    for before, tick, after in zip(ticks, ticks[1:], ticks[2:], strict=False):
        if _waits(before, tick, after):
            found += Waited(tick.seconds, tick.sent_bytes)
    return found


def _waits(before: ClassObservation, tick: ClassObservation, after: ClassObservation) -> bool:
    """All of the tick: with a backlog at both ends, or where there is no queue to show it, with drops all around."""
    queued = before.backlog_bytes > 0 and tick.backlog_bytes > 0
    return queued or all(one.dropped_packets > 0 for one in (before, tick, after))
