"""The steps of a plan in words: what is added, what changes from what to what, what is removed."""

from __future__ import annotations

from collections.abc import Mapping

from shaper.plan.action_words import actions_text
from shaper.plan.describe import program_text, stab_text
from shaper.plan.impact import impacts
from shaper.plan.mark_words import restore_text, table_words
from shaper.plan.queue_words import hfsc_words, option_words
from shaper.plan.steps import Plan, Step, Verb
from shaper.plan.words import asked_text, u32_asked_text, u32_text
from shaper.tree import (
    BpfFilter,
    Class,
    FifoOptions,
    FlowerFilter,
    FqCodelOptions,
    Handle,
    HfscClass,
    HtbClass,
    HtbOptions,
    Ifb,
    LoadedFilter,
    MarkTable,
    Node,
    Offload,
    Qdisc,
    RawOptions,
    U32Filter,
    U32Table,
    handle_text,
    kind_of_filter,
    ticks_to_bytes,
)
from shaper.units import format_duration, format_rate

SIGNS = {Verb.ADD: "+", Verb.CHANGE: "~", Verb.DELETE: "-"}


def step_text(step: Step, names: Mapping[Handle, str]) -> str:
    """One step as one line, such as `~ class 5a00:10 voice: rate 2mbit -> 3mbit`."""
    fields = _details(step.node, names)
    if step.verb is Verb.CHANGE and step.before is not None:
        old = _details(step.before, names)
        changed = {
            name: f"{old.get(name, 'none')} -> {fields.get(name, 'none')}"
            for name in {**old, **fields}
            if old.get(name) != fields.get(name)
        }
        fields = changed or {"contents": "differ"}
    details = "" if step.verb is Verb.DELETE else ", ".join(f"{name} {text}" for name, text in fields.items())
    title = f"{SIGNS[step.verb]} {_title(step.node, names)}"
    return f"{title}: {details}" if details else title


def totals_text(plan: Plan, *, done: bool = False, place: str = "") -> str:
    """The sum of a plan, such as `eth1: 12 to add, 0 to change, 1 to remove; 1 disruptive (!), 12 hitless`.

    `place` says for people what it is about, where the name of the device alone would not do.
    """
    device = place or plan.device
    if not plan.steps:
        return f"{device}: nothing to do, the kernel holds what the policy says"
    count = {verb: sum(step.verb is verb for step in plan.steps) for verb in Verb}
    words = ("added", "changed", "removed") if done else ("to add", "to change", "to remove")
    sums = ", ".join(f"{count[verb]} {word}" for verb, word in zip(Verb, words, strict=True))
    costly = sum(impact.disruptive for impact in impacts(plan))
    cost = f"{costly} disruptive (!), {len(plan.steps) - costly} hitless" if costly else "all hitless"
    return f"{device}: {sums}; {cost}"


def _title(node: Node, names: Mapping[Handle, str]) -> str:
    if isinstance(node, Ifb):
        return f"device {node.name}"
    if isinstance(node, Offload):
        return f"offload of {node.device}"
    if isinstance(node, MarkTable):
        return f"nftables table inet {node.name}"
    if isinstance(node, Class):
        return " ".join(filter(None, ("class", handle_text(node.handle), names.get(node.handle))))
    parent = handle_text(node.parent)
    on = f" of {node.device}" if node.device else ""
    if isinstance(node, Qdisc):
        of = names.get(node.parent)
        return f"qdisc {node.kind} {handle_text(node.handle)} under {parent}{on}" + (f" {of}" if of else "")
    if isinstance(node, (U32Table, U32Filter)):
        return f"{u32_text(node)} under {parent}{on}, preference {node.preference}"
    kind = kind_of_filter(node)
    return f"filter {kind} {node.handle:#x} under {parent}{on}, preference {node.preference}"


def _details(node: Node, names: Mapping[Handle, str]) -> dict[str, str]:
    if isinstance(node, HtbClass):
        return {
            "rate": format_rate(node.rate),
            "ceil": format_rate(node.ceil),
            "burst": f"{ticks_to_bytes(node.burst, node.rate)}b",
            "cburst": f"{ticks_to_bytes(node.cburst, node.ceil)}b",
            "prio": str(node.prio),
            "quantum": f"{node.quantum}b",
        }
    if isinstance(node, HfscClass):
        return dict(hfsc_words(node))
    if isinstance(node, BpfFilter):
        sent = {"mirror": node.mirror, "redirect": node.redirect, "does": actions_text(node.actions)}
        sent |= {"restore": restore_text(node.restore)} if node.restore else {}
        return {"instructions": str(len(node.program))} | {name: target for name, target in sent.items() if target}
    if isinstance(node, LoadedFilter):
        does = {"does": actions_text(node.actions)} if node.actions else {}
        return {"program": program_text(node.name), **does}
    if isinstance(node, MarkTable):
        return dict(table_words(node))
    if isinstance(node, U32Filter):
        path = names.get(node.classid, "")
        named = {"class": f"{handle_text(node.classid)} {path}".rstrip()} if node.classid else {}
        does = {"does": actions_text(node.actions)} if node.actions else {}
        return {"match": u32_asked_text(node), **named, **does}
    if isinstance(node, FlowerFilter):
        path = names.get(node.classid, "")
        does = {"does": actions_text(node.actions)} if node.actions else {}
        return {"match": asked_text(node), "class": f"{handle_text(node.classid)} {path}".rstrip(), **does}
    if isinstance(node, Qdisc):
        return options_text(node) | ({"size table": stab_text(node.stab)} if node.stab is not None else {})
    return {node.name: node.text} if isinstance(node, Offload) else {}


def options_text(qdisc: Qdisc) -> dict[str, str]:
    """A queue's options by name, in words."""
    options = qdisc.options
    if isinstance(options, HtbOptions):
        return {"default": f"{options.default:x}"}
    if isinstance(options, FifoOptions):
        return {"limit": f"{options.limit} packets" if qdisc.kind == "pfifo" else f"{options.limit}b"}
    if isinstance(options, FqCodelOptions):
        return {
            "limit": f"{options.limit} packets",
            "memory": f"{options.memory}b",
            "target": format_duration(options.target / 1e6),
            "interval": format_duration(options.interval / 1e6),
        }
    return {"options": options.data.hex()} if isinstance(options, RawOptions) else dict(option_words(options))
