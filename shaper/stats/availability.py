"""Availability by seconds, as ITU-T Y.1540 (section 7) and Y.1563 define it for packet networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SEVERE = 0.5
"""A second that loses more than this is severely errored."""

IN_A_ROW = 10


@dataclass(frozen=True, slots=True)
class Availability:
    """Seconds of each kind. `unknown` had no packet: they say nothing, and are in no ratio."""

    available: int
    unavailable: int
    unknown: int

    @property
    def ratio(self) -> float | None:
        """Of the seconds that are known; None without any."""
        known = self.available + self.unavailable
        return self.available / known if known else None

    @property
    def coverage(self) -> float | None:
        """Known seconds of all; None without a second."""
        every = self.available + self.unavailable + self.unknown
        return (self.available + self.unavailable) / every if every else None


class AvailabilityCount:
    """Seconds as they come, in order: `(offered, lost)` packets of each. The service is available at first.

    It is unavailable from the first of ten severely errored seconds in a row, until the first of ten in a row that are
    not. A second without packets neither lengthens nor ends a row.
    """

    def __init__(self, *, severe: float = SEVERE, in_a_row: int = IN_A_ROW) -> None:
        self._severe, self._in_a_row = severe, in_a_row
        self._counts = {True: 0, False: 0}
        self._unknown = self._row = 0
        self._up = True

    def add(self, offered: int, lost: int) -> None:
        """One more second."""
        if offered <= 0:
            self.skip(1)
            return
        bad = lost > self._severe * offered
        self._row = self._row + 1 if bad is self._up else 0
        self._counts[self._up] += 1
        if self._row == self._in_a_row:  # the row itself belongs to what it begins
            self._counts[self._up] -= self._row
            self._up = not self._up
            self._counts[self._up] += self._row
            self._row = 0

    def skip(self, seconds: int) -> None:
        """So many more of which nothing is known."""
        self._unknown += seconds

    @property
    def found(self) -> Availability:
        """Of all seconds so far."""
        return Availability(self._counts[True], self._counts[False], self._unknown)


def availability(
    seconds: Iterable[tuple[int, int]], *, severe: float = SEVERE, in_a_row: int = IN_A_ROW
) -> Availability:
    """Of seconds that are all there, as `AvailabilityCount` takes them one by one."""
    count = AvailabilityCount(severe=severe, in_a_row=in_a_row)
    for offered, lost in seconds:
        count.add(offered, lost)
    return count.found
