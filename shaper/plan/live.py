"""Who owns which field: an apply sets the policy's fields and leaves the controller's where they fit."""

from __future__ import annotations

from collections.abc import Mapping

from shaper.plan.trees import inner_classes
from shaper.tree import Class, FieldBounds, Granted, Handle, Qdisc, Tree, aqm_target, link_of, queue_limit, with_grants


def adopt_live(observed: Tree, desired: Tree, *, bounds: Mapping[Handle, FieldBounds]) -> Tree:
    """The desired tree with the observed rate, ceil, queue limit and target of each leaf where they are in its bounds.

    So has the link where that moves, and CAKE's root. It is what read-back must equal after `diff` was applied. Where
    the observed rates would together exceed the link, as they may after a class was added, all have the desired rates.
    """
    held = {cls.handle: cls for cls in observed.classes}
    leaves = {cls.handle: cls for cls in desired.classes if cls.handle in bounds}
    adopted: dict[Handle, Granted] = {}
    static: dict[Handle, Granted] = {}
    for number, cls in leaves.items():
        queue = desired.leaf_of(number)
        limit = _queue(observed.leaf_of(number), queue, bounds[number])
        target = _target(observed.leaf_of(number), queue, bounds[number])
        rate, ceil = _rates(held.get(number), cls, bounds[number])
        adopted[number] = Granted(rate, ceil, limit, target)
        static[number] = Granted(cls.rate, max(ceil, cls.rate), limit, target)
    adopted |= _own(observed, desired, bounds)
    live = with_grants(desired, adopted)
    return live if leaf_sum(live) <= max(capacity(live), leaf_sum(desired)) else with_grants(desired, static)


def _own(observed: Tree, desired: Tree, bounds: Mapping[Handle, FieldBounds]) -> dict[Handle, Granted]:
    """Of a root that has the link's rate and the target itself, as CAKE has: each as observed where it is in bounds."""
    root, held, link, moving = desired.root(), observed.root(), link_of(desired), link_of(observed)
    if root is None or held is None or link is None or moving is None or held.kind != root.kind:
        return {}
    if root.handle not in bounds or not link[0] == moving[0] == root.handle:
        return {}
    own = bounds[root.handle]
    rate = moving[1] if _inside(moving[1], own.rate) else link[1]
    return {root.handle: Granted(rate, rate, 0, _target(held, root, own))}


def leaf_sum(held: Tree) -> int:
    """The rates of all leaf classes together, in bit/s."""
    inner = inner_classes(held)
    return sum(cls.rate for cls in held.classes if cls.handle not in inner)


def capacity(held: Tree) -> int:
    """The rate of the link in bit/s: of the inner classes right under a qdisc; 0 where there are none."""
    inner, qdiscs = inner_classes(held), {qdisc.handle for qdisc in held.qdiscs}
    return sum(cls.rate for cls in held.classes if cls.handle in inner and cls.parent in qdiscs)


def _rates(held: Class | None, wanted: Class, bounds: FieldBounds) -> tuple[int, int]:
    if held is None:
        return wanted.rate, wanted.ceil
    rate = held.rate if _inside(held.rate, bounds.rate) else wanted.rate
    ceil = held.ceil if _inside(held.ceil, bounds.ceil) and held.ceil >= rate else wanted.ceil
    return rate, max(rate, ceil)


def _queue(held: Qdisc | None, wanted: Qdisc | None, bounds: FieldBounds) -> int:
    limit = queue_limit(wanted.options) if wanted is not None else None
    if limit is None:
        return 0
    live = queue_limit(held.options) if held is not None and wanted is not None and held.kind == wanted.kind else None
    return live if live is not None and _inside(live, bounds.queue) else limit


def _target(held: Qdisc | None, wanted: Qdisc | None, bounds: FieldBounds) -> int:
    if wanted is None or not (target := aqm_target(wanted.options)):
        return 0
    live = aqm_target(held.options) if held is not None and held.kind == wanted.kind else 0
    return live if live and _inside(live, bounds.target) else target


def _inside(value: int, ends: tuple[int, int]) -> bool:
    return ends[0] <= value <= ends[1]
