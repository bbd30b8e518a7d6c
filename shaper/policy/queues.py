"""One scalar of what a policy says of queues: kinds, times, limits, fairness. As in `values`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from shaper.model.aqm import MOST_FLOWS, MOST_SFQ_DEPTH, AqmKind
from shaper.policy.kinds import Kind
from shaper.policy.text import quoted
from shaper.policy.values import LONGEST_TIME, one_of, quantity, ratio, refuse, said
from shaper.tree import AckFilter, FlowMode
from shaper.units import parse_duration, parse_size

_LEAST_AQM_TIME = 0.0001
_LONGEST_PERTURB = 3600
_HEX = re.compile(r"0x[0-9a-fA-F]{1,8}\Z")


class QueueLimit(NamedTuple):
    """How much a queue holds: packets, or bytes; the other is 0."""

    packets: int = 0
    size: int = 0


def aqm_kind(value: object) -> AqmKind:
    """`fq_codel`, `pie`, `fifo` ..., by tc's name."""
    return AqmKind(one_of(AqmKind, value, Kind.UNKNOWN_AQM, "is not a queue that a class can have"))


def aqm_time(value: object) -> float:
    """`5ms` in seconds, as far as CoDel's clock goes."""
    seconds = quantity(value, parse_duration, "a duration", "5ms")
    if not _LEAST_AQM_TIME <= seconds <= LONGEST_TIME:
        raise refuse(Kind.BAD_QUANTITY, f"{quoted(value)} is no time for a queue", "from 0.1ms to 10s")
    return seconds


def queue_limit(value: object) -> QueueLimit:
    """`1000` packets, or `64kb`."""
    if isinstance(value, int) and not isinstance(value, bool):
        limit = QueueLimit(packets=value)
    else:
        limit = QueueLimit(size=quantity(value, parse_size, "a queue's limit", "1000 (packets) or 64kb"))
    if not 0 < max(limit) < 2**31:
        raise refuse(Kind.BAD_QUANTITY, f"{said(value)} is no limit of a queue", "1000 (packets) or 64kb")
    return limit


def fairness(value: object) -> FlowMode:
    """`dual-srchost`, `flows`: among whom a queue is shared, in CAKE's words."""
    names = [mode.value for mode in FlowMode if mode is not FlowMode.FLOWBLIND]
    return FlowMode(one_of(names, value, Kind.UNKNOWN_FAIRNESS, "is not a way to share a queue"))


def ack_filter(value: object) -> AckFilter:
    """true, false or `aggressive`."""
    ways = {True: AckFilter.FILTER, False: AckFilter.NONE, "aggressive": AckFilter.AGGRESSIVE}
    if not isinstance(value, (bool, str)) or value not in ways:
        raise refuse(Kind.WRONG_TYPE, f"expected true, false or aggressive, found {said(value)}", "such as `true`")
    return ways[value]


def fwmark(value: object) -> int:
    """The mask of a mark: `0xff`, bits that follow each other."""
    bits = int(value, 16) if isinstance(value, str) and _HEX.match(value) else value
    if not isinstance(bits, int) or isinstance(bits, bool) or not 0 < bits < 2**32:
        raise refuse(Kind.BAD_MASK, f"{said(value)} is not the mask of a mark", "such as 0xff")
    return bits


def whole(least: int, most: int, what: str) -> Callable[[object], int]:
    """A reader of whole numbers without a unit."""

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise refuse(Kind.BAD_QUANTITY, f"{said(value)} is not {what}", f"a whole number from {least} to {most}")
        return value

    return read


flows = whole(1, MOST_FLOWS, "a number of flows")
depth = whole(2, MOST_SFQ_DEPTH, "a number of packets in one of SFQ's queues")
gain = whole(0, 32, "one of PIE's gains, in sixteenths of a hertz")


def size(value: object) -> int:
    """`15kb` in bytes."""
    count = quantity(value, parse_size, "a size", "15kb")
    if not 0 < count < 2**31:
        raise refuse(Kind.BAD_QUANTITY, f"{quoted(value)} is no size of a queue", "such as 15kb")
    return count


def quantum(value: object) -> int:
    """`1514b`, as the kernel takes it: from 256 bytes to 60000."""
    count = size(value)
    if not 256 <= count <= 60_000:
        raise refuse(Kind.BAD_QUANTITY, f"{quoted(value)} is no turn of a queue", "from 256b to 60000b")
    return count


def probability(value: object) -> float:
    """`2%` -> 0.02."""
    parsed = ratio(value)
    if not 0 < parsed < 1:
        raise refuse(Kind.BAD_PERCENT, f"{quoted(value)} is no probability of a mark", "such as 2%")
    return parsed


def perturb(value: object) -> float:
    """`10s`, in whole seconds; 0s for never."""
    seconds = quantity(value, parse_duration, "a duration", "10s")
    if seconds != int(seconds) or not 0 <= seconds <= _LONGEST_PERTURB:
        raise refuse(Kind.BAD_QUANTITY, f"{quoted(value)} is no time for SFQ's hash", "whole seconds, 0s to 3600s")
    return seconds
