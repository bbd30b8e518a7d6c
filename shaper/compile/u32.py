"""The classifier as u32 filters, for a kernel without cls_bpf and without flower, and for who asks for it.

It gives the answer of `model.match.classify` for every packet whose headers are whole, or refuses the rules. Each
ethertype has a preference, and there the rules stand in their order. What asks for no ethertype stands in each of them,
and last in one for all others, behind which everything is the default's.

Unlike the program of `classifier`, u32 knows a frame with a VLAN tag by the tag, and an IEEE 802.3 frame that a program
of this machine sends by its length; and the kernel follows eight links and no more, so that IPv6 behind more than seven
extension headers is not seen. All of those go to the default class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shaper.compile.treatment import Treatment
from shaper.compile.u32_layout import Block, Node, Place
from shaper.compile.u32_ways import CARRIED, MOST_WAYS, TooManyError, ways
from shaper.errors import UnavailableError, Where
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Match, Rule, Rules
from shaper.model.words import KEYS
from shaper.tree import ETH_P_ALL, Handle

MOST_FILTERS, MOST_TABLES = 4000, 2000
_NOBODY: Mapping[str, Treatment] = {}


def u32_filters(
    rules: Rules, classids: Mapping[str, Handle], parent: Handle, treated: Mapping[str, Treatment] = _NOBODY
) -> tuple[Node, ...]:
    """The filters and their tables for the rules, given every leaf's classid by path, and what is done to the packets
    of some.

    Raises UnavailableError, at the rule that u32 cannot say and where the filters get too many.
    """
    for rule in rules.ordered:
        _refuse(rule)
    every = (*rules.ordered, Rule((), rules.default))
    block = Block(parent)
    for ethertype in _ethertypes(rules):
        place = Place(block, ethertype)
        # The default's rule for all others takes what is left of each; in their own place is what is done to them.
        for rule in every if ethertype == ETH_P_ALL or rules.default in treated else rules.ordered:
            treatment = treated.get(rule.path)
            try:
                found = ways(rule.all_of, ethertype)
            except TooManyError as error:
                raise _too_many(rule, f"a rule of {rule.path} can be met in more than {MOST_WAYS} ways") from error
            place.add(found, classids[rule.path], () if treatment is None else treatment.of(ethertype))
            if block.filters > MOST_FILTERS or block.tables > MOST_TABLES:
                raise _too_many(rule, f"the rules take more than {MOST_FILTERS} u32 filters, or {MOST_TABLES} tables")
    return tuple(block.nodes)


def _ethertypes(rules: Rules) -> list[int]:
    """Those that some rule asks for, both of IP, and last what stands for all others."""
    asked = {number for rule in rules.ordered for match in rule.all_of for number in _asked(match)}
    return [*sorted(asked | {ETHERTYPE_IPV4, ETHERTYPE_IPV6}), ETH_P_ALL]


def _asked(match: Match) -> Iterator[int]:
    yield from match.ethertypes
    for part in match.parts():
        yield from _asked(part)


def _where(rule: Rule) -> Where | None:
    return next((match.where for match in reversed(rule.all_of) if match.where), None)


def _too_many(rule: Rule, what: str) -> UnavailableError:
    return UnavailableError(
        what,
        hint="join ports to ranges and addresses to prefixes, or classify by a kernel's bpf filter, which takes far "
        "longer rules",
        where=_where(rule),
    )


def _refuse(rule: Rule) -> None:
    """Raises UnavailableError where a match asks for what no filter is made for here."""
    for match in rule.all_of:
        unknown = sorted({KEYS.get(name, name) for name in match.fields() if name not in CARRIED})
        if unknown:
            raise UnavailableError(
                f"a rule of {rule.path} asks for {', '.join(unknown)}, which u32 filters don't carry here",
                hint="write `classifier: bpf` where the kernel has it, or take the condition out",
                where=match.where or _where(rule),
            )
