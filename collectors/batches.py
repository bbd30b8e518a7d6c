"""Delays and losses by batches of neighbouring slices of time, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from collectors.histogram import DelayHistogram
from collectors.slices import Slice, parted

MOST = 40
"""Batches of a class. Of more slices neighbours are merged, down to 21 at least: that is enough for a variance, and
batches are less alike than slices (Schmeiser, Batch size effects in the analysis of simulation output, 1982)."""


@dataclass(slots=True)
class _Batch:
    delays: DelayHistogram
    lost: int = 0


@dataclass(slots=True)
class Batches:
    """Of one class. What it tells are clusters: how many of the packets of each are hits, and how many it has.

    All the time in which the capture listened always is one more cluster: the rest of what came in all. More of its
    packets are looked at than of slices, so it weighs more than it lasted; in one piece, how far it is from them widens
    the interval.
    """

    most: int = MOST
    _each: int = 1
    _batches: dict[int, _Batch] = field(default_factory=dict)

    def add(self, delays: Sequence[float], slices: Sequence[Slice], *, like: DelayHistogram) -> None:
        """Those of one window, delays in seconds; they are kept in the buckets of `like`."""
        lost = {one.number: one.lost for one in slices}
        for number, waited in parted(delays, slices):
            if number:
                batch = self._batches.get(number // self._each)
                if batch is None:
                    batch = self._batches[number // self._each] = _Batch(like.empty())
                batch.delays.add(waited)
                batch.lost += lost[number]
        while len(self._batches) > self.most:
            self._merge()

    def delays(self, whole: DelayHistogram, quantile: float) -> list[tuple[int, int]]:
        """Hits do not exceed the quantile of `whole`, which has all delays, as far as its buckets tell them apart."""
        parts = [batch.delays for batch in self._batches.values()]
        hits, *others = whole.up_to(quantile, [whole, *parts])
        return _with_rest(hits, whole.count, list(zip(others, (part.count for part in parts), strict=True)))

    def losses(self, lost: int, judged: int) -> list[tuple[int, int]]:
        """Hits are lost, in all `lost` of `judged` packets."""
        found = [(batch.lost, batch.lost + batch.delays.count) for batch in self._batches.values()]
        return _with_rest(lost, judged, found)

    def _merge(self) -> None:
        self._each *= 2
        batches, self._batches = self._batches, {}
        for number, batch in batches.items():
            other = self._batches.setdefault(number // 2, batch)
            if other is not batch:
                other.delays.merge(batch.delays)
                other.lost += batch.lost


def _with_rest(hits: int, count: int, clusters: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    rest = hits - sum(one for one, _ in clusters), count - sum(size for _, size in clusters)
    return [rest, *clusters]
