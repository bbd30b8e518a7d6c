"""From the tree that the kernel holds to the tree that it should: the steps, in an order that is safe at every one.

First goes what must be built anew, from the leaves up. Then classes lose rate, the deepest first; then everything is
added and every class gains rate from the top, filters after the classes they name; last goes what is not wanted any
more, from the leaves up. So the leaves never hold more than the link, and a filter never names a class that is gone.
Packets become smaller before the queues do, and larger after them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from shaper.plan.live import adopt_live, capacity, leaf_sum
from shaper.plan.steps import Plan, Step, Verb
from shaper.plan.trees import Key, hangs_on, inner_classes, is_changeable
from shaper.tree import (
    BpfFilter,
    Class,
    FieldBounds,
    Filter,
    FlowerFilter,
    Handle,
    HfscClass,
    HtbClass,
    Ifb,
    Node,
    Offload,
    Qdisc,
    Tree,
    U32Filter,
    qdisc_of,
)

_LEAST_RATE = 8
"""bit/s: a class that is about to go keeps one byte a second, since HTB takes no rate of 0."""


def diff(observed: Tree, desired: Tree, *, bounds: Mapping[Handle, FieldBounds]) -> Plan:
    """The steps from `observed` to `adopt_live(observed, desired)`, and so their inverse; none when they are equal.

    `bounds` has the controller's fields by class handle: inside them what is observed stays.
    """
    wanted = adopt_live(observed, desired, bounds=bounds)
    return Plan(desired.device, tuple(_steps(observed, wanted)))


def _steps(observed: Tree, wanted: Tree) -> Iterator[Step]:
    before: dict[Key, Node] = {node.key: node for node in observed.nodes()}
    after: dict[Key, Node] = {node.key: node for node in wanted.nodes()}
    anew = _anew(observed, wanted)
    upwards = tuple(reversed(observed.nodes()))
    resized = tuple(_resized(observed, wanted))
    yield from (step for step in resized if not _larger(step))
    for node in upwards:
        if node.key in anew:
            yield Step(Verb.DELETE, before.pop(node.key), None)
    for step in _decreases(before, after, observed, wanted):
        yield step
        before[step.node.key] = step.node
    for node in wanted.nodes():
        held = before.get(node.key)
        if isinstance(node, Offload):
            continue
        if held is None:
            yield Step(Verb.ADD, None, node)
        elif held != node:
            yield Step(Verb.CHANGE, held, node)
    for node in upwards:
        if node.key in before and node.key not in after and not isinstance(node, Offload):
            yield Step(Verb.DELETE, before[node.key], None)
    yield from filter(_larger, resized)


def _resized(observed: Tree, wanted: Tree) -> Iterator[Step]:
    """Offloads that change. One that either tree does not know of is nobody's to touch, or of a device that is gone."""
    before = {one.key: one for one in observed.offloads}
    for one in wanted.offloads:
        held = before.get(one.key)
        if held is not None and held != one:
            yield Step(Verb.CHANGE, held, one)


def _larger(step: Step) -> bool:
    """Whether packets may come larger after it."""
    before, after = step.before, step.after
    return isinstance(before, Offload) and isinstance(after, Offload) and after.value > before.value


def _anew(observed: Tree, wanted: Tree) -> frozenset[Key]:
    """What the kernel can't change in place, and all that stands on it.

    A class that becomes inner loses its queue in the kernel, and one that becomes a leaf has none: both are built anew.
    So are the flower and u32 filters that name one, since they hold it. A filter that goes leaves its preference before
    another comes there: a preference belongs to one kind and one protocol.
    """
    after: dict[Key, Node] = {node.key: node for node in wanted.nodes()}
    inner_before, inner_after = inner_classes(observed), inner_classes(wanted)
    keys: set[Key] = set()
    handles: set[Handle] = set()
    devices: set[str] = set()
    places = {(node.parent, node.preference) for node in wanted.filters}
    for node in observed.nodes():
        other = after.get(node.key)
        inner = isinstance(node, Class) and node.handle in inner_before
        turned = isinstance(other, Class) and inner != (other.handle in inner_after)
        rebuilt = other is not None and other != node and not is_changeable(node, other, inner=inner)
        below = hangs_on(node)
        orphaned = below in handles or (below is not None and qdisc_of(below) in handles)
        orphaned = orphaned or (isinstance(node, BpfFilter) and node.target in devices)
        orphaned = orphaned or (isinstance(node, (FlowerFilter, U32Filter)) and node.classid in handles)
        evicted = other is None and isinstance(node, Filter) and (node.parent, node.preference) in places
        if not (rebuilt or turned or orphaned or evicted):
            continue
        keys.add(node.key)
        if isinstance(node, (Qdisc, HtbClass, HfscClass)):
            handles.add(node.handle)
        elif isinstance(node, Ifb):
            devices.add(node.name)
    return frozenset(keys)


def _decreases(before: Mapping[Key, Node], after: Mapping[Key, Node], observed: Tree, wanted: Tree) -> list[Step]:
    """Classes that lose rate, deepest first; those that will go give theirs up where both would be too much."""
    inner = inner_classes(observed)
    going = [
        node
        for node in before.values()
        if isinstance(node, Class) and node.key not in after and node.handle not in inner
    ]
    links = [rate for rate in (capacity(observed), capacity(wanted)) if rate]
    room = min(links) if links else max(leaf_sum(observed), leaf_sum(wanted))
    crowded = leaf_sum(wanted) + sum(cls.rate for cls in going) > room
    steps: list[Step] = []
    for node in reversed(observed.nodes()):
        if node.key not in before or not isinstance(node, Class):
            continue
        other = after.get(node.key)
        if isinstance(other, Class) and (other.rate, other.ceil) < (node.rate, node.ceil):
            steps.append(Step(Verb.CHANGE, node, other))
        elif other is None and node in going and crowded and node.rate > _LEAST_RATE:
            steps.append(Step(Verb.CHANGE, node, _least(node)))
    return steps


def _least(cls: Class) -> Class:
    if isinstance(cls, HfscClass):
        return cls.granted(_LEAST_RATE, cls.ceil)
    return replace(cls, rate=_LEAST_RATE)
