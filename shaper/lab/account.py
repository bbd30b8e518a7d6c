"""The receiver's account: what was sent, what arrived and how late, by class and by second of sending."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shaper.lab.receiver import OVERFLOW, segment_key

_SECOND = 10**9


@dataclass(slots=True)
class Second:
    """Packets of one class that were sent in one second: how many, the delays in seconds of those that arrived, and how
    many never did."""

    sent: int = 0
    delays: list[float] = field(default_factory=list)
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """`classes` maps a class path to its seconds in order; `overflow` counts what the receiver dropped itself.

    `segments` has the delays in seconds of the TCP segments of each class that arrived.
    """

    classes: Mapping[str, tuple[Second, ...]]
    overflow: int = 0
    segments: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def delay(self, path: str, percentile: float) -> float | None:
        """The percentile (0..1) of the delay of the packets that arrived, TCP's too, in seconds; None for none."""
        delays = [delay for second in self.classes.get(path, ()) for delay in second.delays]
        return percentile_of(sorted([*delays, *self.segments.get(path, ())]), percentile)

    def loss(self, path: str) -> float | None:
        """The share of the generator's packets that never arrived (RFC 7680), None where none was sent."""
        seconds = self.classes.get(path, ())
        sent = sum(second.sent for second in seconds)
        return sum(second.lost for second in seconds) / sent if sent else None


def percentile_of(ordered: Sequence[float], percentile: float) -> float | None:
    """The smallest value that at least that share of the values does not exceed (nearest rank)."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(percentile * len(ordered)) - 1)]


def read_log(path: Path) -> array[int]:
    """The 64-bit words of a log."""
    words: array[int] = array("q")
    words.frombytes(path.read_bytes())
    return words


def settle(
    sender: Sequence[int],
    receiver: Sequence[int],
    *,
    start: int,
    seconds: int,
    classes: Mapping[int, str],
    ports: Mapping[int, str] | None = None,
    path: float = 0.0,
) -> Account:
    """Sets the receiver's log against the sender's, by sequence numbers.

    `start` is the Unix time in ns of second 0; `classes` names the flows' classes, `ports` those of TCP. A packet
    counts in the second in which it was sent, the last second takes what a late timer pushed beyond the end; a second
    copy of a packet is not counted again. `path` is what the way takes by itself, in s: the delays are without it.
    """
    names = {segment_key(port): name for port, name in (ports or {}).items()}
    segments: dict[str, list[float]] = {name: [] for name in names.values()}
    arrivals: dict[int, int] = {}
    overflow = 0
    for index in range(0, len(receiver), 3):
        key, sent, stamp = receiver[index : index + 3]
        if key == OVERFLOW:
            overflow = sent
        elif key in names:
            segments[names[key]].append((stamp - sent) / _SECOND - path)
        elif key >= 0:
            arrivals.setdefault(key, stamp)
    table = {path: tuple(Second() for _ in range(seconds)) for path in classes.values()}
    for index in range(0, len(sender), 2):
        key, sent = sender[index], sender[index + 1]
        second = table[classes[key >> 32]][min(max((sent - start) // _SECOND, 0), seconds - 1)]
        second.sent += 1
        arrived = arrivals.get(key)
        if arrived is None:
            second.lost += 1
        else:
            second.delays.append((arrived - sent) / _SECOND - path)
    return Account(table, overflow, segments)
