"""The account of the capture: frames of both taps in, what they say of every class out. No sockets, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from collectors.audit import Audit
from collectors.envelope import Envelope
from collectors.frames import dissect, flow_key, is_tcp
from collectors.hitters import Hitter, Hitters
from collectors.matching import BITS, Arrival, Departure, Matcher, Matches
from collectors.ring import Frame
from collectors.sample import CaptureWindow, Classifier, ClassWindow
from collectors.slices import Slice

_EVER = (0, 1 << 62)
_FLOWS = 1 << 16
_TAGGED_HEADER = 22  # Ethernet with two VLAN tags: what a frame may be longer than the mtu


@dataclass(slots=True)
class _Tally:
    """Arrivals of one class since the last window."""

    packets: int = 0
    bytes: int = 0
    inelastic: int = 0
    picked: int = 0


class Account:
    """Collects frames until a window is closed.

    `mtu` in bytes, `horizon` and `taus` in seconds, `audit_rate` in frames a second. `detailed` gives `classify` the
    length and TCP's flags too, at the price of asking it far more often. `size_of` gives the bytes that a frame of so
    many counts for in the queue, where that is not the same. `hitters` keeps the flows of each class that send the
    most.
    """

    def __init__(
        self,
        *,
        mtu: int,
        sampling: int,
        classify: Classifier,
        horizon: float,
        audit_rate: int,
        taus: Sequence[float],
        detailed: bool = False,
        size_of: Callable[[int], int] | None = None,
        hitters: bool = False,
    ) -> None:
        self._longest = mtu + _TAGGED_HEADER
        self._sampling = sampling
        self._classify = classify
        self._size_of = size_of
        self._taus = taus if sampling == 1 else ()
        self._matcher = Matcher(horizon=horizon)
        self._detailed = detailed
        self._audit = Audit(rate=audit_rate, classify=classify, detailed=detailed)
        self._flows: dict[bytes, tuple[int, bool]] = {}
        self._envelopes: dict[int, Envelope] = {}
        self._tallies: dict[int, _Tally] = {}
        self._captured = self._undecoded = self._super = 0
        self._since: float | None = None
        self._begin, self._end = _EVER
        self._some = False
        self._slices = self._slice = 0  # so many began; the number of the present one, 0 while it listens always
        self._hitters: dict[int, Hitters] | None = {} if hitters else None

    def claim(self, sampling: int) -> None:
        """From now on one packet in so many is looked at, or more of them."""
        self._sampling = sampling

    def pick(self, begin: int, end: int) -> None:
        """Of what is added from now on, who arrives (ns) from `begin` until `end` is looked for behind the queue.

        Another `begin` is another slice of time, but without an end.
        """
        if begin != self._begin:
            self._slices += end != _EVER[1]
            self._slice = self._slices if end != _EVER[1] else 0
        self._begin, self._end = begin, end

    @property
    def waiting(self) -> bool:
        """Whether any packet of what is complete is still to come out."""
        return self._matcher.waiting

    def hitters(self, classid: int, count: int, *, secret: bytes = b"") -> tuple[Hitter, ...]:
        """The flows of a class that sent the most so far, where they are kept."""
        known = (self._hitters or {}).get(classid)
        return known.largest(count, secret=secret, detailed=self._detailed) if known is not None else ()

    def add(self, before: Sequence[Frame], after: Sequence[Frame]) -> None:
        """Frames of the two taps since the last call, each tap's in the order of its time stamps."""
        self._captured += len(before) + len(after)
        if self._since is None and before:
            self._since = before[0][0] / 1e9
        self._matcher.add(self._arrivals(before), self._departures(after))

    def match(self, *, complete: int) -> None:
        """Pairs what came up to `complete`, the time stamp (ns) up to which both taps' frames have been added."""
        self._matcher.advance(complete=complete)

    def window(self, *, now: float, complete: int, drops: int, listening: float = 1.0) -> CaptureWindow:
        """What became known since the last window.

        `now` is CLOCK_REALTIME in seconds, `complete` as in `match`, `drops` what the taps lost since the last window,
        `listening` the share of time in which the tap behind the queue listens.
        """
        found = self._matcher.match(complete=complete)
        return self._close(now, drops, found, self._matcher.in_flight(), listening)

    def settle(
        self, *, now: float, drops: int, queued: Mapping[int, int] | None, listening: float = 1.0
    ) -> CaptureWindow:
        """The last window: nothing more is waited for (see Matcher.settle)."""
        matches, flying = self._matcher.settle(queued=queued)
        return self._close(now, drops, matches, flying, listening)

    def _arrivals(self, frames: Iterable[Frame]) -> list[Arrival]:
        flows, tallies, audit, detailed = self._flows, self._tallies, self._audit, self._detailed
        size_of, hitters = self._size_of, self._hitters
        begin, end, above = self._begin, self._end, self._slice << BITS
        self._some |= (begin, end) != _EVER
        arrivals: list[Arrival] = []
        for stamp, length, frame in frames:
            parts = dissect(frame, detailed=detailed)
            if parts is None:
                self._undecoded += 1
                continue
            identity, flow = parts
            classid, elastic = flows.get(flow) or self._learn(flow)
            tally = tallies.get(classid) or self._open(classid)
            size = length if size_of is None else size_of(length)
            tally.packets += 1
            tally.bytes += size
            if hitters is not None:
                (hitters.get(classid) or hitters.setdefault(classid, Hitters())).add(flow, size)
            if not elastic:
                tally.inelastic += size
                if self._taus:
                    self._envelopes[classid].add(stamp, size)
            single = length <= self._longest
            if not single:
                self._super += 1
            if not begin <= stamp < end:
                arrivals.append((stamp, identity, None, single))
                continue
            tally.picked += 1
            if stamp >= audit.due:
                audit.check(stamp, frame, flow, classid)
            arrivals.append((stamp, identity, classid | above if above else classid, single))
        return arrivals

    @staticmethod
    def _departures(frames: Iterable[Frame]) -> list[Departure]:
        return [(stamp, parts[0]) for stamp, _, frame in frames if (parts := dissect(frame)) is not None]

    def _learn(self, flow: bytes) -> tuple[int, bool]:
        if len(self._flows) >= _FLOWS:  # a scan of ports must not eat the memory
            self._flows.clear()
        known = self._flows[flow] = (self._classify(flow_key(flow, detailed=self._detailed)), is_tcp(flow))
        return known

    def _open(self, classid: int) -> _Tally:
        tally = self._tallies[classid] = _Tally()
        if classid not in self._envelopes:
            self._envelopes[classid] = Envelope(self._taus)
        return tally

    def _close(
        self, now: float, drops: int, matches: Matches, flying: Mapping[int, int], listening: float
    ) -> CaptureWindow:
        seconds = now - self._since if self._since is not None else 0.0
        classes: dict[int, ClassWindow] = {}
        found, lost, slices = self._by_class(matches)
        for classid in sorted({*self._tallies, *found, *lost}):
            tally = self._tallies.get(classid) or _Tally()
            delays = tuple(found.get(classid, ()))
            classes[classid] = ClassWindow(
                delays=delays,
                arrived_packets=tally.packets,
                arrived_bytes=tally.bytes,
                inelastic_bytes=tally.inelastic,
                matched=len(delays),
                lost=lost[classid],
                envelope=self._envelopes[classid].take(),
                taken=tally.picked if self._some else None,
                slices=tuple(slices.get(classid, ())),
            )
        audited, misclassified = self._audit.take()
        window = CaptureWindow(
            seconds=max(0.0, seconds),
            classes=classes,
            captured=self._captured,
            capture_drops=drops,
            ambiguous=matches.ambiguous,
            undecoded=self._undecoded,
            super_packets=self._super,
            in_flight=self._of_classes(flying) if self._slices else flying,
            sampling=self._sampling,
            audited=audited,
            misclassified=misclassified,
            unmatched=matches.unmatched,
            listening=listening,
        )
        self._tallies.clear()
        self._some = False
        self._captured = self._undecoded = self._super = 0
        self._since = now
        return window

    def _by_class(
        self, matches: Matches
    ) -> tuple[Mapping[int, Sequence[float]], Counter[int], Mapping[int, Sequence[Slice]]]:
        """Delays and losses of each class, and its slices, whose delays follow those of none."""
        if not self._slices:
            return matches.delays, matches.lost, {}
        delays: dict[int, list[float]] = {}
        slices: dict[int, list[Slice]] = {}
        for whose in sorted({*matches.delays, *matches.lost}):
            number, classid = divmod(whose, 1 << BITS)
            found = matches.delays.get(whose, [])
            delays.setdefault(classid, []).extend(found)
            if number and (found or matches.lost[whose]):
                slices.setdefault(classid, []).append(Slice(number, len(found), matches.lost[whose]))
        return delays, self._of_classes(matches.lost), slices

    @staticmethod
    def _of_classes(counts: Mapping[int, int]) -> Counter[int]:
        """Sums over slices."""
        found: Counter[int] = Counter()
        for whose, count in counts.items():
            found[whose & (1 << BITS) - 1] += count
        return found
