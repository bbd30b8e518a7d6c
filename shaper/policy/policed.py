"""A policy on a direction that is policed: `ingress: police`. Nothing waits there, and nothing is lent.

What only orders a queue (tiers, shares, an AQM ...) has nothing to order, and the plan says so: one policy serves both
directions. Targets of delay hold by themselves. What was promised and cannot be kept without a queue is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from shaper.errors import Problem
from shaper.model.policy import Backend, Classifier, Direction, Incoming, Interface, TrafficClass
from shaper.policy.draft import Draft
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document
from shaper.policy.schema import InterfaceSpec
from shaper.policy.text import Loc, quoted
from shaper.tree.actions import SLOWEST_BUCKET

_QUEUED = "or have it queued: `ingress: queue`"
_ORDER = ("tier", "share", "priority", "aqm", "adapt")
"""What a class says of the order in which a queue is served."""


def is_policed(spec: InterfaceSpec, direction: Direction) -> bool:
    """Whether this direction of an interface has policers in the place of queues."""
    return direction is Direction.INGRESS and spec.ingress is Incoming.POLICE


def at_once(cls: TrafficClass) -> TrafficClass:
    """The class and those in it without the targets that hold by themselves where nothing waits."""
    sla = replace(cls.sla, delays=(), jitters=())
    return replace(cls, sla=sla, children=tuple(map(at_once, cls.children)))


def unused_keys(drafts: Sequence[Draft]) -> tuple[str, ...]:
    """What classes say of the order of service, such as `tier of voice, video`."""
    every = [cls for top in drafts for cls in top.walk()]
    named = {key: [cls.path for cls in every if _says(cls, key)] for key in _ORDER}
    return tuple(f"{key} of {', '.join(paths)}" for key, paths in named.items() if paths)


def _says(cls: Draft, key: str) -> bool:
    """Whether it was written, or comes with the service class."""
    return key in cls.spec.model_fields_set or any(words.startswith(f"{key} ") for words in cls.presets)


def ingress_problems(spec: InterfaceSpec, loc: Loc, document: Document) -> Iterator[Problem]:
    """Of the key at an interface, whose place is `loc`."""
    if "ingress" in spec.model_fields_set and spec.bandwidth.ingress is None:
        message = "this is done with what comes in, and no bandwidth is said for that"
        hint = "give the interface one, `bandwidth: {ingress: 100mbit}`, or take this out"
        yield document.problem(Kind.NOTHING_COMES_IN, (*loc, "ingress"), message, hint)
    elif spec.ingress is Incoming.POLICE and spec.bandwidth.egress is None and spec.backend is not Backend.AUTO:
        message = f"all of this interface is policed, so nothing waits in {spec.backend}"
        yield document.problem(Kind.NOT_POLICED, (*loc, "backend"), message, f"take it out, {_QUEUED}")
    rates = spec.bandwidth.rates(Direction.INGRESS)
    if spec.ingress is Incoming.POLICE and rates is not None and rates.moves:
        message = "policers do not follow a link that moves"
        hint = f"write one bandwidth, the least that the line carries, {_QUEUED}"
        yield document.problem(Kind.NOT_POLICED, (*loc, "bandwidth", "ingress"), message, hint)


def policed_problems(interface: Interface, drafts: Sequence[Draft], document: Document) -> Iterator[Problem]:
    """Of a policy that is sound in itself, on an interface whose incoming packets are policed."""
    loc: Loc = ("interfaces", interface.name)
    if interface.classifier is Classifier.U32:
        message = "u32 filters are not set on the hook where packets are policed"
        hint = f"write bpf or flower, or leave it out, {_QUEUED}"
        yield document.problem(Kind.NOT_POLICED, (*loc, "classifier"), message, hint)
    if interface.connection.dscp:
        message = "what comes in is policed before its connection is known, so nothing gets its DSCP back"
        hint = f"take this out, {_QUEUED}"
        yield document.problem(Kind.NOT_POLICED, (*loc, "connection", "restore-dscp"), message, hint)
    for cls in (each for top in drafts for each in top.walk()):
        if cls.spec.fairness is not None:
            message = "hosts are made equal in a queue, and what is policed waits in none"
            hint = f"write it of what goes out, `fairness: {{egress: {cls.spec.fairness}}}`, {_QUEUED}"
            yield document.problem(Kind.NOT_POLICED, (*cls.loc, "fairness"), message, hint, at_key=True)
        if cls.spec.sla.mos is not None:
            message = "how a call sounds is told by the delay of its packets, which is not measured where none wait"
            hint = f"write it of what goes out, `mos: {{egress: {cls.spec.sla.mos.least:g}}}`, {_QUEUED}"
            yield document.problem(Kind.NOT_POLICED, (*cls.loc, "sla", "mos"), message, hint, at_key=True)
    yield from _starved(interface, drafts, document)


def _starved(interface: Interface, drafts: Sequence[Draft], document: Document) -> Iterator[Problem]:
    """Leaves that are guaranteed nothing where what is guaranteed to others leaves nothing."""
    places = {cls.path: cls for top in drafts for cls in top.walk()}

    def below(parts: Sequence[TrafficClass], room: int) -> Iterator[Problem]:
        """`room` is what they all may have beyond their guarantees."""
        for part in parts:
            if part.children:
                inside = sum(child.guarantee for child in part.children)
                yield from below(part.children, min(part.limit - inside, part.guarantee - inside + room))
            elif part.guarantee < SLOWEST_BUCKET and room < SLOWEST_BUCKET:
                message = f"{quoted(part.path)} is guaranteed nothing, and all else is guaranteed to others"
                hint = f"nothing is lent where packets are policed: guarantee it something, or others less, {_QUEUED}"
                yield document.problem(Kind.NOT_POLICED, places[part.path].loc, message, hint, at_key=True)

    yield from below(interface.classes, interface.bandwidth - sum(cls.guarantee for cls in interface.classes))
