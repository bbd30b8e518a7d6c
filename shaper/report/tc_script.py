"""A tree as the tc commands that make it: a shell script for a device without qdiscs of its own."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from shaper.plan.describe import program_text, subject
from shaper.plan.mark_words import nft_lines
from shaper.plan.words import u32_asked_text
from shaper.report.tc_actions import actions_words, burst, ticks_of
from shaper.report.tc_actions import as_tc_keeps as actions_as_tc_keeps
from shaper.report.tc_options import hfsc_words, qdisc_words, stab_words
from shaper.tree import (
    CLSACT,
    ETH_P_ALL,
    GSO_MAX_SEGS,
    ROOT,
    U32_ROOT,
    Acting,
    BpfFilter,
    Filter,
    FlowerFilter,
    FlowerKey,
    Handle,
    HfscClass,
    HtbClass,
    Ifb,
    Insn,
    LoadedFilter,
    MarkTable,
    Node,
    Offload,
    OtherFilter,
    Police,
    Qdisc,
    Restore,
    Tree,
    U32Filter,
    U32Link,
    U32Table,
    device_text,
    flower_key,
    handle_text,
    networks_in,
)

_ETHERTYPES = {0x0800: "ip", 0x86DD: "ipv6", ETH_P_ALL: "all"}
_PORT_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


def script(trees: Sequence[tuple[str, Tree]], notes: Sequence[str] = ()) -> str:
    """The whole script, of trees with the network namespace that each is in; `notes` become comments."""
    lines = ["#!/bin/sh", "# By `shaper export tc`. Each device must have no qdiscs of its own.", "set -e"]
    lines += [f"# {note}" for note in notes]
    for netns, tree in trees:
        prefix = f"ip netns exec {shlex.quote(netns)} " if netns else ""
        commands = [prefix + command for node in tree.nodes() for command in _command(tree.device, node)]
        lines += ["", *(command for command in commands if command not in lines)]  # two directions share a hook
    return "\n".join(lines) + "\n"


def rounded(tree: Tree) -> tuple[str, ...]:
    """What tc's text cannot say exactly."""
    kept = as_tc_keeps(tree)
    moved = [handle_text(cls.handle) for cls, after in zip(tree.classes, kept.classes, strict=True) if cls != after]
    policers = sorted(
        {
            f"policer {held.index:#x}"
            for one, after in zip((one for one in tree.filters if not _is_beyond_tc(one)), kept.filters, strict=True)
            if isinstance(one, Acting) and isinstance(after, Acting)
            for held, other in zip(one.actions, after.actions, strict=True)
            if isinstance(held, Police) and held != other
        }
    )
    moved += policers
    why = "tc reckons bursts in whole bytes and microseconds, the kernel in ticks of 64 ns: up to one of each more"
    notes = [f"{why} for {', '.join(moved)}"] if moved else []
    if any(map(_looks_up, tree.filters)):
        notes.append("tc cannot load a classifier with tables of addresses: it is left out, and what it names")
    if any(_is_beyond_tc(one) and not _looks_up(one) for one in tree.filters):
        notes.append(
            "tc has no words for the links by which u32 passes over IPv6's extension headers: they are left out"
        )
    return tuple(notes)


def as_tc_keeps(tree: Tree) -> Tree:
    """The tree that the script makes: bursts of whole bytes and microseconds, never less than what was meant.

    Of every flower filter tc asks the ethertype of its preference, which says the same. A u32 filter that asks a length
    at an odd place cannot be said.
    """
    classes = (
        cls
        if isinstance(cls, HfscClass)
        else replace(
            cls,
            burst=ticks_of(burst(cls.burst, cls.rate), cls.rate),
            cburst=ticks_of(burst(cls.cburst, cls.ceil), cls.ceil),
        )
        for cls in tree.classes
    )
    filters = (_filter(one) for one in tree.filters if not _is_beyond_tc(one))
    return replace(tree, classes=tuple(classes), filters=tuple(filters))


