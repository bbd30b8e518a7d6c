"""Packets before the queue paired with the same packets after it: delay, loss, and what cannot be told.

The two rings hand over blocks at different moments, so neither side's frames are looked at before both sides are
known to be complete up to their time stamp; then all are taken in the order of time. Times are CLOCK_REALTIME in ns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

BITS = 32
"""Of a classid."""

Arrival = tuple[int, bytes, int | None, bool]
"""Time stamp, identity, whose it is, and whether the packet is a single one (no super-packet).

Whose: the classid, and above its `BITS` the number of the slice of time that it arrived in, 0 for none; packets of the
same are told of together. With None nobody looks for it behind the queue: it is not matched and never lost, and another
one like it is ambiguous."""

Departure = tuple[int, bytes]
"""Time stamp and identity."""

NOISE = 1_000_000
"""A copy may wait for another processor before it is stamped: so much may a departure seem to precede its arrival."""

_stamp = itemgetter(0)


@dataclass(slots=True)
class Matches:
    """What became known: `delays` in seconds and `lost` packets by whose they are; counts of what was not attributed.

    `ambiguous` counts arrivals, `unmatched` departures whose arrival was never seen.
    """

    delays: dict[int, list[float]] = field(default_factory=dict)
    lost: Counter[int] = field(default_factory=Counter)
    ambiguous: int = 0
    unmatched: int = 0


class Matcher:
    """Pairs by identity. `horizon` in seconds must exceed the longest wait: later than that a packet counts as lost.

    Two packets alike that are inside at the same time cannot be told apart: both are ambiguous, and so is every further
    one like them until none has come for a horizon. Where the first had left before the second came, time tells them
    apart. Super-packets are matched where they leave whole, and never lost: the device may have cut them into frames
    that match nothing.
    """

    def __init__(self, *, horizon: float) -> None:
        self._horizon = int(horizon * 1e9)
        self._inside: dict[bytes, tuple[int, int, bool]] = {}  # in the order of arrival
        self._alike: dict[bytes, int] = {}  # identity -> newest arrival, in the order of arrival
        self._arrivals: list[Arrival] = []
        self._departures: list[Departure] = []
        self._found = Matches()

    def add(self, arrivals: Iterable[Arrival], departures: Iterable[Departure]) -> None:
        """Frames that came in since the last call, in any order."""
        self._arrivals.extend(arrivals)
        self._arrivals.sort(key=_stamp)
        self._departures.extend((stamp + NOISE, identity) for stamp, identity in departures)
        self._departures.sort(key=_stamp)

    def match(self, *, complete: int) -> Matches:
        """Everything up to `complete`, the time up to which both sides were added; what is a horizon older is lost."""
        self.advance(complete=complete)
        return self._take()

    def advance(self, *, complete: int) -> None:
        """As `match`, which tells of it later."""
        self._advance(complete)
        self._forget(complete - self._horizon)

    @property
    def waiting(self) -> bool:
        """Whether any packet up to where it was matched last is still to come out."""
        return bool(self._inside)

    def settle(self, *, queued: Mapping[int, int] | None) -> tuple[Matches, dict[int, int]]:
        """The end: all that was added is matched, nothing more is waited for. Gives also what is in flight.

        `queued` says how many packets each class's queue still holds, those that came last; the rest of what has not
        left is lost. Without it (None) all that has not left counts as in flight.
        """
        last = max((stream[-1][0] for stream in (self._arrivals, self._departures) if stream), default=0)
        self._advance(last)
        held = self.in_flight()
        self._inside.clear()
        self._alike.clear()
        if queued is not None:
            left, flying = dict(queued), dict(held)
            for whose, count in reversed(held.items()):
                classid = whose & (1 << BITS) - 1
                flying[whose] = min(count, left.get(classid, 0))
                left[classid] = left.get(classid, 0) - flying[whose]
            self._found.lost.update({whose: count - flying[whose] for whose, count in held.items()})
            held = flying
        return self._take(), {whose: count for whose, count in held.items() if count}

    def in_flight(self) -> dict[int, int]:
        """Packets by whose they are, in the order of time, that have neither left nor are known to be lost."""
        held = Counter(whose for _, whose, single in self._inside.values() if single)
        held.update(whose for _, _, whose, single in self._arrivals if single and whose is not None)
        return dict(held)

    def _take(self) -> Matches:
        found, self._found = self._found, Matches()
        return found

    def _advance(self, complete: int) -> None:
        arrivals, departures = self._arrivals, self._departures
        came = left = 0
        while left < len(departures) and departures[left][0] <= complete:
            stamp, identity = departures[left]
            while came < len(arrivals) and arrivals[came][0] <= stamp:
                self._arrive(*arrivals[came])
                came += 1
            self._depart(stamp - NOISE, identity)
            left += 1
        while came < len(arrivals) and arrivals[came][0] <= complete:
            self._arrive(*arrivals[came])
            came += 1
        del arrivals[:came], departures[:left]

    def _arrive(self, stamp: int, identity: bytes, whose: int | None, single: bool) -> None:
        single = single and whose is not None
        before = self._alike.pop(identity, None)
        if before is not None and stamp - before <= self._horizon:
            self._alike[identity] = stamp
            self._found.ambiguous += single
            return
        other = self._inside.pop(identity, None)
        if other is not None and stamp - other[0] > self._horizon:
            self._found.lost[other[1]] += other[2]
            other = None
        if other is None and whose is not None:
            self._inside[identity] = (stamp, whose, single)
        else:
            self._alike[identity] = stamp
            self._found.ambiguous += single + (other[2] if other else 0)

    def _depart(self, stamp: int, identity: bytes) -> None:
        entry = self._inside.pop(identity, None)
        if entry is not None:
            self._found.delays.setdefault(entry[1], []).append(max(0, stamp - entry[0]) / 1e9)
        elif identity not in self._alike:
            self._found.unmatched += 1

    def _forget(self, before: int) -> None:
        """Both dictionaries are in the order of time: the old ones are in front."""
        gone: list[bytes] = []
        for identity, (stamp, whose, single) in self._inside.items():
            if stamp >= before:
                break
            self._found.lost[whose] += single
            gone.append(identity)
        for identity in gone:
            del self._inside[identity]
        gone.clear()
        for identity, stamp in self._alike.items():
            if stamp >= before:
                break
            gone.append(identity)
        for identity in gone:
            del self._alike[identity]
