"""The arrival envelope E(tau) of network calculus, measured: the most bytes that came in any window of length tau."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import sub

GRID = 2_000_000
"""Windows begin and end on a grid of 2 ms (ns)."""


class Envelope:
    """Arrivals of one class. Bins are kept no further back than the longest window."""

    def __init__(self, taus: Sequence[float]) -> None:
        """`taus` in seconds, rounded to the grid."""
        self._widths = {tau: max(1, round(tau * 1e9 / GRID)) for tau in taus}
        self._reach = max(self._widths.values(), default=1)
        self._sizes: list[int] = []  # of the bins up to the newest, which is not empty
        self._newest = -1  # its number on the grid
        self._fresh = 0  # first position that has grown since the last take()

    def add(self, stamp: int, size: int) -> None:
        """`size` bytes came at `stamp` (ns). Stamps ascend; one that falls behind counts with the newest bin."""
        ahead = stamp // GRID - self._newest
        if self._sizes and ahead <= 0:
            self._sizes[-1] += size
            self._fresh = min(self._fresh, len(self._sizes) - 1)
            return
        if self._sizes:
            silent = min(ahead - 1, self._reach)  # of a longer silence no window sees the other end
            self._fresh += silent if self._fresh == len(self._sizes) else 0
            self._sizes += [0] * silent
        self._sizes.append(size)
        self._newest += ahead

    def extend(self, first: int, sizes: Sequence[int]) -> None:
        """As if each of the sizes (bytes) had been added in a bin of the grid, one after the other from `first` on."""
        used = [number for number, size in enumerate(sizes) if size]
        if not used:
            return
        behind = max(used[0], min(used[-1], self._newest - first if self._sizes else 0))
        self.add((first + behind) * GRID, sum(sizes[: behind + 1]))
        self._sizes += sizes[behind + 1 : used[-1] + 1]
        self._newest += used[-1] - behind

    def take(self) -> dict[float, int]:
        """tau in seconds -> the most bytes in any window of that length that ends in a bin grown since the last."""
        fresh, count = self._fresh, len(self._sizes)
        sums = [0, *accumulate(self._sizes)]
        ends = sums[fresh + 1 :]
        most: dict[float, int] = {}
        for tau, width in self._widths.items():
            early = max(0, width - fresh - 1)  # windows that begin before the first bin
            begins = [0] * early + sums[max(0, fresh + 1 - width) : max(0, count + 1 - width)]
            most[tau] = max(map(sub, ends, begins), default=0)
        del self._sizes[: -self._reach]
        self._fresh = len(self._sizes)
        return most
