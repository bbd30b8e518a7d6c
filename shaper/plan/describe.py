"""Steps in words for a person: what changes, from what to what, and what it costs the traffic."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from shaper.plan.action_words import actions_text
from shaper.plan.mark_words import restore_text, table_words
from shaper.plan.queue_words import hfsc_words, option_words
from shaper.plan.steps import Step, Verb
from shaper.plan.words import asked_text, u32_asked_text, u32_text
from shaper.tree import (
    ATM,
    FORGED,
    ROOT,
    BpfFilter,
    CakeOptions,
    Class,
    FifoOptions,
    FlowerFilter,
    FqCodelOptions,
    Handle,
    HfscClass,
    HtbClass,
    HtbOptions,
    Ifb,
    LeafOptions,
    LoadedFilter,
    MarkTable,
    Node,
    Offload,
    Options,
    Qdisc,
    SizeTable,
    U32Filter,
    U32Table,
    handle_text,
    kind_of_filter,
    networks_in,
    ticks_to_bytes,
)
from shaper.units import format_duration, format_rate, format_size

_NO_NAMES: Mapping[Handle, str] = {}


def describe(step: Step, names: Mapping[Handle, str] = _NO_NAMES) -> str:
    """One line, such as `class voice 5a00:10: rate 2mbit -> 3mbit`; `names` has the paths of class handles."""
    title = subject(step.node, names)
    if step.verb is Verb.DELETE:
        return f"{title}: remove"
    new = dict(fields(step.node))
    if step.before is None:
        values = ", ".join(f"{name} {value}" if name else value for name, value in new.items())
        return f"{title}: add" + (f", {values}" if values else "")
    old = dict(fields(step.before))
    changes = [
        f"{name} {old.get(name, '-')} -> {new.get(name, '-')}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    return f"{title}: {', '.join(changes) or 'a change below the digits shown'}"


def _name(number: Handle, names: Mapping[Handle, str]) -> str:
    path = names.get(number)
    return f"class {path} {handle_text(number)}" if path else f"class {handle_text(number)}"


def subject(node: Node, names: Mapping[Handle, str]) -> str:
    """What a node is, such as `class voice 5a00:10`."""
    if isinstance(node, Class):
        return _name(node.handle, names)
    if isinstance(node, Qdisc):
        if isinstance(node.options, (FifoOptions, FqCodelOptions, CakeOptions, LeafOptions)) and node.parent != ROOT:
            return f"queue {node.kind} {handle_text(node.handle)} of {_name(node.parent, names)}"
        return f"qdisc {node.kind} {handle_text(node.handle)} at {handle_text(node.parent)}{_on(node.device)}"
    if isinstance(node, Ifb):
        return f"device {node.name} (ifb)"
    if isinstance(node, Offload):
        return f"device {node.device}"
    if isinstance(node, MarkTable):
        return f"nftables table inet {node.name}"
    if isinstance(node, FlowerFilter):
        return f"filter flower {node.handle:#x} at {handle_text(node.parent)} preference {node.preference}"
    if isinstance(node, (U32Table, U32Filter)):
        return f"{u32_text(node)} at {handle_text(node.parent)} preference {node.preference}"
    kind = kind_of_filter(node)
    return f"filter {kind} at {handle_text(node.parent)}{_on(node.device)} preference {node.preference}"


def _on(device: str) -> str:
    return f" of {device}" if device else ""


def fields(node: Node) -> Iterator[tuple[str, str]]:
    """What a step can say of a node; a value without a name stands for itself."""
    if isinstance(node, HtbClass):
        yield "parent", handle_text(node.parent)
        yield "rate", format_rate(node.rate)
        yield "ceil", format_rate(node.ceil)
        yield "prio", str(node.prio)
        yield "quantum", f"{node.quantum}b"
        yield "burst", format_size(ticks_to_bytes(node.burst, node.rate))
        yield "cburst", format_size(ticks_to_bytes(node.cburst, node.ceil))
    elif isinstance(node, HfscClass):
        yield "parent", handle_text(node.parent)
        yield from hfsc_words(node)
    elif isinstance(node, Qdisc):
        yield from _options(node.options)
        if node.stab is not None:
            yield "size table", stab_text(node.stab)
    elif isinstance(node, BpfFilter):
        yield "program", f"of {len(node.program)} instructions ({_fingerprint(node)})"
        if node.mirror:
            yield "mirror to", node.mirror
        if node.redirect:
            yield "redirect to", node.redirect
        if node.actions:
            yield "does", actions_text(node.actions)
        if node.restore:
            yield "with of its connection", restore_text(node.restore)
    elif isinstance(node, LoadedFilter):
        yield "program", program_text(node.name)
        if node.actions:
            yield "does", actions_text(node.actions)
    elif isinstance(node, FlowerFilter):
        yield "match", asked_text(node)
        yield "class", handle_text(node.classid)
        if node.actions:
            yield "does", actions_text(node.actions)
    elif isinstance(node, U32Filter):
        yield "match", u32_asked_text(node)
        if node.classid:
            yield "class", handle_text(node.classid)
        if node.actions:
            yield "does", actions_text(node.actions)
    elif isinstance(node, Offload):
        yield node.name, node.text
    elif isinstance(node, MarkTable):
        yield from table_words(node)
    elif isinstance(node, Ifb):
        yield "alias", repr(node.alias)
        yield "link", "up" if node.up else "down"


def program_text(name: str) -> str:
    """A loaded program: by its name, or where that is made of what is in it, by this."""
    if name.endswith(FORGED):
        return "another that bears the name of one of ours"
    networks = networks_in(name)
    if networks is None:
        return name
    if not any(networks):
        return f"of extended BPF ({name[-8:]})"
    return f"with {networks[0]} networks of IPv4 and {networks[1]} of IPv6 in tables ({name[-8:]})"


def _options(options: Options) -> Iterator[tuple[str, str]]:
    if isinstance(options, HtbOptions):
        yield "default", f"{options.default:x}"
    elif isinstance(options, FifoOptions):
        yield "limit", format_size(options.limit)
    elif isinstance(options, FqCodelOptions):
        yield "target", format_duration(options.target / 1e6)
        yield "interval", format_duration(options.interval / 1e6)
        yield "memory", format_size(options.memory)
        yield "limit", f"{options.limit} packets"
        yield "quantum", f"{options.quantum}b"
        yield "flows", str(options.flows)
        yield "ecn", "on" if options.ecn else "off"
    else:
        yield from option_words(options)


def stab_text(table: SizeTable) -> str:
    """`overhead 4, least 64, ATM cells`."""
    parts = [
        f"overhead {table.overhead}",
        f"least {table.mpu}" if table.mpu else "",
        "ATM cells" if table.linklayer == ATM else "",
    ]
    return ", ".join(filter(None, parts))


def _fingerprint(node: BpfFilter) -> str:
    """Tells programs of one length apart."""
    text = ",".join(f"{insn.code}.{insn.jt}.{insn.jf}.{insn.k}" for insn in node.program)
    return f"{zlib.crc32(text.encode()):08x}"
