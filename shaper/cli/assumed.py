"""The kernel and the device that are assumed where a command works without them."""

from __future__ import annotations

from shaper.model.aqm import AqmKind
from shaper.tree import Capabilities, LinkFacts

EVERYTHING = Capabilities(
    "assumed",
    frozenset({"htb", "bfifo", "clsact"}) | frozenset(AqmKind),
    frozenset({"bpf", "flower", "u32"}),
    frozenset({"mirred", "ctinfo", "gact", "police", "pedit", "csum", "skbedit"}),
    frozenset({"ifb", "veth"}),
    frozenset({"nft-ct", "nft-cgroup"}),
)


def ethernet(device: str) -> LinkFacts:
    """A device that joins no packets."""
    return LinkFacts(device, 0, 1500, 14, 1514, True)
