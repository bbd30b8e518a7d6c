"""From what the kernel has counted since the start to windows: differences, the envelope of arrivals, what was lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import itemgetter

from collectors.bpf.counts import BINS, LOWEST, OCTAVES, ClassCounts, Health
from collectors.bpf.delays import KernelDelays
from collectors.envelope import GRID, Envelope
from collectors.histogram import DelayHistogram
from collectors.sample import EBPF, CaptureWindow, ClassWindow

BIN_NS = 1 << 20
"""The kernel keeps arrivals by so many nanoseconds."""

_NONE = ClassCounts(0, 0, 0, 0, 0, 0, 0, 0.0, None, 0.0, ())
_MOST = 120_000
"""Packets a second that are stamped each; of more only one in `_FEWER`, and so on."""
_FEWER, _FEWEST = 16, 256
_COPIED = 40_000
"""Packets a second that the kernel copies each, so that losses are told; of more each is known by its address."""
_CUT = 60.0
"""Seconds without a super-packet after one was cut behind the queue, until addresses are trusted again."""
_ROW = 32
_SWEEP = 0.5
"""Seconds between looks for lost packets: each reads all stamps there are."""


class KernelWindows:
    """Windows of one `KernelDelays`; `horizon` (s) must exceed the longest wait in the queue, `taus` are in seconds."""

    def __init__(self, delays: KernelDelays, *, horizon: float, taus: Sequence[float], now: float) -> None:
        """`now` is the monotonic time in seconds, here and below."""
        self._delays = delays
        self._horizon = horizon
        self._taus = taus
        self._before: dict[int, ClassCounts] = {}
        self._healthy = Health(0, 0, 0, 0)
        self._since = self._swept = now
        self._whole = Whole()
        self._dense = False
        self._flying: Mapping[int, int] = {}
        self._arrivals: dict[int, Arrivals] = {}

    def window(self, *, now: float, queued: Mapping[int, int] | None = None) -> CaptureWindow:
        """What was counted since the last one. Raises CaptureError where packets are seen no more.

        `queued` packets by classid end the account: what neither left nor is queued was lost.
        """
        self._delays.check()
        counts, health = self._delays.read()
        lost: Mapping[int, int] = {}
        if queued is not None or now - self._swept >= _SWEEP:
            self._swept = now
            lost, self._flying = self._delays.sweep(before=int((now - self._horizon) * 1e9))
        if queued is not None:
            held = {handle: min(count, queued.get(handle, 0)) for handle, count in self._flying.items()}
            gone = {handle: count - held[handle] for handle, count in self._flying.items()}
            lost, self._flying = _sum(lost, gone), held
        classes = {
            handle: difference(
                self._before.get(handle, _NONE),
                after,
                lost=lost.get(handle, 0),
                envelope=self._envelope(handle, after, int(now * 1e9)),
            )
            for handle, after in counts.items()
        }
        totals = [(self._before.get(handle, _NONE), after) for handle, after in counts.items()]
        window = CaptureWindow(
            seconds=max(0.0, now - self._since),
            classes=classes,
            captured=sum(after.stamped - before.stamped + after.matched - before.matched for before, after in totals),
            capture_drops=sum(after.no_room - before.no_room for before, after in totals),
            ambiguous=sum(after.ambiguous - before.ambiguous for before, after in totals),
            undecoded=health.undecoded - self._healthy.undecoded,
            super_packets=0,  # their segments are counted, and their delay is that of the first
            in_flight={handle: count for handle, count in self._flying.items() if count},
            sampling=self._delays.sampling,
            unmatched=health.unknown - self._healthy.unknown,
            source=EBPF,
            counted_all=True,
            copied=self._delays.copied,
        )
        arrived = sum(after.arrived - before.arrived for before, after in totals)
        rate = arrived / window.seconds if window.seconds else 0.0
        wanted = sampling_for(rate, window.sampling)
        if wanted != window.sampling:
            self._delays.sample(wanted)
        whole = self._whole.after(self._healthy, health, now=now)
        self._dense = rate > (_COPIED / 2 if self._dense else _COPIED)
        self._delays.prefer(addresses=self._dense and whole)
        self._before, self._healthy, self._since = counts, health, now
        return window

    def _envelope(self, handle: int, after: ClassCounts, now: int) -> dict[float, int]:
        """None without new arrivals: most classes have none that are inelastic."""
        arrivals = self._arrivals.get(handle)
        if arrivals is None:
            arrivals = self._arrivals[handle] = Arrivals(self._taus, since=int(self._since * 1e9))
        before = self._before.get(handle, _NONE)
        if after.inelastic_bytes == before.inelastic_bytes:
            return {}
        return arrivals.take(self._delays.bins(handle), now)


def sampling_for(rate: float, present: int) -> int:
    """Of how many packets one is stamped at a rate of packets a second, where it is one in `present` now.

    It comes back only when the rate has fallen to half, so that it does not go to and fro.
    """
    wanted = 1
    while wanted < _FEWEST and rate / wanted > _MOST:
        wanted *= _FEWER
    return present if wanted < present and rate / wanted > _MOST / 2 else wanted


class Whole:
    """Whether packets come out of the queue as they came: of a super-packet that is cut behind it no part has its
    address, and its bytes alone tell."""

    def __init__(self) -> None:
        self._until = -math.inf

    def after(self, before: Health, health: Health, *, now: float) -> bool:
        """What two readings say of it; `now` in seconds."""
        cut = health.cut > before.cut
        if cut or (now < self._until and health.super_packets > before.super_packets):
            self._until = now + _CUT
        return now >= self._until


class Arrivals:
    """The arrival envelope of one class from the kernel's bins, of which the newest may still grow."""

    def __init__(self, taus: Sequence[float], *, since: int) -> None:
        """`taus` in seconds; `since` in nanoseconds."""
        self._envelope = Envelope(taus)
        self._newest = since // BIN_NS
        self._counted = 0

    def take(self, bins: Sequence[int], now: int) -> dict[float, int]:
        """tau in seconds -> the most bytes in any window of that length that ends since the last call.

        `bins` hold the generation (which time round) in the upper half of a word, bytes in the lower.
        """
        last = max(self._newest, now // BIN_NS)
        begin = max(self._newest, last - BINS + 2)
        sizes = _sizes(bins, begin, last)
        newest, counted = self._newest, self._counted
        self._newest, self._counted = last, sizes[-1]
        if begin == newest:
            sizes[0] -= counted
        first, at_grid = _places(begin, last)
        self._envelope.extend(first, at_grid([0, *accumulate(sizes)]))
        return self._envelope.take()


def _sizes(bins: Sequence[int], begin: int, last: int) -> list[int]:
    """Bytes by bin, both ends included; 0 where a word is of another time round."""
    found: list[int] = []
    while begin <= last:
        end = min(last, begin | (BINS - 1))
        generation = (begin // BINS & 0xFFFFFFFF) << 32
        words = bins[begin % BINS : end % BINS + 1]
        found += [size if (size := word ^ generation) < 1 << 32 else 0 for word in words]
        begin = end + 1
    return found


@lru_cache(maxsize=64)
def _places(begin: int, last: int) -> tuple[int, Callable[[Sequence[int]], tuple[int, ...]]]:
    """The first bin of the envelope's grid that the kernel's bins fall into, and what picks, of a value for the
    beginning of each of those and for the end of the last, the values where the grid's begin and end."""
    first, end = begin * BIN_NS // GRID, last * BIN_NS // GRID
    inner = (-(-number * GRID // BIN_NS) - begin for number in range(first + 1, end + 1))
    return first, itemgetter(0, *inner, last + 1 - begin)


def difference(before: ClassCounts, after: ClassCounts, *, lost: int, envelope: Mapping[float, int]) -> ClassWindow:
    """What came between two readings of the same class."""
    buckets: dict[int, int] = {}
    if after.matched != before.matched:
        buckets = _grown(before.delays or (0,) * len(after.delays), after.delays)
    histogram = DelayHistogram.counted(
        buckets,
        cuts=after.cuts,
        lowest=LOWEST,
        octaves=OCTAVES,
        sum=after.delay_sum - before.delay_sum,
        least=after.least,
        largest=after.largest,
        above={limit: late - before.late.get(limit, 0) for limit, late in after.late.items()},
    )
    return ClassWindow(
        histogram=histogram,
        arrived_packets=after.arrived - before.arrived,
        arrived_bytes=after.arrived_bytes - before.arrived_bytes,
        inelastic_bytes=after.inelastic_bytes - before.inelastic_bytes,
        taken=after.stamped - before.stamped,
        matched=histogram.count,
        lost=lost,
        envelope=envelope,
    )


def _grown(before: Sequence[int], after: Sequence[int]) -> dict[int, int]:
    """By how much each bucket did. Most stand as they stood, and so do most rows of them, which are compared first."""
    found: dict[int, int] = {}
    for begin in range(0, len(after), _ROW):
        row, stood = after[begin : begin + _ROW], before[begin : begin + _ROW]
        if row != stood:
            found |= {
                number: new - old for number, (new, old) in enumerate(zip(row, stood, strict=True), begin) if new != old
            }
    return found


def _sum(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {handle: one.get(handle, 0) + other.get(handle, 0) for handle in one.keys() | other.keys()}
