"""What a kernel can do, and what matters of a device: probed, never assumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kernel can do, probed once. `qdiscs`, `filters`, `actions`, `links` are kinds by tc's names.

    `features` are abilities beside kinds: `stab`, a size table at a root qdisc; `nft-ct`, nftables that sees and marks
    connections; `ebpf`, programs that may be loaded into it and measure; `lookup`, those that look addresses up.
    """

    kernel: str
    qdiscs: frozenset[str] = field(default_factory=frozenset)
    filters: frozenset[str] = field(default_factory=frozenset)
    actions: frozenset[str] = field(default_factory=frozenset)
    links: frozenset[str] = field(default_factory=frozenset)
    features: frozenset[str] = field(default_factory=frozenset)


class Feeder(NamedTuple):
    """A device that may join the packets it receives; `joins` are the ways that it has and that can be turned off.

    `feeds` says that its packets may be forwarded to the device in question; `fixed` are ways that are on for good;
    `far` says that its packets come from another stack (veth, tap), which may hand them over joined already.
    `number` is its index in the kernel.
    """

    device: str
    joins: tuple[str, ...]
    feeds: bool = False
    fixed: tuple[str, ...] = ()
    far: bool = False
    number: int = 0


class Occupancy(NamedTuple):
    """What a queue holds, in the units of its limits: packets, and bytes of the kernel's memory that they take."""

    packets: int = 0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What matters of a device. `super_packet` is the largest frame in bytes that can reach its qdisc whole.

    `joined_packet` is the largest that it may hand over as received, joined by GRO or LRO. `header` is the link-layer
    header in bytes (14 for Ethernet, 0 for a tunnel or PPP); `speed` is in bit/s. `own` is the device as what feeds
    the queue of what comes in by it, None where nobody has looked; `feeders` are all other devices. `translates` says
    by what the sources of packets that it sends are translated, "" where nothing is known of that; `unread` names
    programs whose rules may translate them and cannot be read. `flaps` counts how often the carrier came or went since
    the device was made. `heeds` says that somebody behind the queue may go by the priority of a packet.
    """

    name: str
    index: int
    mtu: int
    header: int
    super_packet: int
    up: bool
    speed: int | None = None
    joined_packet: int = 0
    own: Feeder | None = None
    feeders: tuple[Feeder, ...] = ()
    translates: str = ""
    flaps: int = 0
    unread: tuple[str, ...] = ()
    heeds: bool = True
