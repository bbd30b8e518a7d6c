"""Counters of the policers of a network namespace, from one netlink dump of actions."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from collectors.netlink import RTM_GETACTION, Channel, attribute, attributes, each_attribute, parse_stats

_TCAMSG = bytes(4)  # struct tcamsg: an address family, and nothing
_TAB, _FLAGS = 1, 2  # TCA_ROOT_TAB, TCA_ROOT_FLAGS
_LARGE_DUMP = struct.pack("=II", 1, 1)  # as many as a message holds, and not 32
_KIND, _OPTIONS, _STATS = 1, 2, 4
_TBF = 1


class PolicerReading(NamedTuple):
    """One policer by its `number` (its index): the packets that came, and how many exceeded.

    Of a super-packet each segment comes, but it exceeds once.
    """

    number: int
    packets: int
    exceeded: int


def dump_policers(channel: Channel) -> list[bytes]:
    """Of the namespace: policers belong to no device."""
    wanted = attribute(_TAB, attribute(1, attribute(_KIND, b"police\0")))
    return channel.dump(RTM_GETACTION, _TCAMSG + wanted + attribute(_FLAGS, _LARGE_DUMP))


def parse_policers(bodies: Iterable[bytes]) -> list[PolicerReading]:
    """All of them."""
    readings = []
    for body in bodies:
        for _, one in each_attribute(attributes(body, len(_TCAMSG)).get(_TAB, b"")):
            found = attributes(one)
            parms = attributes(found.get(_OPTIONS, b"")).get(_TBF, b"")
            if len(parms) < 4:
                continue
            stats = parse_stats(found.get(_STATS, b""))
            readings.append(PolicerReading(struct.unpack_from("=I", parms)[0], stats.packets, stats.overlimits))
    return readings
