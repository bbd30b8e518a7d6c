"""What is wrong between the matches of a policy: rules that earlier ones shadow, and rules that nothing meets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from shaper.errors import Problem
from shaper.model.match import NETWORK_CONTROL, Match, Rule, network_control_matches
from shaper.model.policy import rules_below
from shaper.model.words import key_of
from shaper.policy.claims import Claims
from shaper.policy.draft import Draft
from shaper.policy.kinds import Kind
from shaper.policy.names import dscp_text
from shaper.policy.reader import Document
from shaper.policy.regions import TooManyBoxesError, boxes_of
from shaper.policy.text import Loc, named, quoted

_Conjunction = tuple[Match, ...]
_SAID_BEFORE = ({"protocols", "sport"}, {"protocols", "dport"}, {"protocols", "port"}, {"src", "dst"})
"""Pairs of fields that have problems of their own kinds."""


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
    checked = _Checked(document)
    for key, rules in ways.items():
        cls, loc = places[key]
        if not cls.guessed:
            yield from checked.problems(rules, loc)


class _Checked:
    """The matches so far, in the order of matching."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._claims = Claims()
        self._dscp: dict[int, Rule] = {}
        self._control = Claims()
        for match in network_control_matches():
            self._control.add(Rule((match,), NETWORK_CONTROL))

    def problems(self, rules: list[Rule], loc: Loc) -> Iterator[Problem]:
        """`rules` are all that end in one match of the document, one for each way its ancestors can be met."""
        say = self._document.problem
        if all(_contradicts(rule.all_of) for rule in rules):
            yield from self._never(rules, loc)
            return
        if all(self._control.takers(rule, _always) for rule in rules):
            message = f"this goes to {NETWORK_CONTROL}, which every interface has and asks first"
            yield say(Kind.SHADOWED_MATCH, loc, message, "take this match out")
            return
        takers = [self._claims.takers(rule, _rivals) for rule in rules]
        clashes = [self._clash(rule) for rule in rules]
        if (clash := clashes[0]) is not None and all(clashes):
            other, shared = clash
            taken = named(dscp_text(value) for value in shared)
            message = f"{taken} is claimed by {quoted(other.path)} already, with no other condition"
            hint = f"take it out of one of the two, or add a condition to {quoted(other.path)}"
            yield say(Kind.DSCP_CLAIMED_TWICE, (*loc, "dscp"), message, hint)
        elif all(takers):
            yield self._shadowed(list(dict.fromkeys(rule for way in takers for rule in way)), loc)
        for rule in rules:
            self._claims.add(rule)
            if _dscp_alone(rule.all_of):
                for value in _dscps(rule.all_of):
                    self._dscp.setdefault(value, rule)

    def _never(self, rules: list[Rule], loc: Loc) -> Iterator[Problem]:
        say, own = self._document.problem, rules[0].all_of[-1]
        if not _contradicts((own,)):
            if not all(_contradicts(rule.all_of[:-1]) for rule in rules):
                message = f"no packet meets this and the match of a class above {quoted(rules[0].path)}"
                yield say(Kind.NEVER_MATCHES, loc, message, "take it out, or put the class somewhere else")
            return
        pair = _clashing_pair(own)
        if pair not in _SAID_BEFORE:
            keys = named(f"`{key_of(own, name)}`" for name in sorted(pair))
            message = {
                0: "no packet meets all of this",
                1: f"no packet meets what {keys} asks for",
                2: f"no packet meets all of this: {keys} exclude each other",
            }[len(pair)]
            hint = "take one of them out, or write two matches" if len(pair) == 2 else "take it out, or ask for less"
            yield say(Kind.NEVER_MATCHES, loc, message, hint)

    def _shadowed(self, takers: list[Rule], loc: Loc) -> Problem:
        paths = list(dict.fromkeys(rule.path for rule in takers))
        lines = list(dict.fromkeys(rule.all_of[-1].where for rule in takers))
        places = [str(where.line) for where in lines if where]
        by = f", by line{'s' if len(places) > 1 else ''} {named(places[:5])}" if places else ""
        if len(paths) == 1:
            message = f"{quoted(paths[0])} takes all of this before{by}"
            hint = f"take it out, narrow the match of {quoted(paths[0])}, or put this class before it"
        else:
            message = f"{named(map(quoted, paths[:5]))} together take all of this before{by}"
            hint = f"take it out, narrow the match of {quoted(paths[0])}, or put this class before it"
        return self._document.problem(Kind.SHADOWED_MATCH, loc, message, hint)

    def _clash(self, rule: Rule) -> tuple[Rule, list[int]] | None:
        """An earlier rule that claims one of this rule's DSCPs, where neither asks for anything else."""
        if not _dscp_alone(rule.all_of):
            return None
        holders = {value: self._dscp.get(value) for value in sorted(_dscps(rule.all_of))}
        first = next((holder for holder in holders.values() if holder is not None and _rivals(holder, rule)), None)
        return None if first is None else (first, [value for value, holder in holders.items() if holder is first])


def _always(_earlier: Rule, _later: Rule) -> bool:
    return True


def _rivals(earlier: Rule, later: Rule) -> bool:
    """Whether they belong to different classes, and the later is not what an inner class keeps for its rest."""
    inside = len(earlier.all_of) > len(later.all_of) and earlier.all_of[: len(later.all_of)] == later.all_of
    return earlier.path != later.path and not inside


def _dscp_alone(conjunction: _Conjunction) -> bool:
    return all(match.asks == ("dscp",) for match in conjunction)


def _dscps(conjunction: _Conjunction) -> frozenset[int]:
    """The DSCPs that meet a conjunction that asks for nothing else."""
    return frozenset.intersection(*(frozenset(match.dscp) for match in conjunction))


def _contradicts(conjunction: _Conjunction) -> bool:
    """Whether no packet can meet all of it; False where nobody knows."""
    try:
        return not boxes_of(conjunction)
    except TooManyBoxesError:
        return False


def _clashing_pair(match: Match) -> set[str]:
    """Two conditions that exclude each other by themselves, or one that nothing meets; none where it takes more."""
    alone = {name: replace(_NOTHING, **{name: getattr(match, name)}) for name in match.asks}
    for name, one in alone.items():
        if _contradicts((one,)):
            return {name}
    pairs = combinations(alone, 2)
    return next(({left, right} for left, right in pairs if _contradicts((alone[left], alone[right]))), set())


_NOTHING = Match()
