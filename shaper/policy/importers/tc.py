"""A running device: its HTB tree, and the filters that name classes, as far as they say what a match of ours says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shaper.policy.importers import u32
from shaper.policy.importers.draft import Class, Conditions, Facts, Interface, Line, Report, Rule
from shaper.policy.importers.leaves import aqm_text
from shaper.policy.importers.quantities import rate_text
from shaper.tree import (
    DROP,
    ETH_P_ALL,
    OK,
    PIPE,
    ROOT,
    Action,
    BpfFilter,
    CakeOptions,
    Finish,
    FlowerFilter,
    FlowMode,
    Handle,
    HtbClass,
    HtbOptions,
    Police,
    SetDscp,
    SetMeta,
    Tree,
    U32Table,
    handle_text,
    kind_of,
    kind_of_filter,
    ticks_to_bytes,
)

FACTS = Facts(
    "tc (running)",
    {
        "an `htb` root and its classes": "an interface and classes",
        "`rate`, `ceil`, `prio`, `default`": "`guarantee`, `limit`, `priority`, the default",
        "`flower`: addresses, protocol, ports and ranges, DS byte": "`match`",
        "`u32` on IPv4 and IPv6 headers: addresses, protocol, ports, DS byte, length, TCP flags": "`match`",
        "`fw`, and `u32` with a mark": "`match` with `mark`",
        "the actions `police` (one rate, drop), `pedit` of a DSCP, `skbedit` of a `flower` filter": "`police`, `set`",
        "leaves: fifo, fq_codel, cake, codel, pie, fq_pie, red, sfq, with their numbers": "`aqm`, `fairness`",
    },
    {
        "`bpf`, `u32` hash tables, `matchall`, `route`, `cgroup` ..., and filters with other actions": "",
        "`hfsc`, `cbq`, `cake` and other roots": "",
        "`burst`, `quantum`": "worked out from the rates",
    },
)
_FAMILIES = {0x0800: "ipv4", 0x86DD: "ipv6"}
_FIRST_OWN_TABLE = 0x80000000
_ALL_BITS = 0xFFFFFFFF
_FULL_FRAME = 1514


class Selector(NamedTuple):
    """A u32 or fw filter as dumped: `words` asked of the header, `mark` as value and mask; `why` it can't be read."""

    parent: Handle
    preference: int
    handle: Handle
    protocol: int
    classid: Handle
    words: tuple[u32.Word, ...] = ()
    mark: tuple[int, int] | None = None
    why: str = ""


def read(tree: Tree, selectors: Sequence[Selector], report: Report) -> list[Interface]:
    """The device as one interface; [] where its root is no HTB."""
    line = Line(tree.device, 0, "")
    root = tree.root()
    if root is None or not isinstance(root.options, HtbOptions):
        kind = "only the kernel's default qdisc" if root is None else f"a {root.kind} qdisc"
        report.lose(line, f"the root of {tree.device} is {kind}", "give its rates and matches to classes of a policy")
        return []
    return [_Reader(tree, report).interface(root.handle, root.options, selectors)]


