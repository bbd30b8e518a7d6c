"""The HFSC backend: delay and rate decoupled (Stoica, Zhang, Ng: "A Hierarchical Fair Service Curve Algorithm", 1997).

A leaf's real-time curve is sized from its SLA's delay: from the moment it becomes busy it is served at m1 = L / d, so
that a largest frame L leaves within d even where the guarantee alone would take longer; after d at its guarantee. The
kernel serves every such deadline with at most one frame of another class in the way (d + L / C), as long as the curves
together stay under the link's. What is left is shared by the link-sharing curves; upper limits hold what has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from shaper.compile.ground import MIN_RATE, Ground, whole_bytes
from shaper.compile.handles import LINK_HANDLE, ROOT_HANDLE, assign
from shaper.compile.leaf import delay_of
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.model.decision import Grant
from shaper.model.policy import Tier, TrafficClass
from shaper.tree import LARGEST_CURVE, ROOT, Curve, Handle, HfscClass, HfscOptions, Qdisc, straight
from shaper.units import format_duration, format_rate

TIER_WEIGHT = 64
"""A tier's weight in borrowing against the next lower one's: HFSC has no strict order among link-sharing curves."""
_LEAST_RATE = 8
"""bit/s: one byte a second, for a class whose share is all it has. The controller has a curve to move then."""
_LONGEST_D = 2**32 - 1
_UNIT = 800_000
"""bit/s of link-sharing curve for a whole share of the lowest tier: only ratios count, and 1 % is still 1,000 B/s."""


def compile_hfsc(ground: Ground, previous: Mapping[str, Handle]) -> Program:
    """Raises UnavailableError as `compile_htb` does, and when the real-time curves are more than the link carries."""
    ground.require("hfsc")
    ground.require_rates("HFSC's curves", LARGEST_CURVE)
    interface, ground = ground.interface, replace(ground, least=_LEAST_RATE)
    handles = assign((cls.path for cls in interface.walk()), previous)
    curves = {leaf.path: real_time(leaf, ground) for leaf in interface.leaves()}
    _admit(ground, curves)
    queues = ground.queues(handles)
    rules = interface.rules()
    classes = _classes(ground, handles, curves)
    classification = ground.classify(rules, handles)
    return ground.program(
        [
            Qdisc(ROOT_HANDLE, ROOT, "hfsc", HfscOptions(handles[rules.default] & 0xFFFF)),
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
        notes=(*classification.notes, *ground.notes(queues), *_promises(ground, curves)),
        reserved=sum(max(0, curve.m1 - curve.m2) for curve in curves.values()),
    )


def real_time(leaf: TrafficClass, ground: Ground) -> Curve:
    """The curve that serves a largest frame within the class's tightest delay, and its rate in the long run."""
    rate = ground.rate(leaf)
    if not (leaf.sla.bounds and leaf.guarantee):
        return straight(rate)
    delay = delay_of(leaf)
    steep = -(-ground.frame * 10**9 // max(1, int(delay * 10**9))) * 8  # bytes a second, rounded up, in bit/s
    return Curve(steep, min(_LONGEST_D, int(delay * 1e6)), rate) if steep > rate else straight(rate)


def served(curve: Curve, microseconds: int) -> int:
    """Bit-microseconds-per-second that a curve promises within so many microseconds of being busy."""
    if microseconds <= curve.d:
        return curve.m1 * microseconds
    return curve.m1 * curve.d + curve.m2 * (microseconds - curve.d)


def fits(curves: Iterable[Curve], link: int) -> bool:
    """Whether the sum of the curves never passes `link` bit/s x t: a sum of straight pieces, so looked at where one of
    them bends, and in the slope that it ends with."""
    held = tuple(curves)
    bends = {curve.d for curve in held if curve.d}
    return sum(curve.m2 for curve in held) <= link and all(
        sum(served(curve, bend) for curve in held) <= link * bend for bend in bends
    )


def _admit(ground: Ground, curves: Mapping[str, Curve]) -> None:
    if fits(curves.values(), ground.bandwidth):
        return
    total = sum(max(curve.m1, curve.m2) for curve in curves.values())
    steep = max(curves, key=lambda path: curves[path])
    cls = next(leaf for leaf in ground.interface.leaves() if leaf.path == steep)
    needed = ", ".join(
        f"{path} {format_rate(max(curve.m1, curve.m2))}"
        for path, curve in curves.items()
        if max(curve.m1, curve.m2) > _LEAST_RATE
    )
    room = ground.bandwidth - total + curves[steep].m1
    mend = f"a bandwidth of {format_rate(-(-total // 1000) * 1000)}, or a backend that promises no delay (htb)"
    if room > curves[steep].m2:
        mend = f"a delay of at least {_shortest(ground.frame, room)} for {steep}, {mend}"
    raise UnavailableError(
        f"the delays promised on {ground.interface.name} can't be kept together: a frame of {ground.frame} B within "
        f"each takes {format_rate(total)} of {format_rate(ground.bandwidth)} ({needed})",
        hint=mend,
        where=cls.where,
    )


def _shortest(frame: int, rate: int) -> str:
    """The time of a frame at a rate, rounded up to three digits so that what is read can be written."""
    microseconds = -(-frame * 8 * 10**6 // rate)
    step: int = 10 ** max(0, len(str(microseconds)) - 3)
    return format_duration(-(-microseconds // step) * step / 1e6)


def _classes(ground: Ground, handles: Mapping[str, Handle], curves: Mapping[str, Curve]) -> dict[str, HfscClass]:
    """Every class by path, and the link's own under the empty path."""
    whole = straight(ground.bandwidth)
    compiled = {"": HfscClass(LINK_HANDLE, ROOT_HANDLE, None, whole, whole)}

    def add(cls: TrafficClass, parent: Handle) -> None:
        limit = straight(max(ground.rate(cls), ground.ceil(cls)))
        share = straight(max(MIN_RATE, whole_bytes(round(_weight(cls, tiers=ground.structure) * _UNIT))))
        compiled[cls.path] = HfscClass(handles[cls.path], parent, curves.get(cls.path), share, limit)
        for child in cls.children:
            add(child, handles[cls.path])

    for top in ground.interface.classes:
        add(top, LINK_HANDLE)
    return compiled


def _weight(cls: TrafficClass, *, tiers: bool) -> float:
    """Its share within its tier, times the tier's own weight; of an inner class the highest tier in it."""
    share = max(cls.share, 1.0) / 100
    if not tiers:
        return share
    highest = min(one.tier for one in cls.walk() if not one.children)
    return float(share * TIER_WEIGHT ** (max(Tier) - highest))


def _promises(ground: Ground, curves: Mapping[str, Curve]) -> Iterable[str]:
    """What HFSC keeps of a policy, and what it does not."""
    wait = ground.frame * 8 / ground.bandwidth
    kept = [
        f"{leaf.path} {format_duration(delay_of(leaf) + wait)}"
        for leaf in ground.interface.leaves()
        if leaf.sla.bounds and leaf.guarantee
    ]
    if kept:
        yield (
            f"hfsc: a packet within its class's real-time rate waits no longer than its delay and one frame on the "
            f"wire: {', '.join(kept)}"
        )
    if ground.structure and len({leaf.tier for leaf in ground.interface.leaves()}) > 1:
        yield (
            f"hfsc: guarantees, delays and limits hold for every tier, but what is left is not borrowed in strict "
            f"order: a tier weighs {TIER_WEIGHT} times the next lower one, an inner class as its highest"
        )
