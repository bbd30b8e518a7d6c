"""The kernel and the device that are assumed where a command works without them."""

from __future__ import annotations

from shaper.model.aqm import AqmKind
from shaper.tree import Capabilities, LinkFacts

EVERYTHING = Capabilities(
    "assumed",
    frozenset({"htb", "hfsc", "cake", "ets", "prio", "bfifo", "pfifo", "clsact"}) | frozenset(AqmKind),
    frozenset({"bpf", "flower", "u32"}),
    frozenset({"mirred", "ctinfo", "gact", "police", "pedit", "csum", "skbedit"}),
    frozenset({"ifb"}),
    frozenset({"stab", "nft-ct", "nft-cgroup"}),
)
"""All that a policy can ask for, but for what a program must be loaded into the kernel for."""


def ethernet(device: str) -> LinkFacts:
    """A device that joins no packets."""
    return LinkFacts(device, 0, 1500, 14, 1514, True)
