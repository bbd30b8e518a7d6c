"""Whether what a device sends has its source translated: the rules of everybody's nat chains, read and not judged.

A rule that names another device to leave by does not count; of any other condition it is taken that it may hold. What
iptables programs over nftables is read as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from collectors.netlink import attributes, text
from shaper.kernel.nft import wire
from shaper.kernel.nft.wire import Expression
from shaper.tree import POSTROUTING

_OIFNAME, _META_KEY, _COMPARED, _COMPARISON = 7, 2, 3, 2
_EQUAL, _DIFFERS = 0, 1
_SOURCE_NAT, _NAT_TYPE = 0, 1
_XT_TARGETS = {"MASQUERADE": "masquerades", "SNAT": "translates sources", "NETMAP": "maps networks"}
_VERDICT_CHAIN = 2

Place = tuple[int, str, str]
"""Family, table and chain."""


@dataclass(frozen=True, slots=True)
class Chains:
    """Where translation begins, and the rules of every chain in a table that has such a beginning."""

    bases: tuple[Place, ...] = ()
    rules: dict[Place, list[list[Expression]]] = field(default_factory=dict)


def chains_of(listed: Iterable[bytes], rules_in: Callable[[int, str], list[bytes]]) -> Chains:
    """From the dump of all chains; `rules_in` dumps the rules of one table."""
    bases = []
    for body in listed:
        said = wire.said(body)
        hook = attributes(said.get(wire.CHAIN_HOOK, b""))
        at = int.from_bytes(hook.get(wire.HOOK_NUMBER, b"\xff"), "big")
        if text(said.get(wire.CHAIN_TYPE, b"")) == "nat" and at == POSTROUTING:
            bases.append((wire.family_of(body), text(said[wire.CHAIN_TABLE]), text(said[wire.CHAIN_NAME])))
    found = Chains(tuple(bases))
    for family, table in dict.fromkeys((family, table) for family, table, _ in bases):
        for body in rules_in(family, table):
            said = wire.said(body)
            place = (family, table, text(said.get(wire.RULE_CHAIN, b"")))
            expressions = wire.parse_expressions(said.get(wire.RULE_EXPRESSIONS, b""))
            found.rules.setdefault(place, []).append(expressions)
    return found


def translates(chains: Chains, device: str) -> str:
    """What translates the sources of packets that leave by the device, in words; "" where nothing does."""
    for base in chains.bases:
        if what := _within(chains, base, device, frozenset()):
            family, table, chain = base
            return f"chain {chain} of table {wire.FAMILIES.get(family, family)} {table} {what}"
    return ""


def _within(chains: Chains, place: Place, device: str, seen: frozenset[Place]) -> str:
    if place in seen:
        return ""
    for rule in chains.rules.get(place, ()):
        if not _may_leave_by(rule, device):
            continue
        for kind, fields in rule:
            if what := _act(kind, fields):
                return what
            for target in _targets(kind, fields):
                if what := _within(chains, (*place[:2], target), device, seen | {place}):
                    return what
    return ""


def _act(kind: str, fields: dict[int, bytes]) -> str:
    if kind == "masq":
        return "masquerades"
    if kind == "nat":
        is_source = int.from_bytes(fields.get(_NAT_TYPE, b"\xff"), "big") == _SOURCE_NAT
        return "translates sources" if is_source else ""
    return _XT_TARGETS.get(text(fields.get(1, b"")), "") if kind == "target" else ""


def _targets(kind: str, fields: dict[int, bytes]) -> Iterable[str]:
    """The chain that a verdict goes to. Of a verdict map any chain may be meant, and its elements are not read."""
    verdict = attributes(fields.get(2, b"")).get(wire.DATA_VERDICT) if kind == "immediate" else None
    if verdict is not None and (target := attributes(verdict).get(_VERDICT_CHAIN)):
        yield text(target)


def _may_leave_by(rule: list[Expression], device: str) -> bool:
    """False where the rule asks for the name of another device."""
    for (kind, fields), (after, compared) in pairwise(rule):
        asks = kind == "meta" and int.from_bytes(fields.get(_META_KEY, b""), "big") == _OIFNAME
        if not asks or after != "cmp":
            continue
        wanted = compared.get(_COMPARED, b"")
        same = device.encode().ljust(len(wanted), b"\0")[: len(wanted)] == wanted
        how = int.from_bytes(compared.get(_COMPARISON, b""), "big")
        if (how == _EQUAL and not same) or (how == _DIFFERS and same):
            return False
    return True
