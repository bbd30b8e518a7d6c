"""Offloads that were changed for a queue: what they were before, who else needs them so, and when they go back.

A record says of each what it was found as and what we made of it. It is ours as long as it is what we made of it, and
goes back to what it was when the last record that names it lets go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from shaper.plan.steps import Plan
from shaper.run.state import Pending, Record, boot_id
from shaper.tree import Offload, Tree

Held = Mapping[str, Sequence[int]]
"""By "DEVICE NAME": the value that was found, and ours."""


def label(one: Offload) -> str:
    """As a record names it; no device has a blank in its name."""
    return f"{one.device} {one.name}"


def held_by(record: Record | None) -> Held:
    """What a record holds; one of an earlier boot holds nothing."""
    return record.offloads if record is not None and record.boot == boot_id() else {}


def devices(*records: Record | None, pending: Pending | None = None) -> frozenset[str]:
    """The devices whose offloads are to be looked at."""
    if pending is not None:
        records = (*records, pending.before, pending.after)
    return frozenset(name.split(" ")[0] for record in records for name in held_by(record))


def regarding(observed: Iterable[Offload], names: Collection[str]) -> tuple[Offload, ...]:
    """Of what was observed, what goes by these names."""
    return tuple(one for one in observed if label(one) in names)


def among(standing: Iterable[Record], coming: Sequence[Record]) -> tuple[Record, ...]:
    """The records of other places, as they will be when those that are planned before are carried out."""
    places = {(one.device, one.direction) for one in coming}
    return (*(one for one in standing if (one.device, one.direction) not in places), *coming)


def planned(plan: Plan) -> tuple[Offload, ...]:
    """The offloads that a plan changes, as it leaves them."""
    return tuple(step.after for step in plan.steps if isinstance(step.after, Offload))


def as_planned(there: Iterable[Offload], *plans: Plan) -> tuple[Offload, ...]:
    """The offloads that are there, as they will be when the plans are carried out."""
    present = {one.key: one for one in there}
    coming = {one.key: one for plan in plans for one in planned(plan)}
    return tuple(coming.get(key, one) for key, one in present.items())


def taken(
    wanted: Tree, observed: Tree, record: Record | None, others: Iterable[Record], let_go: Record | None = None
) -> dict[str, list[int]]:
    """For the record after an apply: of each offload that is wanted what it was before anybody of us changed it.

    `let_go` is the record of a tree that was released; what is still as that made it was found as that found it.
    """
    before = dict(held_by(record))
    for other in others:
        before = {**held_by(other), **before}
    present = {label(one): one.value for one in observed.offloads}
    left = {name: pair for name, pair in held_by(let_go).items() if present.get(name) == pair[1]}
    before = {**left, **before}
    return {
        name: [before[name][0] if name in before else present.get(name, one.value), one.value]
        for one in wanted.offloads
        for name in (label(one),)
    }


def released(
    observed: Tree, record: Record | None, others: Iterable[Record], *, wanted: Iterable[Offload] = ()
) -> tuple[Offload, ...]:
    """What the record holds and nobody wants any more, as it should be then.

    As it was found where it is still as we made it; what somebody else changed since, or another record holds, stays.
    """
    kept = {name for other in others for name in held_by(other)}
    gone = held_by(record).keys() - {label(one) for one in wanted}
    return tuple(_back(regarding(observed.offloads, gone), held_by(record), kept))


def _back(there: Iterable[Offload], held: Held, kept: Collection[str]) -> Iterator[Offload]:
    for one in there:
        found, ours = held[label(one)]
        goes = one.value == ours and label(one) not in kept
        yield Offload(one.device, one.name, found if goes else one.value)
