"""What is wrong between the matches of a policy: rules that an earlier one shadows, and rules that nothing meets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from shaper.errors import Problem
from shaper.model.match import NETWORK_CONTROL, Match, PortRange, Prefix, Rule, network_control_matches
from shaper.model.policy import rules_below
from shaper.policy.draft import Draft
from shaper.policy.kinds import Kind
from shaper.policy.names import dscp_text
from shaper.policy.reader import Document
from shaper.policy.text import Loc, named, quoted

_Conjunction = tuple[Match, ...]
_NOTHING_ELSE = Match()
_MOST_MATCHES = 6


def matching_problems(drafts: Sequence[Draft], document: Document) -> Iterator[Problem]:
    """Every match that can take no packet because of its ancestors, the classes before it, or network control."""
    places = {
        id(match): (cls, loc)
        for top in drafts
        for cls in top.walk()
        for match, loc in zip(cls.matches, cls.match_locs, strict=True)
    }
    ways: dict[int, list[Rule]] = {}
    for top in drafts:
        for rule in rules_below(top):
            ways.setdefault(id(rule.all_of[-1]), []).append(rule)
    claims = _Claims()
    for key, rules in ways.items():
        cls, loc = places[key]
        if not cls.guessed:
            yield from _of_one_match(rules, loc, document, claims)


def _of_one_match(rules: list[Rule], loc: Loc, document: Document, claims: _Claims) -> Iterator[Problem]:
    """`rules` are all that end in one match of the document, one for each way in which its ancestors can be met."""
    if all(_contradicts(rule.all_of) for rule in rules):
        if not _contradicts(rules[0].all_of[-1:]) and not all(_contradicts(rule.all_of[:-1]) for rule in rules):
            message = f"no packet meets this and the match of a class above {quoted(rules[0].path)}"
            yield document.problem(Kind.NEVER_MATCHES, loc, message, "take it out, or put the class somewhere else")
        return
    if all(any(_covered(wide, rule.all_of) for wide in network_control_matches()) for rule in rules):
        message = f"this goes to {NETWORK_CONTROL}, which every interface has and asks first"
        yield document.problem(Kind.SHADOWED_MATCH, loc, message, "take this match out")
        return
    shadows = [claims.shadow(rule) for rule in rules]
    clashes = [claims.clash(rule) for rule in rules]
    if (clash := clashes[0]) is not None and all(clashes):
        other, shared = clash
        taken = named(dscp_text(value) for value in shared)
        message = f"{taken} is claimed by {quoted(other.path)} already, with no other condition"
        hint = f"take it out of one of the two, or add a condition to {quoted(other.path)}"
        yield document.problem(Kind.DSCP_CLAIMED_TWICE, (*loc, "dscp"), message, hint)
    elif (shadow := shadows[0]) is not None and all(shadows):
        line = shadow.all_of[-1].where
        message = f"{quoted(shadow.path)} takes all of this before" + (f", by line {line.line}" if line else "")
        hint = f"take it out, narrow the match of {quoted(shadow.path)}, or put this class before it"
        yield document.problem(Kind.SHADOWED_MATCH, loc, message, hint)
    for rule in rules:
        claims.add(rule)


class _Claims:
    """What the rules so far have taken, as far as one look-up can tell."""

    def __init__(self) -> None:
        self._identical: dict[frozenset[Match], Rule] = {}
        self._dscp: dict[int, Rule] = {}

    def add(self, rule: Rule) -> None:
        """The first to claim something keeps it."""
        self._identical.setdefault(_canonical(rule.all_of), rule)
        if _dscp_alone(rule.all_of):
            for value in _dscps(rule.all_of) or ():
                self._dscp.setdefault(value, rule)

    def shadow(self, rule: Rule) -> Rule | None:
        """An earlier rule of another class that takes all that this one asks for."""
        asked = _canonical(rule.all_of)
        for size in range(1, min(len(asked), _MOST_MATCHES) + 1):  # who asks less takes all who ask for that and more
            for part in combinations(asked, size):
                wider = self._identical.get(frozenset(part))
                if wider is not None and _rivals(wider, rule):
                    return wider
        wanted = _dscps(rule.all_of)
        holders = [self._dscp.get(value) for value in wanted or ()]
        if holders and all(holder is not None and _rivals(holder, rule) for holder in holders):
            return holders[0]
        return None

    def clash(self, rule: Rule) -> tuple[Rule, list[int]] | None:
        """An earlier rule that claims one of this rule's DSCPs, where neither asks for anything else."""
        if not _dscp_alone(rule.all_of):
            return None
        holders = {value: self._dscp.get(value) for value in sorted(_dscps(rule.all_of) or ())}
        first = next((holder for holder in holders.values() if holder is not None and _rivals(holder, rule)), None)
        return None if first is None else (first, [value for value, holder in holders.items() if holder is first])


