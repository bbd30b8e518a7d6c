"""When a capture listens behind the queue: always, or in slices of time where the copies of all packets cost too much.

For a packet socket the kernel copies every packet that goes out, whether its filter picks it or not. So at high rates
the socket behind the queue listens for a slice, goes on until all that was picked in it has come out or is lost, and
rests. Which packets a slice picks is settled before any of them comes: how long they wait has no part in it. Who comes
between slices is not looked for; the tap before the queue goes on, so that what arrives is counted as ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from collectors.ring import RETIRE_MS, Frame

WHOLE = 40_000
"""Packets a second up to which it listens always: copies of so many take some 2 % of a core, and of more no more."""
SLICE = 0.05
"""Seconds that a slice lasts, or as long as the last one was waited for, so that waiting is not most of the time."""
RESTS = 1.0
"""Seconds without a look, at most: where packets wait long, or are lost, it listens for a larger share."""
_READY = 2.5 * RETIRE_MS / 1000
"""Seconds until the rings have handed over the last frame of a slice."""
_AGAIN = 0.05
"""Seconds between looks whether the last packets have come out."""
_MOST = 0.75
"""Of the time in slices."""
_EVER = 1 << 62


class Duty:
    """Of one capture. `now` is CLOCK_REALTIME in seconds, stamps and `picks` are the same in nanoseconds.

    With `whole`, packets a second, it listens always up to so many.
    """

    def __init__(self, whole: float = WHOLE) -> None:
        self.listens = True
        self.picks = (0, _EVER)
        """Who arrives from the first time until the second is looked for behind the queue."""
        self.share = 1.0
        """Of the time, in which it means to listen."""
        self.due = math.inf
        """When it wants its next `turn`."""
        self._whole = whole
        self._sliced = False
        self._rate = 0.0
        self._opened = 0.0
        self._awaits: int | None = None  # the first packet from this time on begins a slice
        self._length = SLICE
        self._rated: float | None = None

    def rate(self, packets: int, *, now: float) -> None:
        """So many packets went by since the last call. The highest rate of late counts: a pause is no end."""
        last, self._rated = self._rated, now
        if last is None or now <= last:
            return
        self._rate = max(packets / (now - last), self._rate * 0.5 ** (now - last))
        self._sliced = self._rate > self._whole / (2 if self._sliced else 1)
        self.share = min(_MOST, self._whole / self._rate) if self._sliced else 1.0
        if self._sliced and self.due == math.inf:
            self.due = now

    def hear(self, after: Sequence[Frame]) -> None:
        """What came out behind the queue: the first packet since it listens proves that it does, and begins the slice.

        A packet that arrives later than that comes out later still.
        """
        awaits = self._awaits
        first = None if awaits is None else next((stamp for stamp, *_ in after if stamp >= awaits), None)
        if first is not None:
            self._awaits = None
            self._pick(first)

    def turn(self, *, now: float, complete: int, waiting: bool) -> None:
        """What to do next, at least at `due`; `listens` says it.

        Both sides are known up to the time stamp `complete`; `waiting` says whether anybody who was picked is still to
        come out.
        """
        if not self._sliced and self.listens:
            self.due = math.inf
            if self._awaits is None and self.picks[1] != _EVER:
                self._pick(int(now * 1e9))
        elif not self.listens:
            if now >= self.due or not self._sliced:
                self.listens, self._opened, self._awaits = True, now, int(now * 1e9)
                self.due = now + self._length + _READY
        elif self.picks[1] == _EVER and self._awaits is None:
            self._opened = now
            self.picks = (self.picks[0], int(now * 1e9))
            self.due = now + _READY
        elif self._awaits is not None or complete < self.picks[1] or waiting:
            self.due = max(now + _AGAIN, self.picks[1] / 1e9 + _READY if self._awaits is None else 0.0)
        else:
            self._rest(now)

    def _pick(self, begin: int) -> None:
        self.picks = (begin, begin + int(self._length * 1e9) if self._sliced else _EVER)

    def _rest(self, now: float) -> None:
        self.listens = False
        self.due = now + min(RESTS, (now - self._opened) * (1 / self.share - 1))
        self._length = max(SLICE, now - self.picks[1] / 1e9 - _READY)
