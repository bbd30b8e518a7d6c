"""Outcomes as figures: counts, raw samples of delay and its variation, availability, and what the clocks are worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from collectors.probe.directions import LostWays, lost_ways
from collectors.probe.log import Outcome
from collectors.probe.ntp import ErrorEstimate

_SECOND = 1.0

Series = Sequence[tuple[int, float]]
"""Delays in seconds by the sequence number of their packet, in the order of sending."""


@dataclass(frozen=True, slots=True)
class OneWay:
    """Delays in seconds in each direction; each may be off by `error`, all of a direction by the same.

    `basis` says what the bound stands on: the `clocks` of both ends as the kernels keep them, or half the least `round
    trip`, which holds whatever the clocks say. `contradicted` when the clocks claim more than the packets bear out.
    `meaningful` unless the error is as large as the least delay: then only how the delays differ says anything.
    """

    there: tuple[float, ...]
    back: tuple[float, ...]
    error: float
    basis: str
    contradicted: bool = False

    @property
    def meaningful(self) -> bool:
        return self.error < min(*self.there, *self.back)


@dataclass(frozen=True, slots=True)
class Summary:
    """Of settled packets. Delays in seconds.

    `duplicates` counts answers beyond the first, `reordered` packets as RFC 4737 does, of the answered ones. `ipdv_*`
    are differences of the delays of packets sent one after the other (RFC 3393), `pdv_*` how far each exceeds the least
    (RFC 5481): of one-way delays where a reflector gave its times, in which an offset of the clocks cancels out, of
    round trips else. `seconds` has packets sent and lost of each second, for who judges availability; nothing where
    there is not a packet for every second. `ways` are those on which packets were lost, where the reflector says so.
    """

    sent: int
    lost: int
    duplicates: int
    reordered: int
    round_trips: tuple[float, ...]
    waits: tuple[float, ...]
    one_way: OneWay | None
    ipdv_there: tuple[float, ...]
    ipdv_back: tuple[float, ...]
    pdv_there: tuple[float, ...]
    pdv_back: tuple[float, ...]
    ipdv: tuple[float, ...]
    pdv: tuple[float, ...]
    seconds: tuple[tuple[int, int], ...]
    phases: dict[str, tuple[float, ...]]
    hops: tuple[int, ...]
    ways: LostWays | None = None

    @property
    def received(self) -> int:
        return self.sent - self.lost

    @property
    def loss(self) -> float | None:
        """The share that was lost, None of nothing."""
        return self.lost / self.sent if self.sent else None


def summarise(
    outcomes: Iterable[Outcome],
    *,
    interval: float,
    own: ErrorEstimate,
    peer: ErrorEstimate | None = None,
    stateful: bool = False,
) -> Summary:
    """The figures of packets sent `interval` seconds apart; `own` and `peer` are what the clocks say of themselves.

    `stateful` is whether the reflector is known to count its answers by itself.
    """
    settled = sorted(outcomes, key=lambda each: each.sequence)
    trips = [(one.sequence, one.round_trip) for one in settled if one.round_trip is not None]
    there = [(one.sequence, one.there) for one in settled if one.there is not None]
    back = [(one.sequence, one.back) for one in settled if one.back is not None]
    names = dict.fromkeys(name for one in settled for name in one.phases)
    return Summary(
        sent=len(settled),
        lost=sum(one.lost for one in settled),
        duplicates=sum(max(0, one.copies - 1) for one in settled),
        reordered=sum(one.reordered for one in settled),
        round_trips=tuple(delay for _, delay in trips),
        waits=tuple(one.waited for one in settled if one.waited is not None),
        one_way=one_way([delay for _, delay in there], [delay for _, delay in back], own, peer),
        ipdv_there=ipdv(there),
        ipdv_back=ipdv(back),
        pdv_there=pdv(there),
        pdv_back=pdv(back),
        ipdv=ipdv(trips),
        pdv=pdv(trips),
        seconds=by_second(settled, interval) if interval <= _SECOND else (),
        phases={name: tuple(one.phases[name] for one in settled if name in one.phases) for name in names},
        hops=tuple(sorted({one.hops for one in settled if one.hops is not None})),
        ways=lost_ways(settled, stateful=stateful),
    )


def ipdv(series: Series) -> tuple[float, ...]:
    """How much later, or earlier (negative), each packet was than the one sent right before it, both answered."""
    return tuple(after - before for (first, before), (second, after) in pairwise(series) if second == first + 1)


def pdv(series: Series) -> tuple[float, ...]:
    """How far each delay exceeds the least."""
    least = min((delay for _, delay in series), default=0.0)
    return tuple(delay - least for _, delay in series)


def one_way(
    there: Sequence[float], back: Sequence[float], own: ErrorEstimate, peer: ErrorEstimate | None
) -> OneWay | None:
    """One-way delays from the differences of two clocks, with the smaller of two bounds of their error.

    No delay is negative, so that the clocks' offset lies between the least difference of one direction and that of the
    other: the middle of these is off by half the least round trip at most. None without differences.
    """
    if not there or not back:
        return None
    least, least_back = min(there), min(back)
    half = (least + least_back) / 2
    stated = own.error + peer.error if peer is not None and own.synchronised and peer.synchronised else math.inf
    contradicted = stated < math.inf and min(least, least_back) < -stated
    if stated < half and not contradicted:
        return OneWay(tuple(there), tuple(back), stated, "clocks")
    offset = (least - least_back) / 2
    return OneWay(
        tuple(delay - offset for delay in there),
        tuple(delay + offset for delay in back),
        half,
        "round trip",
        contradicted,
    )


def by_second(outcomes: Sequence[Outcome], interval: float) -> tuple[tuple[int, int], ...]:
    """Packets sent and lost in each second from the first on, without one at the end that is not whole."""
    if not outcomes:
        return ()
    first = outcomes[0].at
    last = max(one.at for one in outcomes)
    seconds = [[0, 0] for _ in range(max(1, math.floor((last - first + interval) / _SECOND + 1e-6)))]
    for one in outcomes:
        place = int((one.at - first) / _SECOND + 1e-9)
        if place < len(seconds):
            seconds[place][0] += 1
            seconds[place][1] += one.lost
    return tuple((sent, lost) for sent, lost in seconds)
