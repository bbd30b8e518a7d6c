"""The HTB backend: an interface's classes as one HTB tree with its leaves and its classifier.

Structured, the tiers are borrowing priorities of the leaves and a leaf's rate is its floor: HTB serves every rate
before anyone borrows, so what is not a floor goes to the tiers in order. Static, the guarantees are the rates and all
borrow alike, as a plain tc tool would program them.
"""

from __future__ import annotations

from collections.abc import Mapping

from shaper.compile.ground import Ground
from shaper.compile.handles import LINK_HANDLE, ROOT_HANDLE, assign
from shaper.compile.program import Program
from shaper.compile.share import quanta
from shaper.errors import UnavailableError
from shaper.model.decision import Grant
from shaper.model.policy import Burst, TrafficClass
from shaper.tree import BURST_NS, ROOT, Handle, HtbClass, HtbOptions, Qdisc, ticks, ticks_to_bytes
from shaper.units import format_rate, format_size

_LONGEST_BURST = 2**32 - 1
_LARGEST_RATE = 2**63 - 1
_BURST_FRAMES = 2
_LAST_PRIORITY = 7

_INNER_QUANTUM = 1514
"""Inner classes hold no packets, and the kernel ignores quantum and prio when one is changed: always the same."""


def compile_htb(ground: Ground, previous: Mapping[str, Handle]) -> Program:
    """The program on HTB.

    Raises UnavailableError when the kernel lacks htb or a classifier, when a rate cannot be expressed, when the rules
    are more than its classifier can say, and when handles run out.
    """
    ground.require("htb")
    ground.require_rates("HTB's clock", _LARGEST_RATE)
    interface = ground.interface
    handles = assign((cls.path for cls in interface.walk()), previous)
    classes = _classes(ground, handles)
    queues = ground.queues(handles)
    rules = interface.rules()
    classification = ground.classify(rules, handles)
    return ground.program(
        [
            Qdisc(ROOT_HANDLE, ROOT, "htb", HtbOptions(handles[rules.default] & 0xFFFF)),
            *classes.values(),
            *(node for queue in queues.values() for node in queue.nodes),
            *classification.filters,
        ],
        handles=handles,
        bounds={leaf.path: ground.bounds(leaf, queues[leaf.path]) for leaf in interface.leaves()},
        static={
            path: Grant(classes[path].rate, classes[path].ceil, queue.limit, queue.target)
            for path, queue in queues.items()
        },
        rules=rules,
        lookups=classification.lookups,
        notes=(*classification.notes, *ground.notes(queues)),
    )


def _classes(ground: Ground, handles: Mapping[str, Handle]) -> dict[str, HtbClass]:
    """Every class by path, and the link's own under the empty path."""
    whole = ground.bandwidth, ground.bandwidth
    compiled = {"": _class(ground, LINK_HANDLE, ROOT_HANDLE, rates=whole)}
    strict = int(any(leaf.strict for leaf in ground.interface.leaves()))
    turns = quanta(ground.interface, ground.facts, tiers=ground.structure)

    def add(cls: TrafficClass, parent: Handle) -> int:
        own = handles[cls.path]
        if cls.children:
            below = sum(add(child, own) for child in cls.children)
            rate = max(below, ground.rate(cls))  # what the children may leave of a floor of its own is theirs to borrow
            prio, quantum = 0, _INNER_QUANTUM
        else:
            rate = ground.rate(cls)
            prio, quantum = _order(cls, after=strict, structure=ground.structure), turns[cls.path]
        rates, bursts = (rate, max(rate, ground.ceil(cls))), (cls.burst, cls.cburst)
        compiled[cls.path] = _class(ground, own, parent, rates=rates, bursts=bursts, prio=prio, quantum=quantum)
        return rate

    for top in ground.interface.classes:
        add(top, LINK_HANDLE)
    return compiled


def _order(cls: TrafficClass, *, after: int, structure: bool) -> int:
    """The borrowing priority; strict classes, if there are any, come before all others.

    A strict class's rate is its limit, so it never borrows: HTB sends what is within its rate before it lets anyone
    borrow, and among those the lowest priority first, whatever the classes above have left.
    """
    if cls.strict:
        return 0
    order = (int(cls.tier) if cls.priority is None else cls.priority) if structure else 0
    return min(_LAST_PRIORITY, order + after)


def _class(
    ground: Ground,
    own: Handle,
    parent: Handle,
    *,
    rates: tuple[int, int],
    bursts: tuple[Burst | None, Burst | None] = (None, None),
    prio: int = 0,
    quantum: int = _INNER_QUANTUM,
) -> HtbClass:
    (rate, ceil), (burst, cburst) = rates, bursts
    counts = _burst(ground, rate, burst), _burst(ground, ceil, cburst)
    return HtbClass(own, parent, rate, ceil, *counts, prio, quantum)


def _burst(ground: Ground, rate: int, wanted: Burst | None) -> int:
    """What is wanted, a frame at least; else 1 ms of the rate, two frames, or one super-packet. In ticks at the rate.

    HTB sends no packet at once that is larger than a burst. Raises UnavailableError where 32 bits cannot hold it.
    """
    if wanted is not None:
        count = ticks(max(ground.frame, ground.facts.super_packet, wanted.of(rate)), rate)
        if count > _LONGEST_BURST:
            raise UnavailableError(
                f"a burst of {format_size(wanted.of(rate))} at {format_rate(rate)} is too long for HTB's clock",
                hint=f"the most is {format_size(ticks_to_bytes(_LONGEST_BURST, rate))}",
                where=ground.interface.where,
            )
        return count
    size = max(_BURST_FRAMES * ground.frame, ground.facts.super_packet, rate * BURST_NS // (8 * 10**9))
    return min(ticks(size, rate), _LONGEST_BURST)
