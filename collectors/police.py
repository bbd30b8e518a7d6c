"""Counters of the policers and the verdicts of a network namespace, each kind from one netlink dump of actions."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from collectors.netlink import RTM_GETACTION, Channel, QueueStats, attribute, attributes, each_attribute, parse_stats

_TCAMSG = bytes(4)  # struct tcamsg: an address family, and nothing
_TAB, _FLAGS = 1, 2  # TCA_ROOT_TAB, TCA_ROOT_FLAGS
_LARGE_DUMP = struct.pack("=II", 1, 1)  # as many as a message holds, and not 32
_KIND, _OPTIONS, _STATS = 1, 2, 4
_TBF, _GACT = 1, 2
"""The attributes of the kinds that begin with the index."""


class PolicerReading(NamedTuple):
    """One policer by its `number` (its index): the packets that came, and how many exceeded.

    Of a super-packet each segment comes, but it exceeds once.
    """

    number: int
    packets: int
    exceeded: int


class VerdictReading(NamedTuple):
    """One action that is a verdict alone (gact), by its `number`: what came to it, of a super-packet each segment.

    `bytes` are as the hook gives them: on the receiving side from the network header on.
    """

    number: int
    packets: int
    bytes: int


def dump_policers(channel: Channel) -> list[bytes]:
    """Of the namespace: policers belong to no device."""
    return _dump(channel, b"police\0")


def dump_verdicts(channel: Channel) -> list[bytes]:
    """Of the namespace, as policers are."""
    return _dump(channel, b"gact\0")


def parse_policers(bodies: Iterable[bytes]) -> list[PolicerReading]:
    """All of them."""
    return [PolicerReading(number, stats.packets, stats.overlimits) for number, stats in _parsed(bodies, _TBF)]


def parse_verdicts(bodies: Iterable[bytes]) -> list[VerdictReading]:
    """All of them."""
    return [VerdictReading(number, stats.packets, stats.bytes) for number, stats in _parsed(bodies, _GACT)]


def _dump(channel: Channel, kind: bytes) -> list[bytes]:
    wanted = attribute(_TAB, attribute(1, attribute(_KIND, kind)))
    return channel.dump(RTM_GETACTION, _TCAMSG + wanted + attribute(_FLAGS, _LARGE_DUMP))


def _parsed(bodies: Iterable[bytes], kind: int) -> Iterator[tuple[int, QueueStats]]:
    for body in bodies:
        for _, one in each_attribute(attributes(body, len(_TCAMSG)).get(_TAB, b"")):
            found = attributes(one)
            parms = attributes(found.get(_OPTIONS, b"")).get(kind, b"")
            if len(parms) >= 4:
                yield struct.unpack_from("=I", parms)[0], parse_stats(found.get(_STATS, b""))
