"""Distributions of delay: a histogram of all samples in bounded memory, and a sliding window of the newest."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collectors.slices import Slice, parted


class DelayHistogram:
    """A log-linear histogram (as HdrHistogram's): every power of two is cut into equal buckets.

    A bucket is at most `width` of its lower edge wide between `lowest` and `highest` (s), one more bucket below and
    one above. `count`, `sum` (s), `least` and `largest` (s) are exact, and so is how many samples exceed each of the
    `limits` (s).
    """

    def __init__(
        self, *, width: float = 0.01, lowest: float = 1e-6, highest: float = 60.0, limits: Iterable[float] = ()
    ) -> None:
        """Raises ValueError unless 0 < width <= 1 and 0 < lowest < highest."""
        if not (0 < width <= 1 and 0 < lowest < highest):
            raise ValueError(f"no histogram of {width=} from {lowest=} to {highest=}")
        self.lowest = lowest
        self._cuts = math.ceil(1 / width)
        self._last = self._bucket(highest, math.inf) + 1
        self._counts: Counter[int] = Counter()
        self._above = dict.fromkeys(limits, 0)
        self.count = 0
        self.sum = 0.0
        self.least = math.inf
        self.largest = 0.0

    @classmethod
    def counted(
        cls,
        buckets: Mapping[int, int],
        *,
        cuts: int,
        lowest: float,
        octaves: int,
        sum: float,
        least: float | None,
        largest: float,
        above: Mapping[float, int],
    ) -> DelayHistogram:
        """What somebody else has counted, by number of the bucket; `above` has the counts beyond limits.

        `least` and `largest` may be of a moment earlier or later: the buckets that hold something bound them.
        """
        made = cls(width=1 / cuts, lowest=lowest, highest=lowest * 2.0**octaves * (1 - 0.5 / cuts))
        made._counts.update(buckets)
        made._above = dict(above)
        made.count = made._counts.total()
        made.sum = sum
        if made.count:
            first, last = min(made._counts), max(made._counts)
            made.least = min(made._upper_edge(first), made._upper_edge(first - 1) if least is None else least)
            made.largest = max(largest, made._upper_edge(last - 1), made.least)
        return made

    def _bucket(self, delay: float, last: float) -> int:
        """0 for what is below the lowest edge, then ascending."""
        if delay < self.lowest:
            return 0
        mantissa, exponent = math.frexp(delay / self.lowest)  # mantissa in [0.5, 1)
        number = 1 + (exponent - 1) * self._cuts + int((2 * mantissa - 1) * self._cuts)
        return number if number < last else int(last)

    def _upper_edge(self, number: int) -> float:
        octave, cut = divmod(number - 1, self._cuts)
        if number <= 0:
            return self.lowest * (number + 1)
        return math.inf if number >= self._last else self.lowest * 2.0**octave * (1 + (cut + 1) / self._cuts)

    def add(self, delays: Iterable[float]) -> None:
        """Delays in seconds, none negative."""
        samples = tuple(delays)
        if not samples:
            return
        self._counts.update(self._bucket(delay, self._last) for delay in samples)
        for limit in self._above:
            self._above[limit] += sum(1 for delay in samples if delay > limit)
        self.count += len(samples)
        self.sum += math.fsum(samples)
        self.least = min(self.least, *samples)
        self.largest = max(self.largest, *samples)

    def merge(self, other: DelayHistogram) -> None:
        """Adds another's samples; limits that only one of the two has are no longer exact, and left out.

        Raises ValueError when it has other buckets.
        """
        if not self.is_like(other):
            raise ValueError("histograms of different buckets cannot be merged")
        self._counts.update(other._counts)
        self._above = {
            limit: self.count_above(limit) + other.count_above(limit)
            for limit in self._above.keys() | other._above.keys()
            if self.knows(limit) and other.knows(limit)
        }
        self.count += other.count
        self.sum += other.sum
        self.least = min(self.least, other.least)
        self.largest = max(self.largest, other.largest)

    def as_json(self) -> dict[str, Any]:
        """For another process; `from_json` reads it."""
        return {
            "cuts": self._cuts,
            "lowest": self.lowest,
            "last": self._last,
            "counts": sorted(self._counts.items()),
            "above": sorted(self._above.items()),
            "sum": self.sum,
            "least": self.least if self.count else None,
            "largest": self.largest,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DelayHistogram:
        """Raises KeyError, TypeError or ValueError for what is none."""
        made = cls(lowest=float(data["lowest"]))
        made._cuts, made._last = int(data["cuts"]), int(data["last"])
        made._counts = Counter({int(number): int(count) for number, count in data["counts"]})
        made._above = {float(limit): int(count) for limit, count in data.get("above", ())}
        made.count, made.sum = made._counts.total(), float(data["sum"])
        made.least = math.inf if data["least"] is None else float(data["least"])
        made.largest = float(data["largest"])
        return made

    def is_like(self, other: DelayHistogram) -> bool:
        """Whether it has the same buckets."""
        return (self._cuts, self.lowest, self._last) == (other._cuts, other.lowest, other._last)

    def knows(self, limit: float) -> bool:
        """Whether `count_above` of it is exact."""
        return limit in self._above or not self.count or limit >= self.largest or limit < self.least

    def regrouped(self, like: DelayHistogram) -> DelayHistogram:
        """The same samples in another's buckets, each at the upper edge of its own: never too short."""
        made = copy.copy(like)
        made._counts = Counter()
        for number, count in self._counts.items():
            edge = min(max(self._upper_edge(number), self.least), self.largest)
            made._counts[made._bucket(edge, made._last)] += count
        made._above = dict(self._above)
        made.count, made.sum, made.least, made.largest = self.count, self.sum, self.least, self.largest
        return made

    def copy(self) -> DelayHistogram:
        """As it stands now."""
        made = copy.copy(self)
        made._counts = self._counts.copy()
        made._above = dict(self._above)
        return made

    def empty(self) -> DelayHistogram:
        """Another one with the same buckets, without samples and limits."""
        made = DelayHistogram(lowest=self.lowest)
        made._cuts, made._last = self._cuts, self._last
        return made

    def since(self, earlier: DelayHistogram) -> DelayHistogram:
        """The samples that came after `earlier`, a copy of this one then; its `least` and `largest` are bounds."""
        made = self.copy()
        made._counts = self._counts - earlier._counts
        made._above = {limit: n - earlier._above[limit] for limit, n in self._above.items() if limit in earlier._above}
        made.count = self.count - earlier.count
        made.sum = self.sum - earlier.sum
        return made

    def quantile(self, q: float) -> float:
        """The upper order statistic: the smallest sample that at least `q` (0..1) of all samples do not exceed.

        Never below it, and above it by at most `width` of it (below `lowest`: by at most `lowest`; above `highest`: up
        to the largest sample). Raises ValueError without samples.
        """
        return min(max(self._upper_edge(self._holding(q)), self.least), self.largest)

    def up_to(self, q: float, parts: Iterable[DelayHistogram]) -> list[int]:
        """How many samples of each part, which has the same buckets, are in those up to the one of this quantile.

        Raises ValueError without samples.
        """
        last = self._holding(q)
        return [sum(count for number, count in part._counts.items() if number <= last) for part in parts]

    def _holding(self, q: float) -> int:
        """The bucket of the upper order statistic."""
        rank = _rank(q, self.count)
        below = 0
        for number in sorted(self._counts):
            below += self._counts[number]
            if below >= rank:
                return number
        return self._last

    def count_above(self, delay: float) -> int:
        """How many samples exceed `delay` (s): never too few; too many by at most those within `width` below it.

        Exact for one of the limits.
        """
        if delay >= self.largest:
            return 0
        if delay in self._above:
            return self._above[delay]
        first = self._bucket(delay, self._last)
        return sum(count for number, count in self._counts.items() if number >= first)


@dataclass(frozen=True, slots=True)
class DelaySummary:
    """`quantiles` maps a percentile in 0..1 to seconds, `late` a threshold in seconds to the share of samples above it.

    `count` samples came in the `window` seconds; `largest` and `least` in seconds.
    """

    count: int
    window: float
    quantiles: dict[float, float]
    late: dict[float, float]
    largest: float
    least: float


_Tick = tuple[float, float, Sequence[float], Sequence[Slice]]
"""When it began and ended, its delays, and of which slices the last of them are."""


class SlidingDelays:
    """The newest delays of one class: the last tick whole, and ticks before it until there are `least` samples.

    It never reaches back more than `seconds`; a tick that began earlier is left out.
    """

    def __init__(self, *, least: int = 100, seconds: float = 5.0) -> None:
        self._least = least
        self._seconds = seconds
        self._ticks: deque[_Tick] = deque()  # oldest first
        self._count = 0
        self._sliced = 0
        self._ended: float | None = None

    def add(
        self, now: float, delays: Sequence[float], *, seconds: float | None = None, slices: Sequence[Slice] = ()
    ) -> None:
        """The delays (s) of the tick that ends `now`, also when there are none; it began where the last one ended.

        `seconds` is the tick's length, which has to be given only for the first; without it the first has none. Of
        `slices` are the last of the delays, of one after the other.
        """
        began = self._ended if self._ended is not None and seconds is None else now - (seconds or 0.0)
        self._ended = now
        self._ticks.append((began, now, delays, slices))
        self._count += len(delays)
        self._sliced += bool(slices)
        while len(self._ticks) > 1 and (
            self._count - len(self._ticks[0][2]) >= self._least or self._ticks[0][0] < now - self._seconds
        ):
            _, _, gone, sliced = self._ticks.popleft()
            self._count -= len(gone)
            self._sliced -= bool(sliced)

    @property
    def sliced(self) -> bool:
        """Whether any of the delays that `view` is of are of slices of time."""
        return self._sliced > 0

    def in_order(self) -> Iterator[float]:
        """The delays (s) that `view` is of, in the order in which they were given."""
        return (delay for _, _, delays, _ in self._ticks for delay in delays)

    def clusters(self, percentiles: Iterable[float]) -> dict[float, list[tuple[int, int]]]:
        """By percentile: of each slice how many of its delays do not exceed the quantile, and how many it has.

        Delays of no slice make one more, all together.
        """
        parts: dict[int, list[float]] = {}
        for _, _, delays, slices in self._ticks:
            for number, waited in parted(delays, slices):
                parts.setdefault(number, []).extend(waited)
        ordered = sorted(self.in_order())
        limits = {q: ordered[_rank(q, self._count) - 1] for q in percentiles}
        found = [sorted(part) for part in parts.values()]
        return {q: [(bisect_right(part, limit), len(part)) for part in found] for q, limit in limits.items()}

    def view(self, percentiles: Sequence[float], thresholds: Sequence[float]) -> DelaySummary | None:
        """Exact quantiles (upper order statistics) and shares above the thresholds (s); None without a sample."""
        if not self._count:
            return None
        ordered = sorted(self.in_order())
        return DelaySummary(
            count=self._count,
            window=self._ticks[-1][1] - self._ticks[0][0],
            quantiles={q: ordered[_rank(q, self._count) - 1] for q in percentiles},
            late={limit: 1 - bisect_right(ordered, limit) / self._count for limit in thresholds},
            largest=ordered[-1],
            least=ordered[0],
        )


class SlidingHistogram:
    """The same of delays that somebody else has counted: as many ticks, as exact as their histograms.

    It never reaches back more than `seconds`; a tick that began earlier is left out.
    """

    def __init__(self, *, least: int = 100, seconds: float = 5.0) -> None:
        self._least = least
        self._seconds = seconds
        self._ticks: deque[tuple[float, float, DelayHistogram]] = deque()  # began, ended, delays; oldest first
        self._count = 0
        self._ended: float | None = None

    def add(self, now: float, delays: DelayHistogram, *, seconds: float | None = None) -> None:
        """The delays of the tick that ends `now`, also when there are none; it began where the last one ended.

        `seconds` is the tick's length, which has to be given only for the first; without it the first has none. Delays
        in other buckets than those before begin the window anew.
        """
        if self._ticks and not self._ticks[-1][2].is_like(delays):
            self._ticks.clear()
            self._count = 0
        began = self._ended if self._ended is not None and seconds is None else now - (seconds or 0.0)
        self._ended = now
        self._ticks.append((began, now, delays))
        self._count += delays.count
        while len(self._ticks) > 1 and (
            self._count - self._ticks[0][2].count >= self._least or self._ticks[0][0] < now - self._seconds
        ):
            self._count -= self._ticks.popleft()[2].count

    def view(self, percentiles: Sequence[float], thresholds: Sequence[float]) -> DelaySummary | None:
        """Quantiles and shares above the thresholds (s) as the histograms have them; None without a sample."""
        if not self._count:
            return None
        held = [delays for _, _, delays in self._ticks if delays.count]
        whole = held[0].copy()
        for delays in held[1:]:
            whole.merge(delays)
        return DelaySummary(
            count=whole.count,
            window=self._ticks[-1][1] - self._ticks[0][0],
            quantiles={q: whole.quantile(q) for q in percentiles},
            late={limit: whole.count_above(limit) / whole.count for limit in thresholds},
            largest=whole.largest,
            least=whole.least,
        )


def _rank(q: float, count: int) -> int:
    """The rank, from 1, of the upper order statistic. Raises ValueError without samples or with q outside 0..1."""
    if not count or not 0 <= q <= 1:
        raise ValueError(f"no quantile {q} of {count} samples")
    return max(1, math.ceil(q * count - 1e-9))  # 0.07 * 100 is a little more than 7
