"""Why a packet belongs to its class, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from shaper.compile.policed import left_over
from shaper.compile.program import Program
from shaper.model.explain import Explanation
from shaper.model.match import NETWORK_CONTROL, Match, Rule
from shaper.model.policy import Interface, TrafficClass
from shaper.model.treatment import Outcome
from shaper.model.words import key_of
from shaper.policy.names import dscp_text
from shaper.report.as_json import options_json
from shaper.report.match_words import asked, found, match_text
from shaper.report.steps import options_text
from shaper.report.words import clean
from shaper.tree import Qdisc
from shaper.units import format_rate, format_size


def explanation_json(
    explained: Explanation, interface: Interface, program: Program | None, *, assumed: Mapping[str, str], by: str
) -> dict[str, Any]:
    """The whole of it. `program` is None where the policy cannot be programmed, `by` says for which kernel it is."""
    cls = _leaf(interface, explained.path)
    queue = _queue(program, cls)
    rule = explained.rule
    return {
        "interface": interface.name,
        "device": interface.spot,
        "direction": interface.direction.value,
        "class": cls.path,
        "default": rule is None,
        "rule": None if rule is None else _rule_json(rule),
        "conditions": [
            {
                "key": key_of(match, name),
                "asked": asked(match, name, explained.packet),
                "packet": found(explained.packet, name) or None,
                "where": str(match.where) if match.where else None,
            }
            for match in (rule.all_of if rule else ())
            for name in match.asks
        ],
        "later": [_rule_json(one) for one in explained.later],
        "tier": cls.tier.name.lower(),
        "strict": cls.strict,
        "fairness": cls.fairness,
        "guarantee_bit_s": cls.guarantee,
        "floor_bit_s": cls.floor,
        "limit_bit_s": cls.limit,
        **_treatment_json(cls),
        "policed": interface.policed,
        "queue": None if queue is None else {"kind": queue.kind, **options_json(queue.kind, queue.options)},
        "assumed": dict(assumed),
        **({"addresses": "inside"} if _translated(program) else {}),
        "compiled_for": by,
    }


def explanation_view(
    explained: Explanation,
    interface: Interface,
    program: Program | None,
    *,
    assumed: Mapping[str, str],
    by: str,
    out: Console,
) -> None:
    """The same for people."""
    for line in _lines(explained, interface, program, assumed=assumed, by=by):
        out.print(clean(line), soft_wrap=True)


def _lines(
    explained: Explanation, interface: Interface, program: Program | None, *, assumed: Mapping[str, str], by: str
) -> Sequence[str]:
    cls = _leaf(interface, explained.path)
    lines = [f"{interface.title} on {interface.spot}: {cls.path}"]
    if explained.rule is None:
        lines.append("  no rule holds: it is the class for the rest")
    else:
        lines.append(f"  rule      {_place(explained.rule)}")
        for match in explained.rule.all_of:
            lines.extend(f"    {_held(match, name, explained)}" for name in match.asks)
    yields = f", {format_rate(cls.floor)} where higher tiers need it" if cls.floor < cls.guarantee else ""
    lines.append(
        f"  class     {cls.tier.name.lower()}{', strict' if cls.strict else ''}, guarantee "
        f"{format_rate(cls.guarantee)}{yields}, limit {format_rate(cls.limit)}"
    )
    lines.extend(f"  {line}" for line in _treatment(cls))
    lines.extend(f"  {line}" for line in _policed(interface, cls))
    queue = _queue(program, cls)
    if queue is not None:
        options = ", ".join(f"{key} {value}" for key, value in options_text(queue).items())
        shared = f", shared by {cls.fairness}" if cls.fairness is not None else ""
        lines.append(f"  queue     {queue.kind}, {options}{shared}")
    for number, rule in enumerate(explained.later):
        label = "" if number else "later"
        lines.append(f"  {label:<9} {_place(rule)}: {rule.path} ({' and '.join(map(match_text, rule.all_of))})")
    if _translated(program):
        lines.append("  inside    addresses and ports are those of the hosts inside, before their translation")
    if assumed:
        lines.append(f"  assumed   {', '.join(f'{key} {value}' for key, value in assumed.items())}")
    return [*lines, f"  compiled  {by}"]


def _policed(interface: Interface, cls: TrafficClass) -> Iterator[str]:
    """What becomes of it where nothing waits."""
    if not interface.policed:
        return
    left = format_rate(max(0, left_over(interface.bandwidth, interface.classes)))
    yield f"policed   dropped beyond {format_rate(cls.limit)}; passes within {format_rate(cls.guarantee)}"
    yield f"          else as far as the {left} last that all share, which are guaranteed to nobody"


def _treatment(cls: TrafficClass) -> Iterator[str]:
    """What is done to the packet before it waits, in its order."""
    marking, police = cls.marking, cls.police
    said = [] if marking.dscp is None else [f"DSCP {dscp_text(marking.dscp)}"]
    said += [] if marking.mark is None else [f"mark {marking.mark.value:#x}/{marking.mark.mask:#x}"]
    said += [] if marking.priority is None else [f"priority {marking.priority}"]
    if said:
        yield f"set       {', '.join(said)}"
    if police is None:
        return
    if police.pir:
        yield f"police    red beyond {format_rate(police.pir)} and {format_size(police.pbs)}: {_fate(police.red)}"
        beyond = f"beyond {format_rate(police.cir)} and {format_size(police.cbs)}"
        yield f"          yellow {beyond}: {_fate(police.yellow)}; green: {_fate(police.green)} (RFC 2698)"
    else:
        within = f"within {format_rate(police.cir)} and {format_size(police.cbs)}"
        yield f"police    {within}: {_fate(police.green)}; beyond: {_fate(police.red)}"


def _fate(outcome: Outcome) -> str:
    if outcome.drop:
        return "dropped"
    return "sent as it is" if outcome.dscp is None else f"sent with DSCP {dscp_text(outcome.dscp)}"


def _treatment_json(cls: TrafficClass) -> dict[str, Any]:
    marking, police = cls.marking, cls.police
    mark = None if marking.mark is None else {"value": f"{marking.mark.value:#x}", "mask": f"{marking.mark.mask:#x}"}
    sets = {"dscp": marking.dscp, "mark": mark, "priority": marking.priority} if marking else None
    if police is None:
        return {"set": sets, "police": None}
    colours = {"green": police.green, "red": police.red} | ({"yellow": police.yellow} if police.pir else {})
    peak = {"pir_bit_s": police.pir, "pbs_bytes": police.pbs} if police.pir else {}
    return {
        "set": sets,
        "police": {
            "cir_bit_s": police.cir,
            "cbs_bytes": police.cbs,
            **peak,
            **{name: outcome._asdict() for name, outcome in colours.items()},
        },
    }


def _translated(program: Program | None) -> bool:
    """Whether its marks stand for addresses or ports that the queue does not see."""
    return program is not None and any(table.sets for table in program.tree.tables)


def _held(match: Match, name: str, explained: Explanation) -> str:
    has = found(explained.packet, name)
    where = f"line {match.where.line}: " if match.where else ""
    return f"{where}{key_of(match, name)} {asked(match, name, explained.packet)}" + (
        f"; the packet has {has}" if has else " holds"
    )


def _place(rule: Rule) -> str:
    where = rule.all_of[-1].where
    return str(where) if where else f"implied: every interface has {NETWORK_CONTROL}"


def _rule_json(rule: Rule) -> dict[str, Any]:
    where = rule.all_of[-1].where
    return {
        "class": rule.path,
        "file": where.file if where else None,
        "line": where.line if where else None,
        "column": where.column if where else None,
        "match": " and ".join(map(match_text, rule.all_of)),
    }


def _leaf(interface: Interface, path: str) -> TrafficClass:
    return next(cls for cls in interface.leaves() if cls.path == path)


def _queue(program: Program | None, cls: TrafficClass) -> Qdisc | None:
    return None if program is None else program.tree.leaf_of(program.handles[cls.path])
