"""Counters and raw state of the qdiscs, classes and filters of one device, from netlink dumps."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

from collectors.borrows import lent_and_borrowed
from collectors.marks import marked_packets
from collectors.netlink import (
    RTM_GETQDISC,
    RTM_GETTCLASS,
    RTM_GETTFILTER,
    TCA_CHAIN,
    TCA_KIND,
    TCA_OPTIONS,
    TCA_STAB,
    TCA_STATS2,
    Channel,
    QueueStats,
    attribute,
    attributes,
    pack_tc,
    parse_stats,
    parse_tc,
    text,
)

_TCA_HTB_INIT = 2
_HTB_DIRECT = struct.Struct("=16xI")  # struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts
_TCA_STATS_APP, _TCA_CAKE_STATS_TIN_STATS = 4, 10
_CAKE_PACKETS, _CAKE_BYTES, _CAKE_DROPPED, _CAKE_MARKED, _CAKE_BACKLOG = 2, 3, 4, 8, 11
_INDEX = struct.Struct("=4xi")


class TinReading(NamedTuple):
    """One of CAKE's tins. `bytes` and `packets` are what came in, what was dropped later included; `backlog` in bytes.

    The kernel says neither how many bytes it dropped nor how many packets wait.
    """

    bytes: int
    packets: int
    drops: int
    backlog: int
    marked: int = 0

    @property
    def sent_packets(self) -> int:
        """What came in and was not dropped; the packets that wait among them."""
        return self.packets - self.drops

    @property
    def sent_bytes(self) -> int:
        """What came in and neither waits nor was dropped, taking the dropped packets for as large as the others."""
        dropped = self.bytes * self.drops // self.packets if self.packets else 0
        return max(0, self.bytes - self.backlog - dropped)


class QdiscReading(NamedTuple):
    """One qdisc; `options`, `stats2` and `stab` (its size table) as the kernel gave them."""

    handle: int
    parent: int
    kind: str
    options: bytes
    stats2: bytes
    stab: bytes = b""

    @property
    def stats(self) -> QueueStats:
        """Its counters, parsed when they are asked for."""
        return parse_stats(self.stats2)

    @property
    def marked(self) -> int:
        """Packets that it marked instead of dropping them."""
        return marked_packets(self.kind, self.stats2)

    @property
    def direct_packets(self) -> int:
        """Packets that no class of an HTB took; 0 for another kind."""
        init = attributes(self.options).get(_TCA_HTB_INIT, b"") if self.kind == "htb" else b""
        return int(_HTB_DIRECT.unpack_from(init)[0]) if len(init) >= _HTB_DIRECT.size else 0

    @property
    def tins(self) -> tuple[TinReading, ...]:
        """CAKE's, in the order in which the kernel shows them; none for another kind."""
        if self.kind != "cake":
            return ()
        stats = attributes(attributes(self.stats2).get(_TCA_STATS_APP, b""))
        tins = attributes(stats.get(_TCA_CAKE_STATS_TIN_STATS, b""))
        return tuple(_tin(tins[number]) for number in sorted(tins))


class ClassReading(NamedTuple):
    """One class; `leaf` is the handle of the qdisc under it, 0 for none or the automatic one."""

    handle: int
    parent: int
    leaf: int
    kind: str
    options: bytes
    stats2: bytes

    @property
    def stats(self) -> QueueStats:
        """Its counters, parsed when they are asked for."""
        return parse_stats(self.stats2)

    @property
    def lent_and_borrowed(self) -> tuple[int, int] | None:
        """Packets that its own rate sent, and another's; None of a kind in which nobody borrows."""
        return lent_and_borrowed(self.kind, self.stats2)


class FilterReading(NamedTuple):
    """One filter of chain 0; `handle` 0 is the head of a preference, which the kernel lists before its filters."""

    handle: int
    parent: int
    preference: int
    protocol: int
    kind: str
    options: bytes


def _tin(data: bytes) -> TinReading:
    found = {kind: int.from_bytes(value, sys.byteorder) for kind, value in attributes(data).items()}
    wanted = (_CAKE_BYTES, _CAKE_PACKETS, _CAKE_DROPPED, _CAKE_BACKLOG, _CAKE_MARKED)
    return TinReading(*(found.get(kind, 0) for kind in wanted))


def dump_qdiscs(channel: Channel) -> list[bytes]:
    """Of all devices: the kernel has no narrower dump of qdiscs."""
    return channel.dump(RTM_GETQDISC, pack_tc(0))


def dump_classes(channel: Channel, index: int) -> list[bytes]:
    """Of one device."""
    return channel.dump(RTM_GETTCLASS, pack_tc(index))


def dump_filters(channel: Channel, index: int, parent: int) -> list[bytes]:
    """Of one hook of a device: a classful qdisc's handle, or clsact's egress or ingress."""
    return channel.dump(RTM_GETTFILTER, pack_tc(index, parent=parent) + attribute(TCA_CHAIN, struct.pack("=I", 0)))


def parse_qdiscs(bodies: Iterable[bytes], index: int) -> list[QdiscReading]:
    """Those of one device."""
    readings = []
    for body in bodies:
        if _INDEX.unpack_from(body)[0] != index:
            continue
        message = parse_tc(body)
        found = message.attributes
        readings.append(
            QdiscReading(
                message.handle,
                message.parent,
                text(found.get(TCA_KIND, b"")),
                found.get(TCA_OPTIONS, b""),
                found.get(TCA_STATS2, b""),
                found.get(TCA_STAB, b""),
            )
        )
    return readings


def parse_classes(bodies: Iterable[bytes]) -> list[ClassReading]:
    """All classes of the dump."""
    readings = []
    for body in bodies:
        message = parse_tc(body)
        found = message.attributes
        readings.append(
            ClassReading(
                message.handle,
                message.parent,
                message.info,
                text(found.get(TCA_KIND, b"")),
                found.get(TCA_OPTIONS, b""),
                found.get(TCA_STATS2, b""),
            )
        )
    return readings


def parse_filters(bodies: Iterable[bytes]) -> list[FilterReading]:
    """All filters of chain 0 in the dump; the others are reached only through one of them."""
    readings = []
    for body in bodies:
        message = parse_tc(body)
        found = message.attributes
        if any(found.get(TCA_CHAIN, b"")):
            continue
        readings.append(
            FilterReading(
                message.handle,
                message.parent,
                message.info >> 16,
                _network_order(message.info & 0xFFFF),
                text(found.get(TCA_KIND, b"")),
                found.get(TCA_OPTIONS, b""),
            )
        )
    return readings


def _network_order(value: int) -> int:
    """The protocol of a filter stands in network byte order in the low half of tcm_info."""
    return int(struct.unpack("!H", struct.pack("=H", value))[0])
