"""What the kernel holds or should hold for one interface, and what it can: values with one canonical form.

Two trees that mean the same are equal: every number is in the kernel's own unit and rounding (rates in whole
bytes a second, bursts in 64 ns clock ticks), every collection is sorted by its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from shaper.disciplines import CakeOptions, EtsOptions, HfscClass, HfscOptions, PrioOptions
from shaper.sizetable import SizeTable

Handle = int
"""A tc handle, major << 16 | minor."""

ROOT: Handle = 0xFFFFFFFF
CLSACT: Handle = 0xFFFFFFF1
"""The parent of a clsact qdisc (TC_H_CLSACT)."""
CLSACT_HANDLE: Handle = 0xFFFF0000
CLSACT_INGRESS: Handle = 0xFFFFFFF2
CLSACT_EGRESS: Handle = 0xFFFFFFF3
"""The parents of filters on the two hooks (TC_H_MAJ(TC_H_CLSACT) | TC_H_MIN_INGRESS, TC_H_MIN_EGRESS)."""

# Majors that are ours. Users and tools number by hand from 1: up, the kernel by itself from 8000: up.
ROOT_MAJORS = range(0x5A00, 0x5B00)
LEAF_MAJORS = range(0x5B00, 0x8000)

TICK_NS = 64
"""The kernel's packet-scheduler clock, PSCHED_TICKS2NS(1)."""

ETH_P_ALL = 0x0003


def handle(major: int, minor: int) -> Handle:
    """Raises ValueError outside 16 bits each."""
    if not (0 <= major <= 0xFFFF and 0 <= minor <= 0xFFFF):
        raise ValueError(f"handle {major:x}:{minor:x} is out of range")
    return major << 16 | minor


def qdisc_of(parent: Handle) -> Handle:
    """The handle of the qdisc that a parent is, or is a class or band of; the hooks and the root are themselves."""
    return parent if parent >= CLSACT_HANDLE else parent & 0xFFFF0000


def handle_text(value: Handle) -> str:
    """As tc writes it: `5a00:10`, `5a00:`, `root`, `clsact`."""
    names = {ROOT: "root", CLSACT: "clsact", CLSACT_EGRESS: "egress", CLSACT_INGRESS: "ingress"}
    if value in names:
        return names[value]
    return f"{value >> 16:x}:{value & 0xFFFF:x}" if value & 0xFFFF else f"{value >> 16:x}:"