def _filter(one: Filter) -> Filter:
    if not isinstance(one, Acting):
        return one
    kept = replace(one, actions=actions_as_tc_keeps(one.actions))
    return _with_ethertype(kept) if isinstance(kept, FlowerFilter) else kept


def _is_beyond_tc(one: Filter) -> bool:
    return _looks_up(one) or (isinstance(one, U32Filter) and one.link is not None and bool(one.link.at % 2))


def _looks_up(one: Filter) -> bool:
    return isinstance(one, LoadedFilter) and networks_in(one.name) is not None


def _with_ethertype(one: FlowerFilter) -> FlowerFilter:
    if one.protocol == ETH_P_ALL:
        return one
    return replace(one, keys=tuple(sorted({*one.keys, flower_key("eth_type", one.protocol)})))


def _command(device: str, node: Node) -> Iterator[str]:
    on = "" if isinstance(node, (HtbClass, HfscClass, Ifb, MarkTable)) else node.device
    dev = f"dev {shlex.quote(on or device)}"
    match node:
        case Offload(name=setting, value=value):
            feature = "rx-gro-hw" if setting == "gro-hw" else setting
            segs = f"ip link set {dev} {setting} {value}"
            yield segs if setting == GSO_MAX_SEGS else f"ethtool -K {shlex.quote(on)} {feature} {node.text}"
        case Ifb():
            name = shlex.quote(node.name)
            yield f"ip link add name {name} type ifb"
            yield f"ip link set dev {name} alias {shlex.quote(node.alias)} up"
        case MarkTable():
            yield "\n".join(["nft -f - <<'END'", *nft_lines(node), "END"])
        case Qdisc():
            place = {ROOT: "root", CLSACT: "clsact"}.get(node.parent) or f"parent {handle_text(node.parent)}"
            handle = f" handle {handle_text(node.handle)}" if node.parent != CLSACT else ""
            table = f"{stab_words(node.stab)} " if node.stab is not None else ""
            kind = f" {qdisc_words(node.kind, node.options)}" if node.parent != CLSACT else ""
            yield f"tc qdisc add {dev} {table}{place}{handle}{kind}"
        case HtbClass() | HfscClass():
            place = f"parent {handle_text(node.parent)} classid {handle_text(node.handle)}"
            yield f"tc class add {dev} {place} {_htb(node) if isinstance(node, HtbClass) else hfsc_words(node)}"
        case BpfFilter() | FlowerFilter():
            where = f"{_hook(node.parent)} protocol {_protocol(node.protocol)} pref {node.preference}"
            kind = _bpf(node) if isinstance(node, BpfFilter) else _flower(node)
            yield f"tc filter add {dev} {where} handle {node.handle:#x} {kind}"
        case U32Table(handle=number) if number:  # the preference itself comes with its first filter
            where = f"{_hook(node.parent)} protocol {_protocol(node.protocol)} pref {node.preference}"
            yield f"tc filter add {dev} {where} handle {number >> 20:x}: u32 divisor 1"
        case U32Filter() if _is_beyond_tc(node):
            yield f"# tc cannot say: {subject(node, {})} {u32_asked_text(node)}"
        case U32Filter():
            where = f"{_hook(node.parent)} protocol {_protocol(node.protocol)} pref {node.preference}"
            yield f"tc filter add {dev} {where} {_u32(node)}"
        case LoadedFilter() if _looks_up(node):
            yield f"# tc cannot say: {subject(node, {})}, a program {program_text(node.name)}"
        case LoadedFilter():
            yield f"# the filter of preference {node.preference} is the program {node.name} of a running shaper"
        case OtherFilter():
            yield f"# a {node.kind} filter is not ours"


def _hook(parent: Handle) -> str:
    text = handle_text(parent)
    return text if text in ("egress", "ingress") else f"parent {text}"


def _protocol(ethertype: int) -> str:
    return _ETHERTYPES.get(ethertype, f"{ethertype:#06x}")