class _Reader:
    def __init__(self, tree: Tree, report: Report) -> None:
        self._tree = tree
        self._report = report
        self._classes: dict[Handle, Class] = {}
        self._actions: dict[Handle, tuple[Action, ...]] = {}

    def interface(self, root: Handle, options: HtbOptions, selectors: Sequence[Selector]) -> Interface:
        tops = [cls for cls in self._tree.classes if cls.parent == root]
        link = tops[0] if len(tops) == 1 and any(cls.parent == tops[0].handle for cls in self._tree.classes) else None
        line = self._line(f"qdisc htb {handle_text(root)} default {options.default:x}")
        bandwidth = (
            link.ceil if link else max(sum(cls.rate for cls in tops), max((cls.ceil for cls in tops), default=8))
        )
        if link is None:
            why = f"no one class stands for the link: {rate_text(bandwidth)} is written"
            self._report.lose(line, why, "write what the link carries as `bandwidth`")
        found = Interface(self._tree.device, self._tree.device, bandwidth, line)
        found.name = "wan"
        found.classes = self._below(link.handle if link else root)
        default = self._classes.get(root | options.default)
        if default is not None and not default.classes:
            default.default = True
        else:
            why = "what no filter takes passes unshaped" if not default else "its default class holds classes"
            self._report.lose(line, f"{why}; here it goes to a class `rest`", "give that class a guarantee")
        self._leaves()
        self._filters(root, selectors)
        return found

    def _line(self, text: str) -> Line:
        return Line(self._tree.device, 0, text)

    def _below(self, parent: Handle) -> list[Class]:
        return [self._class(cls) for cls in self._tree.classes if cls.parent == parent and isinstance(cls, HtbClass)]

    def _class(self, cls: HtbClass) -> Class:
        text = (
            f"class htb {handle_text(cls.handle)} rate {rate_text(cls.rate)} ceil {rate_text(cls.ceil)} prio {cls.prio}"
        )
        name = f"class-{cls.handle & 0xFFFF:x}"
        made = Class(name, self._line(text), cls.rate, cls.ceil)
        self._classes[cls.handle] = made
        made.classes = self._below(cls.handle)
        made.rank = None if made.classes else cls.prio
        return made

    def _leaves(self) -> None:
        for qdisc in self._tree.qdiscs:
            if qdisc.parent in self._classes:
                cls = self._classes[qdisc.parent]
                cls.aqm = aqm_text(qdisc)
                if isinstance(qdisc.options, CakeOptions) and cls.aqm:
                    cls.fairness = qdisc.options.flows if qdisc.options.flows is not FlowMode.FLOWBLIND else ""
                if not cls.aqm:
                    line = self._line(
                        f"qdisc {qdisc.kind} {handle_text(qdisc.handle)} parent {handle_text(qdisc.parent)}"
                    )
                    self._report.lose(line, f"{qdisc.kind} is no queue that a class can have", "choose one by `aqm`")
            elif qdisc.parent != ROOT and qdisc.parent not in self._classes:
                line = self._line(f"qdisc {qdisc.kind} {handle_text(qdisc.handle)} parent {handle_text(qdisc.parent)}")
                self._report.lose(line, "it stands under no class of the HTB", "leave it to whoever made it")

    def _filters(self, root: Handle, selectors: Sequence[Selector]) -> None:
        """The kernel lists a hash table of its own for each preference of u32; those say nothing."""
        known = {(one.parent, one.preference, one.handle): one for one in selectors}
        for one in sorted(self._tree.filters, key=lambda each: each.preference):
            kind = kind_of_filter(one)
            text = f"filter {kind} {one.handle:#x} parent {handle_text(one.parent)} pref {one.preference}"
            line = self._line(text)
            own = kind == "u32" and one.handle >= _FIRST_OWN_TABLE and not one.handle & 0xFFFFF
            if own or isinstance(one, U32Table):
                continue
            selector = known.get((one.parent, one.preference, one.handle))
            if one.parent != root and one.parent not in self._classes:
                self._report.lose(line, "it stands outside the HTB", "leave it to whoever made it")
            elif isinstance(one, FlowerFilter):
                self._treated(one, line)
            elif selector is not None:
                self._rule(selector.classid, one.preference, *_selected(selector), line)
            elif isinstance(one, BpfFilter):
                why = "a BPF program does not say what it means"
                self._report.lose(line, why, "write its matches by hand, or apply the policy that it came from")
            else:
                self._report.lose(line, f"a {kind} filter of this form is not read", "write it as a match of ours")

    def _treated(self, one: FlowerFilter, line: Line) -> None:
        """A rule with what is done to its packets, which must be the same for all rules of its class."""
        conditions, why = _flower(one)
        cls = self._classes.get(one.classid)
        treatment = treated(one.actions)
        if cls is not None and not why:
            first = self._actions.setdefault(one.classid, one.actions)
            if treatment is None:
                why = f"what it does is not carried over ({', '.join(kind_of(action).kind for action in one.actions)})"
            elif treated(first) != treatment or _buckets(first) != _buckets(one.actions):
                why = "it does other things to its packets than an earlier one of its class, or with other buckets"
            elif one.actions:
                cls.police, cls.marking = treatment
        self._rule(one.classid, one.preference, conditions, why, line)

    def _rule(self, classid: Handle, preference: int, conditions: Conditions, why: str, line: Line) -> None:
        cls = self._classes.get(classid)
        if cls is None:
            why = why or f"it names {handle_text(classid)}, which is no class here"
        elif cls.default and not conditions and not why:
            return  # what takes the rest of all, for the class that takes it anyway
        elif not conditions and not why:
            why = "it takes every packet: make its class the default"
        if why or cls is None:
            self._report.lose(line, f"{why}; the filter is left out, so that it takes nothing else", "write it by hand")
            return
        cls.order = float(preference) if cls.order is None else min(cls.order, float(preference))
        cls.rules.append(Rule(conditions, line))


