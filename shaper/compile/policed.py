"""What comes in by a device, policed on its clsact hook: no ifb, no queue, no delay.

Each leaf has a filter with one list of actions, which the packet goes down. Above its limit it is dropped; within what
is guaranteed to its class it passes; else it asks the class above in the same way, and last what of the link is
guaranteed to nobody. All classes inside one pay from the same buckets, which hold what it has beyond its children's
guarantees: so limits, guarantees and the bandwidth are kept together, and nothing is ever lent.

The buckets' rates, for a class c and the sum below of its children's guarantees: its limit less below, its guarantee
less below; of the link the bandwidth less below. A packet that a child's guarantee covers pays to none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shaper.compile import incoming
from shaper.compile.filters import Stand, classify
from shaper.compile.handles import assign
from shaper.compile.inside import marks_for, unread_note
from shaper.compile.link import link_notes
from shaper.compile.notes import drift_note, service_notes
from shaper.compile.offloads import changes, offload_notes, without_super_packets
from shaper.compile.program import Program
from shaper.compile.treatment import Around, Counting, Numbers, policers, treatment_notes, treatments
from shaper.errors import UnavailableError
from shaper.model.decision import Bounds, Grant
from shaper.model.link import Cells
from shaper.model.policy import Backend, Burst, Interface, TrafficClass
from shaper.tree import (
    CLSACT,
    CLSACT_HANDLE,
    CLSACT_INGRESS,
    DROP,
    OK,
    PIPE,
    Action,
    Capabilities,
    Finish,
    Handle,
    LinkFacts,
    Qdisc,
    jump,
    ticks,
    tree,
)
from shaper.tree.actions import SLOWEST_BUCKET
from shaper.units import format_rate, format_size

BURST_SECONDS = 0.05
"""A policer has no queue in which a burst could wait: a sender of this round trip reaches its rate all the same.
More (Open vSwitch advises 0.8 s, Cisco 1.5 s) gave TCP nothing over 20 and 50 ms."""
_BURST_FRAMES = 4

_PASSED, _DROPPED, _BEGIN = 1, 2, 3
"""Where every list counts what passes and what does not, and where it begins. Buckets that classes share have one
verdict each, whatever list they stand in."""
_LONGEST_BURST = 2**32 - 1
_MODULES = {
    "the clsact qdisc": "sch_ingress",
    "the police action": "act_police",
    "the gact action": "act_gact",
    "the bpf filter, or flower": "cls_bpf",
}


def compile_policed(
    interface: Interface, capabilities: Capabilities, link: LinkFacts, previous: Mapping[str, Handle]
) -> Program:
    """Raises UnavailableError when the kernel lacks a part of it, when a rule asks for what is not known here, when a
    rate or burst cannot be expressed, and when the rules are more than its classifier can say.
    """
    _require(interface, capabilities)
    rules = interface.rules()
    incoming.refuse_unknown(interface, rules)
    _refuse_inside(interface, capabilities, link)
    offloads = changes(interface, link, Backend.AUTO)
    facts = without_super_packets(link, interface, offloads)
    handles = assign((cls.path for cls in interface.walk()), previous)
    counting = counting_of(interface, facts)
    numbers = Numbers(interface)
    around = _Buckets(interface, facts, counting, numbers).around()
    treated = treatments(interface, capabilities, facts, around=around, numbers=numbers)
    stand = Stand(CLSACT_INGRESS, interface.device)
    found = classify(
        interface, rules, handles, capabilities, treated, ethernet=facts.header > 0 and facts.name != "lo", stand=stand
    )
    hook = Qdisc(CLSACT_HANDLE, CLSACT, "clsact", device=interface.device)
    leaves = interface.leaves()
    grants = {leaf.path: (leaf.guarantee, min(leaf.limit, interface.bandwidth)) for leaf in leaves}
    return Program(
        interface=interface,
        tree=tree(interface.shaped, [*offloads, hook, *found.filters]),
        handles=handles,
        bounds={path: Bounds((rate, rate), (most, most), (0, 0)) for path, (rate, most) in grants.items()},
        static={path: Grant(rate, most, 0) for path, (rate, most) in grants.items()},
        rules=rules,
        carried=rules,
        tap="",
        notes=(
            *link_notes(interface, link, None),
            *offload_notes(interface, link, Backend.AUTO),
            *service_notes(interface),
            *drift_note(interface),
            *unread_note(interface, link),
            *found.notes,
            *treatment_notes(interface, facts),
            *_notes(interface, facts),
        ),
        movable=False,
        frame=counting.of(facts.mtu),
        policers=policers(interface, treated),
        verdicts={path: (one.before[_PASSED].index, one.before[_DROPPED].index) for path, one in around.items()},
        overhead=counting.overhead,
        lookups=found.lookups,
    )


def counting_of(interface: Interface, facts: LinkFacts) -> Counting:
    """What a packet counts for: the hook sees it from the network header on, so the link's own bytes are added.

    Raises UnavailableError for an overhead below 0.
    """
    layer = interface.link
    if layer is None:
        return Counting(facts.header)
    if layer.overhead < 0:
        raise UnavailableError(
            f"{interface.title}: a policer cannot count {-layer.overhead} bytes less than the IP packet has",
            hint="write an `overhead` of 0 or more, or queue what comes in: `ingress: queue`",
            where=interface.where,
        )
    return Counting(layer.overhead, layer.mpu, layer.cells is Cells.ATM)


def left_over(whole: int, parts: Sequence[TrafficClass]) -> int:
    """bit/s of a whole that are guaranteed to none of its parts, in whole bytes a second."""
    return (whole - sum(part.guarantee for part in parts)) // 8 * 8


class _Buckets:
    """The lists of one interface, without what classes do to packets themselves."""

    def __init__(self, interface: Interface, facts: LinkFacts, counting: Counting, numbers: Numbers) -> None:
        self._interface = interface
        self._facts = facts
        self._counting = counting
        self._numbers = numbers
        self._above = {child.path: cls for cls in interface.walk() for child in cls.children}

    def around(self) -> dict[str, Around]:
        """By path of the leaf. Raises UnavailableError."""
        shared = {cls.path: tuple(self._own(cls)) for cls in self._interface.walk()}
        last = self._link()
        return {
            leaf.path: Around(
                (
                    Finish(jump(_BEGIN)),
                    Finish(OK, self._numbers.of(leaf.path, "passed")),
                    Finish(DROP, self._numbers.of(leaf.path, "dropped")),
                ),
                (*(action for cls in self._up(leaf) for action in shared[cls.path]), last),
                jump(_DROPPED),
                self._counting,
            )
            for leaf in self._interface.leaves()
        }

    def _up(self, leaf: TrafficClass) -> Iterator[TrafficClass]:
        cls: TrafficClass | None = leaf
        while cls is not None:
            yield cls
            cls = self._above.get(cls.path)

    def _own(self, cls: TrafficClass) -> Iterator[Action]:
        """What a class asks of each packet that no class inside it guarantees."""
        above = self._above.get(cls.path)
        if cls.limit < (above.limit if above else self._interface.bandwidth):
            yield self._bucket(cls.path, "limit", left_over(cls.limit, cls.children), cls.cburst, PIPE)
        rate = left_over(cls.guarantee, cls.children)
        if rate >= SLOWEST_BUCKET:
            yield self._bucket(cls.path, "guarantee", rate, cls.burst, jump(_PASSED), PIPE)

    def _link(self) -> Action:
        """What is guaranteed to nobody."""
        rate = left_over(self._interface.bandwidth, self._interface.classes)
        return self._bucket("", "link", rate, None, jump(_PASSED))

    def _bucket(
        self, path: str, key: str, rate: int, wanted: Burst | None, conform: int, exceed: int = jump(_DROPPED)
    ) -> Action:
        if rate < SLOWEST_BUCKET:
            return Finish(exceed)
        size = self._burst(rate, wanted)
        count = ticks(size, rate)
        if count > _LONGEST_BURST:
            raise UnavailableError(
                f"{path or self._interface.name}: a burst of {format_size(size)} at {format_rate(rate)} is too long "
                "for the kernel's clock",
                hint="the most is 274 seconds of the rate",
                where=self._interface.where,
            )
        return self._counting.bucket(self._numbers, (path, key), rate, count, conform, exceed)

    def _burst(self, rate: int, wanted: Burst | None) -> int:
        """What is wanted, a frame or super-packet at least; else as long as a round trip, or a few frames."""
        frame = max(self._counting.of(self._facts.mtu), self._facts.super_packet)
        if wanted is not None:
            return max(frame, wanted.of(rate))
        return max(frame, _BURST_FRAMES * self._counting.of(self._facts.mtu), int(rate * BURST_SECONDS / 8))


def _require(interface: Interface, capabilities: Capabilities) -> None:
    """Raises UnavailableError."""
    there = {
        "the clsact qdisc": "clsact" in capabilities.qdiscs,
        "the police action": "police" in capabilities.actions,
        "the gact action": "gact" in capabilities.actions,
    }
    if not {"bpf", "flower"} & capabilities.filters:
        there["the bpf filter, or flower"] = False
    lacking = [name for name, has in there.items() if not has]
    if lacking:
        raise UnavailableError(
            f"what comes in by {interface.device} can't be policed: the kernel ({capabilities.kernel}) lacks "
            f"{', '.join(lacking)}",
            hint=f"`modprobe {' '.join(_MODULES[name] for name in lacking)}`, or queue it in an ifb: `ingress: queue`",
            where=interface.policed_where,
        )


def _refuse_inside(interface: Interface, capabilities: Capabilities, link: LinkFacts) -> None:
    """Raises UnavailableError where a rule asks for the hosts behind a translation of addresses."""
    marks = marks_for(interface, capabilities, link)
    if marks is not None:
        raise UnavailableError(
            f"{interface.title}: {marks.why}, and what comes in is policed before its connection is known",
            hint="match what the packet itself shows, with `nat: no`, or queue what comes in: `ingress: queue`",
            where=interface.policed_where,
        )


def _notes(interface: Interface, facts: LinkFacts) -> Iterator[str]:
    left = left_over(interface.bandwidth, interface.classes)
    yield (
        f"what comes in by {interface.device} is policed: nothing waits, and what is beyond a limit or the bandwidth "
        f"is dropped. Nothing is lent: each class has its guarantee, and all share {format_rate(max(0, left))}, which "
        "is guaranteed to nobody, up to their limits, first come, first served"
    )
    if interface.unused:
        yield f"where nothing waits nothing is served in any order: of no effect here are {', '.join(interface.unused)}"
    timely = [leaf.path for leaf in interface.leaves() if leaf.path in interface.prompt]
    held = f"; the targets of {', '.join(timely)} hold by themselves" if timely else ""
    yield f"delay: no data, because nothing waits where packets are policed{held}"
    if facts.super_packet > facts.mtu + facts.header:
        yield (
            f"packets that {interface.device} has joined, of up to {format_size(facts.super_packet)}, are policed "
            "whole, and count for one header: every bucket holds one at least. `offloads: auto` at the interface mends "
            f"it, or `ethtool -K {interface.device} gro off`"
        )