def _htb(cls: HtbClass) -> str:
    return (
        f"htb rate {cls.rate}bit ceil {cls.ceil}bit burst {burst(cls.burst, cls.rate)} "
        f"cburst {burst(cls.cburst, cls.ceil)} prio {cls.prio} quantum {cls.quantum}"
    )


def _restored(restore: Restore) -> str:
    if restore.connmark:
        return f" action connmark pipe action skbedit mark 0x0/{0xFFFFFFFF ^ restore.mark:#x} pipe"
    saved = f" dscp {restore.dscp:#x} {restore.state:#x}" if restore.dscp else ""
    return f" action ctinfo{saved}" + (f" cpmark {restore.mark:#x}" if restore.mark else "") + " pipe"


def _bpf(node: BpfFilter) -> str:
    text = f"bpf bytecode '{bytecode(node.program)}'"
    if node.classid:
        text += f" flowid {handle_text(node.classid) if node.classid > 0xFFFF else f'0:{node.classid:x}'}"
    if node.restore:
        text += _restored(node.restore)
    if node.mirror:
        text += f" action mirred egress mirror dev {shlex.quote(node.mirror)} continue"
    if node.redirect:
        text += f" action mirred egress redirect dev {shlex.quote(node.redirect)}"
    return text + actions_words(node.actions)


def bytecode(program: Sequence[Insn]) -> str:
    """As tc reads a classic program: the number of instructions, then each as code, jt, jf, k."""
    return ",".join([str(len(program)), *(f"{insn.code} {insn.jt} {insn.jf} {insn.k}" for insn in program)])


def _flower(node: FlowerFilter) -> str:
    words = ["flower"]
    keys = {key.field: key for key in node.keys}
    for key in sorted(node.keys, key=lambda each: each.field != "ip_proto"):  # what follows is read by it
        words += _flower_key(key, keys)
    return " ".join([*words, f"classid {handle_text(node.classid)}"]) + actions_words(node.actions)


def _flower_key(key: FlowerKey, keys: dict[str, FlowerKey]) -> Iterator[str]:
    field, value, mask = key
    match field:
        case "eth_type" | "sport_max" | "dport_max":
            return
        case "ip_proto":
            yield f"ip_proto {_PORT_PROTOCOLS.get(value, f'{value:#x}')}"
        case "indev":
            yield f"indev {shlex.quote(device_text(value))}"
        case "ip_tos":
            yield f"ip_tos {value:#x}/{mask:#x}"
        case "ip_flags":
            yield "ip_flags frag" if value else "ip_flags nofrag"
        case "icmpv6_type":
            yield f"type {value}" + ("" if mask == 0xFF else f"/{mask}")
        case "src4" | "dst4" | "src6" | "dst6":
            make = ipaddress.IPv4Address if field[3] == "4" else ipaddress.IPv6Address
            yield f"{field[:3]}_ip {make(value)}/{mask.bit_count()}"
        case "sport" | "dport":
            yield f"{_side(field)}_port {value}" + ("" if mask == 0xFFFF else f"/{mask:#x}")
        case _:
            last = keys[f"{field[:5]}_max"].value
            yield f"{_side(field)}_port {value}-{last}"


def _side(field: str) -> str:
    return "src" if field.startswith("s") else "dst"


def _u32(node: U32Filter) -> str:
    first = node.handle >= U32_ROOT
    table = "" if first else f"{node.handle >> 20:x}"
    words = [f"handle {table}::{node.handle & 0xFFF:x} u32", *([] if first else [f"ht {table}:"])]
    words += [f"match u32 {key.value:#010x} {key.mask:#010x} at {key.offset}" for key in node.keys]
    words += [] if node.keys else ["match u32 0 0"]
    words += [_u32_link(node.link)] if node.link else [f"flowid {handle_text(node.classid)}"]
    return " ".join(words) + actions_words(node.actions)


def _u32_link(link: U32Link) -> str:
    further = f" at {link.at} mask {link.mask:04x} shift {link.shift}" if link.mask else ""
    plus = f" plus {link.skip}" if link.skip or not link.mask else ""
    return f"link {link.table >> 20:x}: offset{plus}{further} eat"
