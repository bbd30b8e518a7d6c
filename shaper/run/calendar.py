"""What a policy's schedule says as the wall clock goes on."""

from __future__ import annotations

from shaper.model.policy import Interface
from shaper.model.status import ScheduleStatus

_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0


def outlook(interface: Interface, at: float) -> ScheduleStatus | None:
    """What holds at an instant (Unix time, s), and what comes next; None where nothing is scheduled."""
    timetable = interface.timetable
    if timetable is None:
        return None
    holds, change = timetable.words(timetable.phase(at)), timetable.next_change(at)
    if change is None:
        return ScheduleStatus(holds)
    return ScheduleStatus(holds, change, timetable.local(change), timetable.words(timetable.phase(change)))


class Calendar:
    """Of one running interface: which numbers it should have by now, and what comes next.

    It is asked at every tick and goes by the wall clock alone, so it does not matter how that came to where it is: by
    going on, by being set, or by waking up after a night. A change that fails is tried again after longer and longer
    pauses; those are boot time in seconds.
    """

    def __init__(self) -> None:
        self._asked = 0.0
        self._outlook: ScheduleStatus | None = None
        self._of: Interface | None = None
        self._rests_until = self._pause = 0.0

    def due(self, interface: Interface, *, at: float, now: float) -> Interface | None:
        """The interface as it should be, where that is another than it is and it is time to try."""
        timed = interface.at(at)
        return timed if timed.phase != interface.phase and now >= self._rests_until else None

    def tries(self, now: float) -> None:
        """The change is being made; should it fail, the next attempt waits."""
        self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
        self._rests_until = now + self._pause

    def succeeded(self) -> None:
        self._rests_until = self._pause = 0.0

    def outlook(self, interface: Interface, at: float) -> ScheduleStatus | None:
        """As the function; worked out again only when time has left what was known."""
        known = self._outlook
        until = known.next_at if known is not None and known.next_at is not None else float("inf")
        if self._of is not interface or not self._asked <= at < until:
            self._asked, self._of, self._outlook = at, interface, outlook(interface, at)
        return self._outlook
