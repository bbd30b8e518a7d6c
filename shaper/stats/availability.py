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


def availability(
    seconds: Iterable[tuple[int, int]], *, severe: float = SEVERE, in_a_row: int = IN_A_ROW
) -> Availability:
    """`seconds` are `(offered, lost)` packets of each, in order; the service is available at first.

    It is unavailable from the first of ten severely errored seconds in a row, until the first of ten in a row that are
    not. A second without packets neither lengthens nor ends a row.
    """
    counts = {True: 0, False: 0}
    unknown = row = 0
    up = True
    for offered, lost in seconds:
        if offered <= 0:
            unknown += 1
            continue
        bad = lost > severe * offered
        row = row + 1 if bad is up else 0
        counts[up] += 1
        if row == in_a_row:  # the row itself belongs to what it begins
            counts[up] -= row
            up = not up
            counts[up] += row
            row = 0
    return Availability(counts[True], counts[False], unknown)
