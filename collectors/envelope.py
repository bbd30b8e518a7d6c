"""The arrival envelope E(tau) of network calculus, measured: the most bytes that came in any window of length tau."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import sub

GRID = 2_000_000
"""Windows begin and end on a grid of 2 ms (ns)."""


class Envelope:
    """Arrivals of one class. Bins are kept no further back than the longest window."""

    def __init__(self, taus: Sequence[float]) -> None:
        """`taus` in seconds, rounded to the grid."""
        self._widths = {tau: max(1, round(tau * 1e9 / GRID)) for tau in taus}
        self._reach = max(self._widths.values(), default=1)
        self._sums = [0]  # bytes up to the beginning of each bin, and to the end of the newest, which is not empty
        self._newest = -1  # its number on the grid
        self._fresh = 0  # first bin that has grown since the last take()

    def add(self, stamp: int, size: int) -> None:
        """`size` bytes came at `stamp` (ns). Stamps ascend; one that falls behind counts with the newest bin."""
        ahead = stamp // GRID - self._newest
        count = len(self._sums) - 1
        if count and ahead <= 0:
            self._sums[-1] += size
            self._fresh = min(self._fresh, count - 1)
            return
        if count:
            silent = min(ahead - 1, self._reach)  # of a longer silence no window sees the other end
            self._fresh += silent if self._fresh == count else 0
            self._sums += [self._sums[-1]] * silent
        self._sums.append(self._sums[-1] + size)
        self._newest += ahead

    def extend(self, first: int, sums: Sequence[int]) -> None:
        """As if the bytes of one bin of the grid after the other had been added, from `first` on.

        `sums` are the bytes from some beginning to where each of them begins, and to the end of the last.
        """
        if sums[-1] == sums[0]:
            return
        begin, end = bisect_right(sums, sums[0]), bisect_left(sums, sums[-1])  # between them all that came
        known = len(self._sums) > 1
        behind = max(begin, min(end, self._newest - first + 1 if known else 0))
        self.add((first + behind - 1) * GRID, sums[behind] - sums[0])
        before = self._sums[-1] - sums[behind]
        self._sums += [before + each for each in sums[behind + 1 : end + 1]]
        self._newest += end - behind

    def take(self) -> dict[float, int]:
        """tau in seconds -> the most bytes in any window of that length that ends in a bin grown since the last."""
        sums, fresh, count = self._sums, self._fresh, len(self._sums) - 1
        ends = sums[fresh + 1 :]
        most: dict[float, int] = {}
        for tau, width in self._widths.items():
            early = max(0, width - fresh - 1)  # windows that begin before the first bin
            begins = sums[:1] * early + sums[max(0, fresh + 1 - width) : max(0, count + 1 - width)]
            most[tau] = max(map(sub, ends, begins), default=0)
        del self._sums[: -self._reach - 1]
        self._fresh = len(self._sums) - 1
        return most
