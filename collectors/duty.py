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
"""Seconds that a slice lasts."""
_READY = 2.5 * RETIRE_MS / 1000
"""Seconds until the rings have handed over the last frame of a slice."""
_AGAIN = 0.05
"""Seconds between looks whether the last packets have come out."""
_MOST, _LEAST = 0.75, 0.09
"""Shares of the time in slices: with less a step would be seen more than a second late."""
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
        self._awaits: int | None = None  # the first packet from this time on begins a slice
        self._next = 0.0
        self._rate = 0.0
        self._rated: float | None = None

    def rate(self, packets: int, *, now: float) -> None:
        """So many packets went by since the last call. The highest rate of late counts: a pause is no end."""
        last, self._rated = self._rated, now
        if last is None or now <= last:
            return
        self._rate = max(packets / (now - last), self._rate * 0.5 ** (now - last))
        self._sliced = self._rate > self._whole / (2 if self._sliced else 1)
        self.share = min(_MOST, max(_LEAST, self._whole / self._rate)) if self._sliced else 1.0
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
        come out. Slices come one as long after the other as the rate wants it, whoever waits: or those that wait long
        would be picked more seldom, or more often.
        """
        first, last = self.picks
        if not self._sliced:
            self.due = math.inf
            if not self.listens or (self._awaits is None and last != _EVER):
                self._begin(now)
        elif self._awaits is None and last == _EVER:
            self.picks = (first, int(now * 1e9))
            self._next = now + SLICE
            self.due = now + _READY
        elif now >= self._next:
            self._next = now + (SLICE + _READY) / self.share
            self.due = now + SLICE + _READY
            self._begin(now)
        elif not self.listens:
            self.due = self._next
        elif self._awaits is None and complete >= last and not waiting:
            self.listens, self.due = False, self._next
        else:
            over = last / 1e9 + _READY
            self.due = min(self._next, over if over > now else now + _AGAIN)

    def _begin(self, now: float) -> None:
        self.listens, self._awaits = True, int(now * 1e9)

    def _pick(self, begin: int) -> None:
        self.picks = (begin, begin + int(SLICE * 1e9) if self._sliced else _EVER)
