"""What the shaper does instead of what the kernel lacks, in words and with its figures, for plan and doctor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shaper.compile.leaf import LeafQueue
from shaper.model.aqm import AqmKind
from shaper.model.policy import Direction, Drift, Interface
from shaper.model.service import SERVICE_CLASSES
from shaper.tree import LinkFacts
from shaper.units import format_duration, format_rate, format_size

_MANY, _FIRST = 40, 10
"""Of more classes than that, a note names so many."""


def notes(
    interface: Interface,
    link: LinkFacts,
    queues: Mapping[str, LeafQueue],
    *,
    structure: bool,
) -> tuple[str, ...]:
    """Of the queues and the classes; `unmeasured` has those of the delay."""
    yielding = _yielding(interface) if structure else ()
    return (*_notes(interface, link, queues), *yielding)


def unmeasured(lacking: Sequence[str], unseen: Sequence[str]) -> Iterator[str]:
    """Why there are no delays: what the kernel lacks for measuring, or conditions that no captured packet shows."""
    if lacking:
        yield f"delay: no data, because the kernel lacks {', '.join(lacking)}"
    elif unseen:
        yield (
            "delay: no data, because a captured packet does not show to which class it belongs: the policy asks for "
            f"{', '.join(unseen)}"
        )


def drift_note(interface: Interface) -> Iterator[str]:
    """Where what somebody else changes stays."""
    if interface.drift is Drift.REPORT:
        yield "what somebody else changes of this is said by `status` and `run`, and not put back (`drift: report`)"


def _notes(interface: Interface, link: LinkFacts, queues: Mapping[str, LeafQueue]) -> Iterator[str]:
    yield from _stand_ins(queues)
    comes_in = interface.direction is Direction.INGRESS
    if comes_in:
        yield (
            f"what comes in by {interface.device} waits in {interface.shaped}, after it has crossed the line: that "
            "acts on senders that slow down, and only while the bandwidth is below what the line really carries"
        )
    if link.super_packet > link.mtu + link.header:
        wait = format_duration(link.super_packet * 8 / interface.bandwidth)
        text = (
            f"super-packets of up to {format_size(link.super_packet)} reach {interface.shaped} whole: one holds the "
            f"link for {wait} at {format_rate(interface.bandwidth)}"
        )
        if floored := [_delay(path, queue) for path, queue in queues.items() if queue.floored]:
            text += f", and a queue must hold three for TCP to flow, so that these are larger: {_some(floored)}"
        if comes_in:
            yield f"{text}. `offloads: auto` at the interface mends it, or `ethtool -K {interface.device} gro off`"
        else:
            yield (
                f"{text}. `offloads: auto` at the interface mends it, or by hand `ip link set dev {interface.device} "
                "gso_max_segs 1` for this machine's own traffic, and `ethtool -K DEV gro off` on the devices that feed "
                "it for forwarded traffic"
            )


def _stand_ins(queues: Mapping[str, LeafQueue]) -> Iterator[str]:
    """Queues that the kernel lacks, and those that it has instead."""
    found: dict[tuple[str, str], list[str]] = {}
    for path, queue in queues.items():
        wanted, kind = queue.choice.wanted, queue.choice.aqm.kind
        if wanted is not kind:
            flows = " with one flow" if queue.choice.one_flow else ""
            found.setdefault((wanted, "FIFO" if kind is AqmKind.FIFO else f"{kind}{flows}"), []).append(path)
    for (lacking, instead), paths in found.items():
        whose = "each leaf is" if len(paths) == len(queues) else f"{_some(paths)} {'is' if paths[1:] == [] else 'are'}"
        if instead == "FIFO":
            sizes = _some([_delay(path, queues[path]) for path in paths])
            yield f"the kernel lacks {lacking}: {whose} a FIFO sized in time. A full one: {sizes}"
        else:
            yield f"the kernel lacks {lacking}: {whose} {instead}, to the same delay"
    for path, queue in queues.items():
        choice = queue.choice
        if choice.hashed:
            yield (
                f"{path} is fair among hosts by a filter that gives each a flow of its {queue.qdisc.kind} "
                f"({choice.fairness}); the flows of one host take turns as they come"
            )


def service_notes(interface: Interface) -> Iterator[str]:
    """What service classes stand for."""
    for cls in interface.walk():
        if cls.presets:
            source = SERVICE_CLASSES[cls.service].source
            yield f"{cls.path} is {cls.service} ({source}), so: {', '.join(cls.presets)}"


def _yielding(interface: Interface) -> Iterator[str]:
    """What a class that may yield has without a controller."""
    leaves = [
        f"{leaf.path} ({format_rate(leaf.floor)} of {format_rate(leaf.guarantee)})"
        for leaf in interface.leaves()
        if leaf.floor < leaf.guarantee
    ]
    if leaves:
        yield (
            f"classes that may yield stand at their floor and borrow the rest: {_some(leaves)}; "
            "`shaper run` gives them back their guarantee where they are short of it and no higher tier needs it"
        )


def _some(words: Sequence[str]) -> str:
    """All of them, or of very many the first and how many more there are."""
    if len(words) <= _MANY:
        return ", ".join(words)
    return f"{', '.join(words[:_FIRST])} and {len(words) - _FIRST} more"


def _delay(path: str, queue: LeafQueue) -> str:
    return f"{path} {format_size(queue.size)} ({format_duration(queue.delay)} at {format_rate(queue.rate)})"
