"""How many packets a capture looks at: one in a power of two, by its own load.

The samples are nested (RFC 5475, hash-based selection: more bits of one hash must be zero), so a rate may change while
packets wait: the tap after the queue always passes at least what the tap before it passed a horizon ago.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST = 60_000
"""Frames a second of both taps that are looked at: some 20 % of a core, where a link is slow enough not to be sampled
from the start."""
SPARING = 4_000
"""The same where packets are so many that the kernel's part alone is felt (`duty`): hundreds a second are matched."""
LARGEST = 4096
_CALM = 10.0
"""Seconds of little load before more is looked at."""
_SPARE = 4
"""Little is a load so many times below the most, so that twice as many still are."""


@dataclass(slots=True)
class Sampling:
    """`before` and `after` are the rates of the two taps, one in so many; `least` is the densest. Times in s."""

    least: int
    horizon: float
    most: int = MOST
    before: int = 0
    after: int = 0
    claimed: int = 0
    """What may be said of a window: the sparsest rate that any packet in it was picked by."""
    _changed: float | None = None
    _calm: float | None = None
    _peak: float = 0.0  # the highest rate since it is calm
    _last: float | None = None
    mixed: bool = False
    """What comes until the next `take` is of the rate before the last change, too."""

    def __post_init__(self) -> None:
        self.before = self.after = self.claimed = self.least

    def take(self, frames: int, drops: int, *, now: float, sparing: bool = False) -> None:
        """So many frames would have been read since the last call with both taps at the sparser rate, and so many were
        lost for want of room."""
        if self._changed is not None:
            drops = 0  # perhaps of the side after, which is denser still
        if self._changed is not None and now - self._changed > self.horizon:
            self._changed = None
            self.after = self.claimed = self.before
        last, self._last = self._last, now
        if last is None or now <= last:
            return
        rate = (frames + drops) / (now - last)
        most = min(self.most, SPARING) if sparing else self.most
        mixed, self.mixed = self.mixed, False
        if rate > most and not mixed:
            self._sparser(rate / most, now)
        elif drops and not mixed:
            self._sparser(2, now)
        elif rate * _SPARE > most or self.before == self.least:
            self._calm = None
        elif self._calm is None:
            self._calm, self._peak = now, rate
        else:
            self._peak = max(self._peak, rate)
            if now - self._calm > _CALM and self._changed is None:
                self._denser(most / (self._peak * _SPARE / 2) if self._peak else LARGEST, now)

    def _sparser(self, times: float, now: float) -> None:
        if self.before < LARGEST:
            self.before = min(LARGEST, self.before << max(1, math.ceil(math.log2(times))))
            self.claimed = max(self.claimed, self.before)
            self._changed, self._calm, self.mixed = now, None, True

    def _denser(self, times: float, now: float) -> None:
        self.before = max(self.least, self.before >> max(1, int(math.log2(times))))
        self.after = min(self.after, self.before)  # the claim stays for a horizon: what waits was picked before
        self._changed, self._calm, self.mixed = now, None, True
