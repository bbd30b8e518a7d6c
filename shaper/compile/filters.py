"""An interface's rules as filters of whichever kind the kernel has, or the policy asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

from shaper.compile.bpf import PROTOCOL, Assembler, Label, TooLongError
from shaper.compile.classifier import classifier, lookup_classifier
from shaper.compile.flower import flower_filters
from shaper.compile.handles import ROOT_HANDLE
from shaper.compile.treatment import Treatment
from shaper.compile.u32 import u32_filters
from shaper.errors import UnavailableError
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Rules
from shaper.model.policy import Classifier, Interface
from shaper.tree import (
    Action,
    BpfFilter,
    Capabilities,
    Filter,
    Handle,
    Insn,
    LoadedFilter,
    LookupProgram,
    U32Filter,
)

PREFERENCE, FILTER_HANDLE = 10, 1
_ETHERTYPES = (ETHERTYPE_IPV4, ETHERTYPE_IPV6, 0)
_TREATED, _DEFAULT_TREATED = 6, 12
"""The first preferences of the filters before the classifier, which treat what belongs to their classes, and of those
behind it, which treat all that is left: IPv4's, IPv6's, and that for the others."""
_MODULES = {Classifier.BPF: "cls_bpf", Classifier.FLOWER: "cls_flower", Classifier.U32: "cls_u32"}
"""The best first."""


class Stand(NamedTuple):
    """Where the filters stand: at a root, whose classes they name, or on a hook of a `device`, where there are none."""

    parent: Handle = ROOT_HANDLE
    device: str = ""

    @property
    def names(self) -> bool:
        """Whether what they name is a class of a queue."""
        return not self.device


_AT_ROOT = Stand()
_NOT_LOOKED = 0xFFFFFFFF
"""The number of a device where nobody has looked: that of none."""


class Classification(NamedTuple):
    """The filters, and what is to be said of them."""

    filters: tuple[Filter, ...]
    notes: tuple[str, ...] = ()
    lookups: tuple[LookupProgram, ...] = ()


def choose(interface: Interface, rules: Rules, capabilities: Capabilities) -> Classifier:
    """BPF where nothing is asked for and the kernel has it: one program, exchanged in one step.

    Flower where a rule asks for the device that a packet came in by and no extended BPF, which sees it, can be loaded.
    u32 where there is nothing else.

    Raises UnavailableError when the kernel lacks what is asked for, or all of them.
    """
    asked = interface.classifier
    wanted = tuple(_MODULES) if asked is Classifier.AUTO else (asked,)
    if asked is Classifier.AUTO and "iif" in rules.asked() and "lookup" not in capabilities.features:
        wanted = (Classifier.FLOWER, Classifier.BPF, Classifier.U32)
    for kind in wanted:
        if kind in capabilities.filters:
            return kind
    lacking = " and ".join(f"the {kind} filter" for kind in wanted)
    loading = " or ".join(f"`modprobe {_MODULES[kind]}`" for kind in wanted)
    config = " or ".join(f"CONFIG_NET_{_MODULES[kind].upper()}" for kind in wanted)
    other = "" if asked is Classifier.AUTO else "; or leave `classifier` out, and what the kernel has is used"
    raise UnavailableError(
        f"{interface.device} can't be shaped: the kernel ({capabilities.kernel}) lacks {lacking}",
        hint=f"{loading}, or a kernel built with {config}{other}",
        where=interface.device_where if asked is Classifier.AUTO else interface.classifier_where,
    )


def classify(
    interface: Interface,
    rules: Rules,
    handles: Mapping[str, Handle],
    capabilities: Capabilities,
    treated: Mapping[str, Treatment],
    *,
    devices: Mapping[str, int] | None = None,
    ethernet: bool = True,
    stand: Stand = _AT_ROOT,
) -> Classification:
    """With what is done to the packets of each leaf, by its path.

    `devices` are the numbers of those by which a packet may have come in, None where nobody has looked; `ethernet` says
    whether the device has Ethernet headers. Raises UnavailableError when
    the kernel has no classifier for it, or the rules are more than it takes.
    """
    kind = choose(interface, rules, capabilities)
    if kind is Classifier.BPF:
        return _bpf(interface, rules, handles, capabilities, treated, devices=devices, ethernet=ethernet, stand=stand)
    if kind is Classifier.U32:
        return _u32(interface, rules, handles, capabilities, treated)
    try:
        filters = flower_filters(rules, handles, stand.parent, treated, devices=devices)
    except UnavailableError as error:
        error.where = error.where or interface.classifier_where or interface.where
        if interface.classifier is Classifier.AUTO and Classifier.BPF in capabilities.filters:
            error.hint = (
                "bpf would carry that, but a rule asks for `iif`, which flower alone sees here: take one of the two "
                "out, or give what comes in there a mark (`nft add rule ... iifname eth2 meta mark set 7`) and match it"
            )
        raise
    asked = _asked_devices(rules)
    lacking = "the kernel lacks the bpf filter: " if Classifier.BPF not in capabilities.filters else ""
    if asked and not lacking and interface.classifier is Classifier.AUTO:
        lacking = "`iif` is what flower alone can see here: "
    marks = ", where no DSCP is written on them," if any(one.ipv4 != one.others for one in treated.values()) else ""
    note = (
        f"{lacking}packets are classified by {len(filters)} flower filters. While an apply changes them, packets may "
        f"meet neither the old rules nor the new. To {rules.default}{marks} go frames with a VLAN tag, MPLS in IP, and "
        "802.3 frames that a program of this machine sends"
    )
    return Classification(tuple(replace(one, device=stand.device) for one in filters), (note, *_absent(asked, devices)))


def _asked_devices(rules: Rules) -> set[str]:
    return {name for rule in rules.ordered for match in rule.all_of for name in match.iif}


def _absent(asked: Collection[str], devices: Collection[str] | None) -> tuple[str, ...]:
    """What is to be said of devices that rules ask for and that are not there."""
    gone = sorted(set(asked) - set(devices)) if devices is not None else []
    return (f"nothing comes in by {', '.join(gone)}, which is not there: its rules wait for it",) if gone else ()


def _u32(
    interface: Interface,
    rules: Rules,
    handles: Mapping[str, Handle],
    capabilities: Capabilities,
    treated: Mapping[str, Treatment],
) -> Classification:
    try:
        nodes = u32_filters(rules, handles, ROOT_HANDLE, treated)
    except UnavailableError as error:
        error.where = error.where or interface.classifier_where or interface.where
        raise
    lacks = not {Classifier.BPF, Classifier.FLOWER} & capabilities.filters
    lacking = "the kernel lacks the bpf filter and flower: " if lacks else ""
    note = (
        f"{lacking}packets are classified by {sum(isinstance(one, U32Filter) for one in nodes)} u32 filters. While an "
        f"apply changes them, packets may meet neither the old rules nor the new. To {rules.default} go frames with a "
        "VLAN tag, 802.3 frames that a program of this machine sends, and IPv6 behind more than seven extension headers"
    )
    return Classification(nodes, (note,))


def _bpf(
    interface: Interface,
    rules: Rules,
    handles: Mapping[str, Handle],
    capabilities: Capabilities,
    treated: Mapping[str, Treatment],
    *,
    devices: Mapping[str, int] | None,
    ethernet: bool,
    stand: Stand,
) -> Classification:
    """Classic programs, which every kernel and everybody may load; extended ones, with tables, where these have no room
    or cannot see what is asked for.
    """
    asked, extended = _asked_devices(rules), "lookup" in capabilities.features
    try:
        if not (asked and extended):
            return Classification(_programs(rules, handles, treated, _classic, stand))
    except TooLongError as classic:
        if not extended:
            raise UnavailableError(
                f"the rules of {interface.name} ({interface.policy}) are more than one classifier holds: {classic}, "
                "and tables of addresses cannot be loaded here",
                hint=f"{_SHORTER}. Long lists of addresses need extended BPF: `shaper doctor` says why there is none",
                where=interface.where,
            ) from classic
    made: list[LookupProgram] = []

    def with_tables(rules: Rules, members: Mapping[str, Handle], place: Place) -> LoadedFilter:
        numbers = dict.fromkeys(asked, _NOT_LOOKED) if devices is None else devices
        made.append(lookup_classifier(rules, members, only=place.only, ethernet=ethernet, devices=numbers))
        return LoadedFilter(*place.where, made[-1].name, direct=False, actions=place.actions, device=place.device)

    try:
        filters = _programs(rules, handles, treated, with_tables, stand)
    except TooLongError as error:
        raise UnavailableError(
            f"the rules of {interface.name} ({interface.policy}) are more than one classifier holds, without the "
            f"addresses, which are in tables: {error}",
            hint=f"rules that ask for nothing but addresses and stand together are one question, however many; else "
            f"{_SHORTER}",
            where=interface.where,
        ) from error
    held = made[0]
    tables = (
        f" with {held.networks(4)} networks of IPv4 and {held.networks(6)} of IPv6 in tables" if held.tables else ""
    )
    why = "does not see by which device they came in" if asked else "has no room for them"
    note = f"packets are classified by an extended BPF program{tables}: a classic one {why}"
    programs = tuple({each.name: each for each in made}.values())
    return Classification(filters, (note, *_absent(asked, devices)), programs)


_SHORTER = (
    "join ports to ranges and addresses to prefixes, mark the traffic where it enters the network and match its DSCP, "
    "or drop conditions that an inner class repeats for every child"
)


class Place(NamedTuple):
    """Where a filter stands, what ethertype alone it knows (0: all), and what it does to what it names."""

    where: tuple[Handle, int, Handle]
    only: int = 0
    actions: tuple[Action, ...] = ()
    device: str = ""


Written = Callable[[Rules, Mapping[str, Handle], Place], BpfFilter | LoadedFilter]


def _classic(rules: Rules, members: Mapping[str, Handle], place: Place) -> BpfFilter:
    program = classifier(rules, members, only=place.only)
    return BpfFilter(*place.where, program, actions=place.actions, device=place.device)


def _programs(
    rules: Rules, handles: Mapping[str, Handle], treated: Mapping[str, Treatment], written: Written, stand: Stand
) -> tuple[BpfFilter | LoadedFilter, ...]:
    """The classifier; before it, filters that know the treated classes alone, and behind it those of the default.

    A filter has one list of actions, whatever class its program names, so that each list needs a filter. They name the
    same classes as the classifier does: while some are of other rules than the rest, a packet still belongs to a class
    of either. What the classifier leaves to the default's, truncated packets too, it says by naming none. Where no
    queue is all classes are treated, and there is nothing left to name. Raises TooLongError.
    """
    default = treated.get(rules.default)
    classids = {path: 0 if default and path == rules.default else handle for path, handle in handles.items()}
    filters: list[BpfFilter | LoadedFilter] = []
    if stand.names:
        filters.append(written(rules, classids, Place((stand.parent, PREFERENCE, FILTER_HANDLE))))
    for (ethertype, actions), paths in _lists(treated, but=rules.default).items():
        place = stand.parent, _TREATED + _ETHERTYPES.index(ethertype), handles[paths[0]] & 0xFFFF
        members = {path: handles[path] if path in paths else 0 for path in handles}
        filters.append(written(_as_far_as(rules, paths), members, Place(place, ethertype, actions, stand.device)))
    for ethertype, actions in default.by_ethertype().items() if default else ():
        place = stand.parent, _DEFAULT_TREATED + _ETHERTYPES.index(ethertype), FILTER_HANDLE
        program = _everything(handles[rules.default], ethertype)
        filters.append(BpfFilter(*place, program, actions=actions, device=stand.device))
    return tuple(filters)


def _lists(treated: Mapping[str, Treatment], *, but: str) -> dict[tuple[int, tuple[Action, ...]], list[str]]:
    """The classes of each list of actions and ethertype; those with a policer have theirs alone."""
    lists: dict[tuple[int, tuple[Action, ...]], list[str]] = {}
    for path, treatment in treated.items():
        for each in treatment.by_ethertype().items() if path != but else ():
            lists.setdefault(each, []).append(path)
    return lists


def _as_far_as(rules: Rules, paths: Collection[str]) -> Rules:
    """Without the rules behind the last one that names one of the classes."""
    last = max((place for place, rule in enumerate(rules.ordered) if rule.path in paths), default=-1)
    return Rules(rules.ordered[: last + 1], rules.default)


def _everything(classid: Handle, ethertype: int) -> tuple[Insn, ...]:
    """A program that names one class for all packets of an ethertype, 0 for any."""
    asm, other = Assembler(), Label()
    if ethertype:
        asm.load(PROTOCOL, 2)
        asm.jump("eq", ethertype, no=other)
    asm.ret(classid)
    if ethertype:
        asm.place(other)
        asm.ret(0)
    return asm.assemble()