def _rivals(earlier: Rule, later: Rule) -> bool:
    """Whether they belong to different classes, and the later is not what an inner class keeps for its rest."""
    inside = len(earlier.all_of) > len(later.all_of) and earlier.all_of[: len(later.all_of)] == later.all_of
    return earlier.path != later.path and not inside


def _canonical(conjunction: _Conjunction) -> frozenset[Match]:
    return frozenset(replace(match, where=None) for match in conjunction)


def _dscp_alone(conjunction: _Conjunction) -> bool:
    return all(replace(match, dscp=(), where=None) == _NOTHING_ELSE for match in conjunction)


def _dscps(conjunction: _Conjunction) -> frozenset[int] | None:
    """The DSCPs that meet a conjunction; None where it does not ask."""
    asked = [frozenset(match.dscp) for match in conjunction if match.dscp]
    return frozenset.intersection(*asked) if asked else None


def _covered(wide: Match, conjunction: _Conjunction) -> bool:
    """Whether all that meets the conjunction meets `wide`, for a `wide` of protocols and ports."""
    if wide.ethertypes or wide.icmpv6_types:
        return False
    return (
        any(match.protocols and set(match.protocols) <= set(wide.protocols) for match in conjunction)
        and (not wide.sport or any(_within(match.sport, wide.sport) for match in conjunction))
        and (not wide.dport or any(_within(match.dport, wide.dport) for match in conjunction))
    )


def _within(narrow: tuple[PortRange, ...], wide: tuple[PortRange, ...]) -> bool:
    return bool(narrow) and all(
        any(outer.first <= inner.first and inner.last <= outer.last for outer in wide) for inner in narrow
    )


def _contradicts(conjunction: _Conjunction) -> bool:
    """Whether no packet can meet all of it."""
    for one, two in combinations(conjunction, 2):
        if (
            _apart(one.dscp, two.dscp)
            or _apart(one.protocols, two.protocols)
            or _ranges_apart(one.sport, two.sport)
            or _ranges_apart(one.dport, two.dport)
            or _networks_apart(one.src, two.src)
            or _networks_apart(one.dst, two.dst)
        ):
            return True
    families = [
        {prefix.version for prefix in prefixes}
        for match in conjunction
        for prefixes in (match.src, match.dst)
        if prefixes
    ]
    return bool(families) and not set.intersection(*families)


def _apart(one: Iterable[int], two: Iterable[int]) -> bool:
    return bool(one) and bool(two) and set(one).isdisjoint(two)


def _ranges_apart(one: tuple[PortRange, ...], two: tuple[PortRange, ...]) -> bool:
    pairs = ((left, right) for left in one for right in two)
    return bool(one and two) and all(left.last < right.first or right.last < left.first for left, right in pairs)


def _networks_apart(one: tuple[Prefix, ...], two: tuple[Prefix, ...]) -> bool:
    return bool(one and two) and not any(_overlap(left, right) for left in one for right in two)


def _overlap(left: Prefix, right: Prefix) -> bool:
    shift = left.bits - min(left.length, right.length)
    return left.version == right.version and left.value >> shift == right.value >> shift