def _flower(one: FlowerFilter) -> tuple[Conditions, str]:
    found: Conditions = {}
    fields = {key.field: (key.value, key.mask) for key in one.keys}
    if one.protocol in _FAMILIES:
        found["family"] = _FAMILIES[one.protocol]
    elif one.protocol != ETH_P_ALL:
        found["ethertype"] = f"{one.protocol:#06x}"
    for field, (value, mask) in fields.items():
        if field in ("eth_type", "sport_max", "dport_max"):
            continue
        wrong = _flower_key(field, value, mask, fields, found)
        if wrong:
            return {}, wrong
    return found, ""


def _flower_key(field: str, value: int, mask: int, fields: Mapping[str, tuple[int, int]], found: Conditions) -> str:
    """Adds one key; what of it can't be carried, or ""."""
    if field == "ip_proto":
        found["proto"] = value
    elif field == "ip_tos":
        u32.add_tos(found, value, mask)
    elif field in ("src4", "dst4", "src6", "dst6"):
        return u32.add_network(found, field[:3], value, mask, 32 if field[3] == "4" else 128)
    elif field in ("sport", "dport"):
        return u32.add_ports(found, field, value, mask)
    elif field in ("sport_min", "dport_min"):
        found[field[:5]] = f"{value}-{fields[f'{field[:5]}_max'][0]}"
    elif field == "icmpv6_type":
        found["icmp-type"] = value
    elif field == "ip_flags":
        return "fragments have no condition of their own"
    return ""


def treated(actions: Sequence[Action]) -> tuple[Conditions, Conditions] | None:
    """`police` and `set` for a filter's actions; None where these words do not say it."""
    police: Conditions = {}
    marking: Conditions = {}
    for action in actions:
        match action:
            case Police(_, rate, burst, conform, exceed, largest):
                last = conform != OK or action is actions[-1]
                if police or largest < _FULL_FRAME or (exceed, last) != (DROP, True) or conform not in (OK, PIPE):
                    return None
                police = {"cir": rate_text(rate), "cbs": f"{ticks_to_bytes(burst, rate)}b"}
            case SetDscp(_, dscp):
                marking["dscp"] = dscp
            case SetMeta(mark, mask, priority):
                marking |= {} if mark is None else {"mark": mark if mask == _ALL_BITS else f"{mark:#x}/{mask:#x}"}
                marking |= {} if priority is None else {"priority": priority}
            case Finish(verdict):
                if verdict not in (OK, PIPE):
                    return None
    return police, marking


def _buckets(actions: Sequence[Action]) -> list[int]:
    return [action.index for action in actions if isinstance(action, Police)]


def _selected(one: Selector) -> tuple[Conditions, str]:
    if one.why:
        return {}, one.why
    found: Conditions = {}
    if one.mark is not None:
        found["mark"] = one.mark[0] if one.mark[1] == 0xFFFFFFFF else f"{one.mark[0]:#x}/{one.mark[1]:#x}"
    family = _FAMILIES.get(one.protocol)
    if one.words and family is None:
        return {}, "it asks a header whose protocol it does not name"
    if family is not None:
        found["family"] = family
        wrong = u32.conditions(one.words, family, found)
        if wrong:
            return {}, wrong
    return found, ""
