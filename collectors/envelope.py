"""The arrival envelope E(tau) of network calculus, measured: the most bytes that came in any window of length tau."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

GRID = 2_000_000
"""Windows begin and end on a grid of 2 ms (ns)."""


class Envelope:
    """Arrivals of one class. Only bins that hold something are kept, and only as far back as the longest window."""

    def __init__(self, taus: Sequence[float]) -> None:
        """`taus` in seconds, rounded to the grid."""
        self._widths = {tau: max(1, round(tau * 1e9 / GRID)) for tau in taus}
        self._reach = max(self._widths.values(), default=1)
        self._bins: list[int] = []  # number of the bin on the grid, ascending
        self._sizes: list[int] = []
        self._fresh = 0  # first position that has grown since the last take()

    def add(self, stamp: int, size: int) -> None:
        """`size` bytes came at `stamp` (ns). Stamps ascend; one that falls behind counts with the newest bin."""
        number = stamp // GRID
        if self._bins and number <= self._bins[-1]:
            self._sizes[-1] += size
            self._fresh = min(self._fresh, len(self._bins) - 1)
        else:
            self._bins.append(number)
            self._sizes.append(size)

    def take(self) -> dict[float, int]:
        """tau in seconds -> the most bytes in any window of that length that ends in a bin grown since the last."""
        bins = self._bins
        sums = [0, *accumulate(self._sizes)]
        most: dict[float, int] = {}
        for tau, width in self._widths.items():
            largest = 0
            start = 0
            for end in range(self._fresh, len(bins)):
                while bins[start] <= bins[end] - width:
                    start += 1
                largest = max(largest, sums[end + 1] - sums[start])
            most[tau] = largest
        if bins:
            old = bisect_right(bins, bins[-1] - self._reach)
            del self._bins[:old], self._sizes[:old]
        self._fresh = len(self._bins)
        return most
