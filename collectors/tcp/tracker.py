"""Round trips and retransmissions from segments that go out and acknowledgements that come back. No socket, no clock.

One segment of a flow is timed at a time, and none over a retransmission, since nobody could say which of the two was
acknowledged (P. Karn, C. Partridge, 1987). Round trips are smoothed as RFC 6298 has it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import nlargest

from collectors.hitters import words
from collectors.tcp.segments import Segment

FLOWS = 4096
"""So many are known at once; of more the ones that are silent for longest are forgotten."""
ACTIVE = 10.0
"""Seconds for which a flow counts after its last segment."""

_MASK, _HALF = 0xFFFFFFFF, 1 << 31
_GAIN = 8


@dataclass(slots=True)
class Counts:
    """Segments that went out, with those again that did; `least` (s) of so many round trips that were `timed`."""

    segments: int = 0
    retransmitted: int = 0
    timed: int = 0
    least: float | None = None

    def trip(self, seconds: float) -> None:
        """One more round trip."""
        self.timed += 1
        self.least = seconds if self.least is None else min(self.least, seconds)


@dataclass(slots=True)
class _Flow:
    """`high` is the sequence number behind the newest byte; `ends` and `at` (ns) are of the segment that is timed."""

    classid: int
    tos: int
    heard: int
    high: int | None = None
    ends: int | None = None
    at: int = 0
    smoothed: float | None = None
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class TcpClass:
    """Of one class: `flows` that were heard of lately; the mean of their smoothed round trips (s)."""

    flows: int
    smoothed: float | None
    counts: Counts


@dataclass(frozen=True, slots=True)
class TcpFlow:
    """Of one flow, in words; `smoothed` in seconds."""

    flow: str
    smoothed: float | None
    counts: Counts


class Tracker:
    """Of all classes. `classify` names the class of a flow, given as `collectors.frames` has it."""

    def __init__(self, classify: Callable[[bytes], int], *, most: int = FLOWS) -> None:
        self._classify = classify
        self._most = most
        self._flows: OrderedDict[bytes, _Flow] = OrderedDict()
        self._classes: dict[int, Counts] = {}

    def sent(self, one: Segment, stamp: int) -> None:
        """A segment left at `stamp` (ns)."""
        if not one.span:
            return
        flow = self._flow(one, stamp)
        total = self._classes.setdefault(flow.classid, Counts())
        for counts in (flow.counts, total):
            counts.segments += one.pieces
        end = one.sequence + one.span & _MASK
        if flow.high is None or (one.opens and end != flow.high):  # another connection of the same ports
            flow.high = flow.ends = end
            flow.at = stamp
            return
        if _after(flow.high, one.sequence):  # some of it was here before
            flow.ends = None
            for counts in (flow.counts, total):
                counts.retransmitted += one.pieces
        elif flow.ends is None:
            flow.ends, flow.at = end, stamp
        if _after(end, flow.high):
            flow.high = end

    def came(self, one: Segment, stamp: int) -> None:
        """A segment of the other end came at `stamp` (ns)."""
        flow = self._flows.get(one.back)
        if flow is None or flow.ends is None or flow.high is None or one.acknowledged is None:
            return
        if _after(flow.ends, one.acknowledged) or _after(one.acknowledged, flow.high):
            return
        seconds, flow.ends = max(0, stamp - flow.at) / 1e9, None
        flow.smoothed = seconds if flow.smoothed is None else flow.smoothed + (seconds - flow.smoothed) / _GAIN
        flow.counts.trip(seconds)
        self._classes.setdefault(flow.classid, Counts()).trip(seconds)

    def missed(self) -> None:
        """Frames were lost on their way to here: what is timed may have been sent or acknowledged twice."""
        for flow in self._flows.values():
            flow.ends = None

    def classes(self, *, now: int) -> dict[int, TcpClass]:
        """By class, at `now` (ns)."""
        smoothed: dict[int, list[float | None]] = {}
        for flow in reversed(self._flows.values()):  # the newest first
            if flow.heard < now - ACTIVE * 1e9:
                break
            smoothed.setdefault(flow.classid, []).append(flow.smoothed)
        found = {}
        for classid, counts in self._classes.items():
            flows = smoothed.get(classid, [])
            known = [one for one in flows if one is not None]
            mean = sum(known) / len(known) if known else None
            found[classid] = TcpClass(len(flows), mean, replace(counts))
        return found

    def flows(self, classid: int, count: int, *, secret: bytes = b"") -> tuple[TcpFlow, ...]:
        """The flows of a class that sent the most; with a `secret` addresses are told by a keyed hash."""
        ours = [(key, flow) for key, flow in self._flows.items() if flow.classid == classid]
        return tuple(
            TcpFlow(words(key, secret=secret), flow.smoothed, replace(flow.counts))
            for key, flow in nlargest(count, ours, key=lambda each: each[1].counts.segments)
        )

    def _flow(self, one: Segment, stamp: int) -> _Flow:
        flow = self._flows.get(one.flow)
        if flow is None:
            flow = self._flows[one.flow] = _Flow(self._class(one), one.tos, stamp)
            if len(self._flows) > self._most:
                self._flows.popitem(last=False)
            return flow
        self._flows.move_to_end(one.flow)
        flow.heard = stamp
        if (flow.tos ^ one.tos) >> 2:  # another DSCP may be another class
            flow.tos, flow.classid = one.tos, self._class(one)
        return flow

    def _class(self, one: Segment) -> int:
        return self._classify(one.flow[:1] + bytes((one.tos,)) + one.flow[2:])


def _after(one: int, other: int) -> bool:
    """Whether a sequence number lies behind another, round the end of 32 bits."""
    return 0 < (one - other & _MASK) < _HALF
