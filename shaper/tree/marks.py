"""Our nftables table as a value: what of a packet's or a connection's mark says what a translation hides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

FAMILY_IPV4, FAMILY_IPV6 = 2, 10
"""What `meta nfproto` gives (NFPROTO_IPV4, NFPROTO_IPV6)."""
PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4
"""Netfilter's hooks (NF_INET_PRE_ROUTING, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING)."""

CONNMARK = frozenset({"connmark", "skbedit"})
"""The actions that give a packet its connection's mark where there is no ctinfo."""


class MarkSet(NamedTuple):
    """Ranges of numbers, both ends included, sorted and apart: of addresses (`bits` 32 or 128) or of ports (16)."""

    name: str
    bits: int
    ranges: tuple[tuple[int, int], ...]


class Statement(NamedTuple):
    """One word of a rule, a condition or an act. `what` says how the rest is read:

    `oifname`, `iifname`: the device `text`. `nfproto`: the family `number`. `saddr`: the source of IP version `number`
    is in the set `text`, with `mask` 1 it is not. `sport`: the same of the source port. `dscp`: of the DSCP in IP
    version `number` a bit of `mask` is set; `no-dscp`: none is. `cgroup`: it was sent by a socket of the cgroup `text`,
    `number` levels below the root, or of one below that. `mark`, `ct-mark`: of the packet's or the connection's
    mark the bits of `mask` are kept and those of `number` set. `other`: what is not ours to write.
    """

    what: str
    number: int = 0
    mask: int = 0
    text: str = ""


Rule = tuple[Statement, ...]


class MarkChain(NamedTuple):
    """Rules at a hook of netfilter, in order; every packet goes on."""

    name: str
    hook: int
    priority: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class MarkTable:
    """A table of family `inet`, ours by its name; replaced whole in one transaction. Sets and chains are sorted."""

    name: str
    sets: tuple[MarkSet, ...]
    chains: tuple[MarkChain, ...]

    @property
    def key(self) -> tuple[str, int, int]:
        return ("marks", 0, 0)


class Restore(NamedTuple):
    """What a filter gives a packet of its connection: the bits `mark` of the mark, and the DSCP from the six bits
    `dscp` where one of `state` says that they were saved; 0 for none. By the action ctinfo, or where a kernel lacks
    it by `connmark` and skbedit, which give the same mark, and no DSCP.
    """

    mark: int
    dscp: int = 0
    state: int = 0
    connmark: bool = False


def restoring(restore: Restore) -> frozenset[str]:
    """The kinds of actions that it takes."""
    return CONNMARK if restore.connmark else frozenset({"ctinfo"})


def table_name(shaped: str) -> str:
    """Of the table for the device that is shaped."""
    return f"sla-shaper-{shaped}"