def ticks(size: int, rate: int) -> int:
    """Bytes at a rate in bit/s as scheduler ticks, rounded up: the form in which the kernel keeps a burst."""
    return max(1, -(-size * 8 * 10**9 // (rate * TICK_NS)))


def ticks_to_bytes(count: int, rate: int) -> int:
    """Scheduler ticks at a rate in bit/s as bytes."""
    return count * TICK_NS * rate // (8 * 10**9)


class HtbOptions(NamedTuple):
    """`default` is the minor of the class for what no filter matches; 0 lets it pass unshaped.

    `direct_queue` holds that many such packets; 0 stands for the kernel's own, the device's transmit queue length.
    """

    default: int
    direct_queue: int = 0


class FifoOptions(NamedTuple):
    """`limit` in bytes for bfifo, in packets for pfifo."""

    limit: int


class FqCodelOptions(NamedTuple):
    """`limit` in packets, `memory` in bytes, `target` and `interval` in microseconds, `quantum` in bytes."""

    limit: int
    target: int
    interval: int
    quantum: int
    flows: int
    memory: int
    ecn: bool


class RawOptions(NamedTuple):
    """Options of a kind that we do not program: kept as the kernel gave them, to compare and to name."""

    data: bytes


RootOptions = HtbOptions | HfscOptions | CakeOptions | EtsOptions | PrioOptions
Options = RootOptions | FifoOptions | FqCodelOptions | RawOptions | None

OUR_ROOTS = ("htb", "hfsc", "cake", "ets", "prio")
"""The kinds that a root of ours may have."""


def _kind_at(kind: str, device: str) -> str:
    """The first part of a key: what stands on another device than the tree's has places of its own."""
    return f"{kind}@{device}" if device else kind


@dataclass(frozen=True, slots=True)
class Qdisc:
    """`stab` says how a root counts packets; without it by the frames that the device is given.

    `device` is where it stands, "" for the tree's own device.
    """

    handle: Handle
    parent: Handle
    kind: str
    options: Options = None
    stab: SizeTable | None = None
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (_kind_at("qdisc", self.device), self.parent, 0)


@dataclass(frozen=True, slots=True)
class HtbClass:
    """`rate` and `ceil` in bit/s, whole bytes a second; bursts in ticks at rate and ceil; `quantum` in bytes.

    `parent` is the root qdisc's handle for a top class (the kernel's dumps say TC_H_ROOT there), else a class's.
    """

    handle: Handle
    parent: Handle
    rate: int
    ceil: int
    burst: int
    cburst: int
    prio: int
    quantum: int

    @property
    def key(self) -> tuple[str, int, int]:
        return ("class", self.handle, 0)


Class = HtbClass | HfscClass


class Insn(NamedTuple):
    """One classic-BPF instruction (struct sock_filter)."""

    code: int
    jt: int
    jf: int
    k: int


@dataclass(frozen=True, slots=True)
class BpfFilter:
    """A classic cls_bpf filter. Its return value names the class; with `mirror` a match is copied to that device, with
    `redirect` it goes there instead, and no filter behind sees it.

    `classid` is what a return value of -1 stands for; 0 where the program names classes itself. `device` is where the
    filter stands, "" for the tree's own device.
    """

    parent: Handle
    preference: int
    handle: Handle
    program: tuple[Insn, ...]
    protocol: int = ETH_P_ALL
    classid: Handle = 0
    mirror: str = ""
    redirect: str = ""
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (_kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)

    @property
    def target(self) -> str:
        """The device that gets what matches, "" for none."""
        return self.mirror or self.redirect


FLOWER_FIELDS: Mapping[str, int] = {
    "eth_type": 16,
    "ip_proto": 8,
    "ip_tos": 8,
    "ip_flags": 32,
    "icmpv6_type": 8,
    "src4": 32,
    "dst4": 32,
    "src6": 128,
    "dst6": 128,
    "sport": 16,
    "sport_min": 16,
    "sport_max": 16,
    "dport": 16,
    "dport_min": 16,
    "dport_max": 16,
}
"""What flower can ask of a packet, as far as we ask it, with the bits of each; of a port range both ends are asked."""

IS_FRAGMENT = 1
"""The bit of `ip_flags` that fragments have (TCA_FLOWER_KEY_FLAGS_IS_FRAGMENT)."""


class FlowerKey(NamedTuple):
    """One condition of flower: where `mask` has ones the field is as `value`, which has no other ones."""

    field: str
    value: int
    mask: int


def flower_key(field: str, value: int, mask: int | None = None) -> FlowerKey:
    """The condition in canonical form; without a mask the whole field is asked. Raises KeyError."""
    whole = (1 << FLOWER_FIELDS[field]) - 1
    mask = whole if mask is None else mask & whole
    return FlowerKey(field, value & mask, mask)


@dataclass(frozen=True, slots=True)
class FlowerFilter:
    """A flower filter: what meets all `keys` belongs to the class `classid`. The keys are sorted.

    `protocol` is the ethertype that its preference belongs to, ETH_P_ALL for all. Flower takes what a packet does not
    have for 0: the ports of a fragment too. `device` is where it stands, "" for the tree's own device.
    """

    parent: Handle
    preference: int
    handle: Handle
    protocol: int
    keys: tuple[FlowerKey, ...]
    classid: Handle
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (_kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)


@dataclass(frozen=True, slots=True)
class OtherFilter:
    """A filter of a kind that we do not program; it is somebody else's, and named so."""

    parent: Handle
    preference: int
    handle: Handle
    protocol: int
    kind: str
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (_kind_at("filter", self.device), self.parent, self.preference << 32 | self.handle)


@dataclass(frozen=True, slots=True)
class Ifb:
    """A device of ours that takes the measurement's copies or what comes in; its alias says whose it is."""

    name: str
    alias: str

    @property
    def key(self) -> tuple[str, int, int]:
        return ("ifb:" + self.name, 0, 0)


Filter = BpfFilter | FlowerFilter | OtherFilter
Node = Qdisc | HtbClass | HfscClass | Filter | Ifb


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything on one device, each collection sorted by key. Build it with `tree()`.

    The tree of an incoming direction stands on an ifb; the hook that feeds it is part of it, on a device of its own.
    """

    device: str
    links: tuple[Ifb, ...] = ()
    qdiscs: tuple[Qdisc, ...] = ()
    classes: tuple[Class, ...] = ()
    filters: tuple[Filter, ...] = ()

    def nodes(self) -> tuple[Node, ...]:
        """All of it, in an order in which it could be added: devices, qdiscs and classes from the top, filters."""
        return (*self.links, *_from_the_top(self.qdiscs, self.classes), *self.filters)

    def root(self) -> Qdisc | None:
        """The root qdisc, if one was set (the kernel's default is not)."""
        return next((qdisc for qdisc in self.qdiscs if qdisc.parent == ROOT), None)

    def leaf_of(self, class_handle: Handle) -> Qdisc | None:
        """The qdisc under a class."""
        return next((qdisc for qdisc in self.qdiscs if qdisc.parent == class_handle), None)


def _from_the_top(qdiscs: Iterable[Qdisc], classes: Iterable[Class]) -> tuple[Qdisc | Class, ...]:
    nodes: list[Qdisc | Class] = [*qdiscs, *classes]
    known = {node.handle for node in nodes}
    below: dict[Handle, list[Qdisc | Class]] = {}
    for node in nodes:
        whole = qdisc_of(node.parent)  # a band is no node: what stands under it stands under its qdisc
        above = whole if node.parent not in known and whole in known else node.parent
        below.setdefault(above, []).append(node)
    ordered: list[Qdisc | Class] = []
    waiting = [parent for parent in below if parent not in known]
    while waiting:
        for node in below.pop(waiting.pop(0), ()):
            ordered.append(node)
            waiting.append(node.handle)
    return tuple(ordered)


def tree(device: str, nodes: Iterable[Node]) -> Tree:
    """A tree in canonical form. Raises ValueError when two nodes have the same key."""
    held: dict[tuple[str, int, int], Node] = {}
    for node in nodes:
        if node.key in held:
            raise ValueError(f"two nodes at {node.key}: {held[node.key]} and {node}")
        held[node.key] = node
    ordered = [held[key] for key in sorted(held)]
    return Tree(
        device,
        tuple(node for node in ordered if isinstance(node, Ifb)),
        tuple(node for node in ordered if isinstance(node, Qdisc)),
        tuple(node for node in ordered if isinstance(node, Class)),
        tuple(node for node in ordered if isinstance(node, Filter)),
    )


@dataclass(frozen=True, slots=True)
class FieldBounds:
    """The controller's fields of one leaf class: what an apply leaves alone while it lies inside.

    `rate` and `ceil` in bit/s, `queue` in the unit of the leaf's limit; both ends included.
    """

    rate: tuple[int, int]
    ceil: tuple[int, int]
    queue: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kernel can do, probed once. `qdiscs`, `filters`, `actions`, `links` are kinds by tc's names.

    `features` are abilities beside kinds: `stab`, a size table at a root qdisc.
    """

    kernel: str
    qdiscs: frozenset[str] = field(default_factory=frozenset)
    filters: frozenset[str] = field(default_factory=frozenset)
    actions: frozenset[str] = field(default_factory=frozenset)
    links: frozenset[str] = field(default_factory=frozenset)
    features: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What matters of a device. `super_packet` is the largest frame in bytes that can reach its qdisc whole.

    `joined_packet` is the largest that it may hand over as received, joined by GRO or LRO. `header` is the link-layer
    header in bytes (14 for Ethernet, 0 for a tunnel or PPP); `speed` is in bit/s.
    """

    name: str
    index: int
    mtu: int
    header: int
    super_packet: int
    up: bool
    speed: int | None = None
    joined_packet: int = 0


BURST_NS = 1_000_000
"""A burst lasts at least 1 ms of its rate, the field's practice: timers that come late then cost no throughput."""


def burst_after(count: int, rate: int, new_rate: int) -> int:
    """A burst of `count` ticks at `rate` as ticks at `new_rate` (bit/s): no fewer bytes, and at least BURST_NS."""
    if new_rate == rate:
        return count
    return max(ticks(ticks_to_bytes(count, rate), new_rate), -(-BURST_NS // TICK_NS))


def with_grants(base: Tree, grants: Mapping[Handle, tuple[int, int, int]]) -> Tree:
    """The tree with other rate, ceil (bit/s) and leaf limit for some leaf classes; bursts follow the rates."""
    classes = tuple(_with_rates(cls, *grants[cls.handle][:2]) if cls.handle in grants else cls for cls in base.classes)
    qdiscs = tuple(
        replace(qdisc, options=_with_limit(qdisc.options, grants[qdisc.parent][2])) if qdisc.parent in grants else qdisc
        for qdisc in base.qdiscs
    )
    return replace(base, classes=classes, qdiscs=qdiscs)


def _with_rates(cls: Class, rate: int, ceil: int) -> Class:
    if isinstance(cls, HfscClass):
        return cls.granted(rate, ceil)
    return replace(
        cls,
        rate=rate,
        ceil=ceil,
        burst=burst_after(cls.burst, cls.rate, rate),
        cburst=burst_after(cls.cburst, cls.ceil, ceil),
    )


def _with_limit(options: Options, limit: int) -> Options:
    if isinstance(options, FifoOptions):
        return options._replace(limit=limit)
    if isinstance(options, FqCodelOptions):
        return options._replace(memory=limit)
    return options


def queue_limit(options: Options) -> int | None:
    """The limit that `with_grants` sets: bytes of a bfifo or of fq_codel's memory. None for other kinds."""
    if isinstance(options, FifoOptions):
        return options.limit
    if isinstance(options, FqCodelOptions):
        return options.memory
    return None
