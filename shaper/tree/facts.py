"""What a kernel can do, and what matters of a device: probed, never assumed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kernel can do, probed once. `qdiscs`, `filters`, `actions`, `links` are kinds by tc's names.

    `features` are abilities beside kinds: `stab`, a size table at a root qdisc.
    """

    kernel: str
    qdiscs: frozenset[str] = field(default_factory=frozenset)
    filters: frozenset[str] = field(default_factory=frozenset)
    actions: frozenset[str] = field(default_factory=frozenset)
    links: frozenset[str] = field(default_factory=frozenset)
    features: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What matters of a device. `super_packet` is the largest frame in bytes that can reach its qdisc whole.

    `joined_packet` is the largest that it may hand over as received, joined by GRO or LRO. `header` is the link-layer
    header in bytes (14 for Ethernet, 0 for a tunnel or PPP); `speed` is in bit/s.
    """

    name: str
    index: int
    mtu: int
    header: int
    super_packet: int
    up: bool
    speed: int | None = None
    joined_packet: int = 0
