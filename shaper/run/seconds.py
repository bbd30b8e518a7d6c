"""From the ticks of a run, of whatever length, to seconds one by one, as availability is counted in them."""

from __future__ import annotations

from shaper.stats import Availability, AvailabilityCount

_LONGEST = 1.5
"""A tick of more seconds says nothing of any single one."""


class EachSecond:
    """What was offered and lost in each second of boot time. Ticks fall to the second in which they end."""

    def __init__(self) -> None:
        self._count = AvailabilityCount()
        self._number: int | None = None
        self._offered = self._lost = 0

    def add(self, now: float, seconds: float, *, offered: int, lost: int) -> None:
        """A tick of `seconds` that ends at boot time `now`, in packets. A second that no tick ends in is unknown."""
        number = int(now)
        if self._number is not None and number > self._number:
            self._count.add(self._offered, self._lost)
            self._count.skip(number - self._number - 1)
            self._offered = self._lost = 0
        self._number = number
        if seconds <= _LONGEST:
            self._offered += offered
            self._lost += lost

    @property
    def availability(self) -> Availability:
        """Of the seconds that are over."""
        return self._count.found
