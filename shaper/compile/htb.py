"""The HTB backend: an interface's classes as one HTB tree with its leaves, its classifier and the measurement's hook.

Structured, the tiers are borrowing priorities of the leaves and a leaf's rate is its floor: HTB serves every rate
before anyone borrows, so what is not a floor goes to the tiers in order. Static, the guarantees are the rates and all
borrow alike, as a plain tc tool would program them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shaper.compile import tap as measurement
from shaper.compile.filters import classify
from shaper.compile.handles import LINK_HANDLE, ROOT_HANDLE, assign, leaf_handle
from shaper.compile.leaf import LeafQueue, leaf_queue
from shaper.compile.notes import notes, unmeasured
from shaper.compile.program import Program
from shaper.compile.share import quanta
from shaper.errors import UnavailableError
from shaper.model.decision import Bounds, Grant
from shaper.model.policy import Interface, TrafficClass
from shaper.tree import (
    BURST_NS,
    ROOT,
    Capabilities,
    Handle,
    HtbClass,
    HtbOptions,
    LinkFacts,
    Node,
    Qdisc,
    ticks,
    tree,
)
from shaper.units import format_rate

MIN_RATE = 8_000
"""bit/s. HTB takes no rate of 0, and at 8 kbit a 64 KB packet's burst still fits the kernel's 32-bit ticks."""
_LONGEST_BURST = 2**32 - 1
_BURST_FRAMES = 2

_INNER_QUANTUM = 1514
"""Inner classes hold no packets, and the kernel ignores quantum and prio when one is changed: always the same."""


@dataclass(frozen=True, slots=True)
class _Link:
    """What the classes of one interface have in common. `bandwidth` in bit/s, whole bytes a second."""

    facts: LinkFacts
    bandwidth: int
    structure: bool

    def burst(self, rate: int) -> int:
        """1 ms of the rate, two frames, or one super-packet, in ticks at the rate."""
        frames = _BURST_FRAMES * (self.facts.mtu + self.facts.header)
        size = max(frames, self.facts.super_packet, rate * BURST_NS // (8 * 10**9))
        return min(ticks(size, rate), _LONGEST_BURST)

    def rate(self, cls: TrafficClass) -> int:
        """The compiled rate: the floor where that is below the guarantee, else the guarantee."""
        wanted = min(cls.floor, cls.guarantee) if self.structure else cls.guarantee
        return max(MIN_RATE, _whole_bytes(wanted))

    def ceil(self, cls: TrafficClass) -> int:
        return max(MIN_RATE, _whole_bytes(min(cls.limit, self.bandwidth)))

    def htb_class(
        self, own: Handle, parent: Handle, *, rates: tuple[int, int], prio: int = 0, quantum: int = _INNER_QUANTUM
    ) -> HtbClass:
        rate, ceil = rates
        return HtbClass(own, parent, rate, ceil, self.burst(rate), self.burst(ceil), prio, quantum)


def compile_interface(
    interface: Interface,
    capabilities: Capabilities,
    link: LinkFacts,
    *,
    previous: Mapping[str, Handle] | None = None,
    structure: bool = True,
    tap: bool = True,
) -> Program:
    """The tree for one interface, the same for the same arguments.

    `previous` maps every class path that ever had a handle to it. `structure` off gives the static tree; `tap` off
    leaves the measurement out. Raises UnavailableError when the kernel lacks htb or a classifier, when a rate cannot be
    expressed, when the rules are more than its classifier can say, and when handles run out.
    """
    _require(interface, capabilities)
    common = _Link(link, _whole_bytes(interface.bandwidth), structure)
    handles = assign((cls.path for cls in interface.walk()), previous or {})
    classes = _classes(interface, common, handles)
    fq_codel = "fq_codel" in capabilities.qdiscs
    queues = {leaf.path: _queue(leaf, common, handles[leaf.path], fq_codel) for leaf in interface.leaves()}
    rules = interface.rules()
    classification = classify(interface, rules, handles, capabilities)
    default = handles[rules.default]
    nodes: list[Node] = [
        Qdisc(ROOT_HANDLE, ROOT, "htb", HtbOptions(default & 0xFFFF)),
        *classes.values(),
        *(queue.qdisc for queue in queues.values()),
        *classification.filters,
    ]
    sampling = measurement.sampling_of(common.bandwidth)
    lacking = measurement.missing(capabilities)
    unseen = measurement.unseen(rules)
    measured = tap and not lacking and not unseen
    if measured:
        nodes.extend(measurement.nodes(interface.device, sampling))
    return Program(
        interface=interface,
        tree=tree(interface.device, nodes),
        handles=handles,
        bounds={leaf.path: _bounds(leaf, common, queues[leaf.path]) for leaf in interface.leaves()},
        static={path: Grant(classes[path].rate, classes[path].ceil, queue.limit) for path, queue in queues.items()},
        rules=rules,
        tap=measurement.ifb_name(interface.device) if measured else "",
        tap_filter=measurement.tap_filter(sampling) if measured else (),
        sampling=sampling,
        notes=(
            *classification.notes,
            *notes(interface, link, queues, fq_codel=fq_codel, structure=structure),
            *(unmeasured(lacking, unseen) if tap else ()),
        ),
    )


def _require(interface: Interface, capabilities: Capabilities) -> None:
    if "htb" not in capabilities.qdiscs:
        raise UnavailableError(
            f"{interface.device} can't be shaped: the kernel ({capabilities.kernel}) lacks the htb qdisc",
            hint="`modprobe sch_htb`, or a kernel built with CONFIG_NET_SCH_HTB",
            where=interface.device_where,
        )
    too_slow = [(interface.name, interface.bandwidth, interface.where, "bandwidth")]
    too_slow.extend((cls.path, cls.limit, cls.where, "limit") for cls in interface.walk() if not cls.implied)
    for name, rate, where, key in too_slow:
        if rate < MIN_RATE:
            raise UnavailableError(
                f"{name}: a {key} of {format_rate(rate)} cannot be expressed in HTB's clock",
                hint=f"the least is {format_rate(MIN_RATE)}",
                where=where,
            )


def _classes(interface: Interface, link: _Link, handles: Mapping[str, Handle]) -> dict[str, HtbClass]:
    """Every class by path, and the link's own under the empty path."""
    compiled: dict[str, HtbClass] = {
        "": link.htb_class(LINK_HANDLE, ROOT_HANDLE, rates=(link.bandwidth, link.bandwidth))
    }

    turns = quanta(interface, link.facts, tiers=link.structure)

    def add(cls: TrafficClass, parent: Handle) -> int:
        own = handles[cls.path]
        if cls.children:
            below = sum(add(child, own) for child in cls.children)
            rate = max(below, link.rate(cls))  # what the children may leave of a floor of its own is theirs to borrow
            prio, quantum = 0, _INNER_QUANTUM
        else:
            rate = link.rate(cls)
            prio, quantum = (int(cls.tier) if link.structure else 0), turns[cls.path]
        rates = rate, max(rate, link.ceil(cls))
        compiled[cls.path] = link.htb_class(own, parent, rates=rates, prio=prio, quantum=quantum)
        return rate

    for top in interface.classes:
        add(top, LINK_HANDLE)
    return compiled


def _queue(leaf: TrafficClass, link: _Link, parent: Handle, fq_codel: bool) -> LeafQueue:
    return leaf_queue(
        leaf,
        rate=max(MIN_RATE, _whole_bytes(leaf.guarantee)),
        ceil=link.ceil(leaf),
        handle=leaf_handle(parent),
        parent=parent,
        link=link.facts,
        fq_codel=fq_codel,
    )


def _bounds(leaf: TrafficClass, link: _Link, queue: LeafQueue) -> Bounds:
    floor = max(MIN_RATE, _whole_bytes(min(leaf.floor, leaf.guarantee)))
    guarantee = max(floor, _whole_bytes(leaf.guarantee))
    ceil = max(guarantee, link.ceil(leaf))
    return Bounds((floor, ceil), (guarantee, ceil), (queue.smallest, queue.largest))


def _whole_bytes(rate: int) -> int:
    return rate // 8 * 8
