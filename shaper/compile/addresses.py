"""Which tables of addresses stand for the networks that rules ask for, and what is in their columns.

A network's row says what holds for its addresses: it has what every wider network around it has, since a lookup finds
the longest prefix alone. Of an address two things are told.

- To which lists it belongs: each set of lists that some address belongs to has a number, so that asking for one list is
  comparing one number with a few ranges.
- Of a run of rules that ask for addresses and nothing else, the first that holds, with its class. So a run of thousands
  costs a packet no more than one rule. A rule of `net` holds by either address: the earlier of two verdicts counts.

Of many rules that ask for more, too, but all for one side's address, a packet is asked those that its lists leave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from shaper.compile.parse import ABSENT
from shaper.model.match import Match, Prefix, Rule, Rules
from shaper.model.spans import Span, merged
from shaper.tree import AddressTable, Handle, Row

SIDES = ("src", "dst")
_SHORTEST_RUN = 8
"""Fewer rules are asked one after the other: a column is in every row."""
_MOST_RUNS = 32
_SHORTEST_CHOICE = 32
_MOST_COPIES = 2
"""So many times a rule may stand in a choice on an average: there is one for each set of lists that it belongs to."""
_MOST_RULES = 0x7FFF
"""In one run: the place of a rule is in the upper half of a number, and none may look absent."""

Lists = tuple[int, ...]
"""By their numbers; an address must be in all of them."""
Members = frozenset[int]
"""The lists that an address is in."""


class Run(NamedTuple):
    """Rules one behind the other that ask for addresses alone, and the column of its verdict by side."""

    rules: tuple[Rule, ...]
    columns: Mapping[str, int]


class Choice(NamedTuple):
    """Rules one behind the other that all ask for the address of a side: which are left by the number of its lists.

    `parts` are sorted numbers, each with its rules.
    """

    side: str
    parts: tuple[tuple[int, tuple[Rule, ...]], ...]


class Addresses:
    """The tables for some rules. `steps` are the rules in their order, with what are runs and choices as such."""

    def __init__(self, rules: Rules, classids: Mapping[str, Handle]) -> None:
        self._classids = classids
        self._numbers: dict[tuple[Prefix, ...], int] = {}
        self._known: dict[int, int] = {}
        self._columns: list[Callable[[Members], int]] = []
        self.verdicts: set[int] = set()
        self.steps: list[Rule | Run | Choice] = []
        runs: dict[tuple[object, ...], int] = {}
        for some in _in_runs(rules.ordered):
            if isinstance(some, Rule):
                self.steps.append(some)
            else:
                self.steps.append(Run(tuple(some), dict(self._verdicts(some, runs))))
        self.ordinary = [match for step in self.steps if isinstance(step, Rule) for match in step.all_of]
        asked = dict(_asked(self.ordinary))
        self.sides = {side: self._sided(side, asked) for side in SIDES}
        self._sets: dict[Members, int] = {}
        self._spans: dict[int, tuple[Span, ...]] = {}
        self.tables = self._tables(frozenset(self._number(prefixes) for prefixes in asked))
        self.steps = list(self._with_choices(self.steps))

    def spans(self, prefixes: tuple[Prefix, ...]) -> tuple[Span, ...]:
        """Between which numbers of the first column an address of this list is."""
        return self._spans[self._number(prefixes)]

    def _with_choices(self, steps: Iterable[Rule | Run | Choice]) -> Iterator[Rule | Run | Choice]:
        """Many rules about one side, one behind the other, as a choice."""
        for side, group in groupby(steps, lambda step: _necessary(step)[0] if isinstance(step, Rule) else ""):
            some = list(group)
            rules = [step for step in some if isinstance(step, Rule)]
            parts = self._parts(side, rules) if side and len(rules) >= _SHORTEST_CHOICE else ()
            if parts:
                yield Choice(side, parts)
            else:
                yield from some

    def _parts(self, side: str, rules: Sequence[Rule]) -> tuple[tuple[int, tuple[Rule, ...]], ...]:
        """What a choice is made of, without what it has answered; nothing where a rule would stand in it too often."""
        spans = [self.spans(_necessary(rule)[1]) for rule in rules]
        if sum(last - first + 1 for each in spans for first, last in each) > _MOST_COPIES * len(rules):
            return ()
        left: dict[int, tuple[Rule, ...]] = defaultdict(tuple)
        for rule, each in zip(rules, spans, strict=True):
            rest = _without(rule, side)
            for first, last in each:
                for number in range(first, last + 1):
                    left[number] += (rest,)
        return tuple((number, left[number]) for number in sorted(left))

    def _number(self, prefixes: tuple[Prefix, ...]) -> int:
        """Of a list; by identity first, since comparing long ones takes time."""
        if id(prefixes) not in self._known:
            self._known[id(prefixes)] = self._numbers.setdefault(prefixes, len(self._numbers))
        return self._known[id(prefixes)]

    def _sided(self, side: str, asked: Mapping[tuple[Prefix, ...], frozenset[str]]) -> tuple[int, ...]:
        """The columns that are asked of the address of a side; the first is that of the lists."""
        lists = [0] if any(side in sides for sides in asked.values()) else []
        return (*lists, *(run.columns[side] for run in self.steps if isinstance(run, Run) and side in run.columns))

    def _verdicts(self, rules: list[Rule], known: dict[tuple[object, ...], int]) -> Iterator[tuple[str, int]]:
        """The columns of a run by side; two sides of which the same is asked share one."""
        both = [_sides(rule) or {} for rule in rules]
        for side in SIDES:
            wanted = [tuple(map(self._number, sides.get(side, ()))) for sides in both]
            if not any(wanted):
                continue
            key = (tuple(wanted), tuple(rule.path for rule in rules))
            if key not in known:
                known[key] = 1 + len(self._columns)
                self.verdicts.add(known[key])
                self._columns.append(self._first(rules, wanted))
            yield side, known[key]

    def _first(self, rules: list[Rule], wanted: list[Lists]) -> Callable[[Members], int]:
        """What tells the first of the rules whose lists an address is in, with its class."""
        asking: dict[int, int] = defaultdict(int)
        for lists in wanted:
            for one in lists:
                asking[one] += 1
        candidates: dict[int, list[int]] = defaultdict(list)
        for place, lists in enumerate(wanted):
            if lists:
                candidates[min(lists, key=asking.__getitem__)].append(place)

        def first(members: Members) -> int:
            found = (place for one in members for place in candidates[one] if members.issuperset(wanted[place]))
            place = min(found, default=None)
            return ABSENT if place is None else place << 16 | self._classids[rules[place].path] & 0xFFFF

        return first

    def _tables(self, asked: Members) -> tuple[AddressTable, ...]:
        networks: dict[int, dict[tuple[int, int], set[int]]] = {4: defaultdict(set), 6: defaultdict(set)}
        for prefixes, number in self._numbers.items():
            for prefix in prefixes:
                shift = prefix.bits - prefix.length
                networks[prefix.version][prefix.value >> shift << shift, prefix.length].add(number)
        found = {version: list(_with_wider(own, 32 if version == 4 else 128)) for version, own in networks.items()}
        self._count({members & asked for rows in found.values() for _, members in rows})
        known: dict[Members, tuple[int, ...]] = {}
        for members in {members for rows in found.values() for _, members in rows}:
            known[members] = (self._sets.get(members & asked, ABSENT), *(column(members) for column in self._columns))
        tables = (
            AddressTable(version, tuple(Row(*network, known[members]) for network, members in rows))
            for version, rows in found.items()
        )
        return tuple(table for table in tables if table.rows)

    def _count(self, sets: set[Members]) -> None:
        """Numbers for the sets, so that those with the same lists are neighbours as often as not."""
        for number, members in enumerate(sorted(filter(None, sets), key=sorted)):
            self._sets[members] = number
        holding: dict[int, list[Span]] = defaultdict(list)
        for members, number in self._sets.items():
            for one in members:
                holding[one].append((number, number))
        self._spans = {one: tuple(merged(spans)) for one, spans in holding.items()}


def _in_runs(rules: Iterable[Rule]) -> Iterator[Rule | list[Rule]]:
    """The rules in their order; of what asks for addresses alone and stands together, as many as there is room for."""
    grouped = [(alone, list(some)) for alone, some in groupby(rules, lambda rule: _sides(rule) is not None)]
    parts = [(alone, some[at : at + _MOST_RULES]) for alone, some in grouped for at in range(0, len(some), _MOST_RULES)]
    lengths = sorted((len(some) for alone, some in parts if alone), reverse=True)
    least = max(_SHORTEST_RUN, *lengths[_MOST_RUNS - 1 : _MOST_RUNS], 0)
    room = _MOST_RUNS
    for alone, some in parts:
        if alone and room and len(some) >= least:
            room -= 1
            yield some
        else:
            yield from some


def _sides(rule: Rule) -> dict[str, tuple[tuple[Prefix, ...], ...]] | None:
    """The lists in which the source must be for the rule to hold, or the destination; None where it asks otherwise."""
    asked = [(name, getattr(match, name)) for match in rule.all_of for name in match.asks]
    names = {name for name, _ in asked}
    if names == {"net"} and len(asked) == 1:
        return dict.fromkeys(SIDES, (asked[0][1],))
    if len(names) == 1 and names <= set(SIDES):
        return {names.pop(): tuple(prefixes for _, prefixes in asked)}
    return None


def _necessary(rule: Rule) -> tuple[str, tuple[Prefix, ...]]:
    """A side, and a list in which its address must be for the rule to hold; "" where it asks for none."""
    asked = ((side, getattr(match, side)) for side in reversed(SIDES) for match in rule.all_of if getattr(match, side))
    return next(asked, ("", ()))


def _without(rule: Rule, side: str) -> Rule:
    """As far as it asks for more than what `_necessary` gives."""
    place = next(place for place, match in enumerate(rule.all_of) if getattr(match, side))
    match = rule.all_of[place]
    known = replace(match, src=()) if side == "src" else replace(match, dst=())
    return Rule((*rule.all_of[:place], known, *rule.all_of[place + 1 :]), rule.path)


def _asked(matches: Iterable[Match]) -> Iterator[tuple[tuple[Prefix, ...], frozenset[str]]]:
    """The lists that are asked for, and of which sides; not those of a packet inside."""
    found: dict[tuple[Prefix, ...], set[str]] = defaultdict(set)
    for match in matches:
        for name in match.asks:
            if name in (*SIDES, "net"):
                found[getattr(match, name)].update(SIDES if name == "net" else [name])
        for prefixes, sides in _asked(match.parts()):
            found[prefixes] |= sides
    return ((prefixes, frozenset(sides)) for prefixes, sides in found.items())


def _with_wider(
    networks: Mapping[tuple[int, int], Iterable[int]], bits: int
) -> Iterator[tuple[tuple[int, int], Members]]:
    """Every network with its own lists and those of all networks around it, unless the next around it has the same."""
    around: list[tuple[int, Members]] = []
    interned: dict[Members, Members] = {}
    for value, length in sorted(networks):
        while around and around[-1][0] < value:
            around.pop()
        wider = around[-1][1] if around else frozenset()
        members = wider.union(networks[value, length])
        members = interned.setdefault(members, members)
        around.append((value | (1 << bits - length) - 1, members))
        if members != wider:
            yield (value, length), members
