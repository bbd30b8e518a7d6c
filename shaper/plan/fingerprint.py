"""What of a tree the policy owns: whether two are the same in that, and the first field in which they are not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from shaper.plan.codec import tree_to_json
from shaper.plan.describe import describe
from shaper.plan.steps import Plan, Step, Verb
from shaper.tree import (
    Class,
    FieldBounds,
    Granted,
    Handle,
    HfscClass,
    HtbClass,
    Node,
    Offload,
    Tree,
    aqm_target,
    link_of,
    queue_limit,
    straight,
    tree,
    with_grants,
)

_NO_NAMES: Mapping[Handle, str] = {}


def policys(held: Tree, bounds: Mapping[Handle, FieldBounds]) -> Tree:
    """The tree with the lower bound in each field of the controller's that lies inside its bounds.

    So two trees that differ only in what a controller moved, where it may, are equal. A burst follows its rate.
    """
    grants: dict[Handle, Granted] = {}
    followed: dict[Handle, Class] = {}
    for cls in held.classes:
        if (own := bounds.get(cls.handle)) is None:
            continue
        leaf = held.leaf_of(cls.handle)
        queue = (queue_limit(leaf.options) if leaf else None) or 0
        target = aqm_target(leaf.options) if leaf else 0
        grants[cls.handle] = Granted(
            _low(cls.rate, own.rate), _low(cls.ceil, own.ceil), _low(queue, own.queue), _low(target, own.target)
        )
        followed[cls.handle] = cls
    root, link = held.root(), link_of(held)
    if root is not None and link is not None and link[0] == root.handle and root.handle in bounds:
        own, target = bounds[root.handle], aqm_target(root.options)
        grants[root.handle] = Granted(_low(link[1], own.rate), 0, 0, _low(target, own.target))
    masked = with_grants(held, grants)
    classes = tuple(
        _without_bursts(cls, followed[cls.handle], bounds[cls.handle]) if cls.handle in followed else cls
        for cls in masked.classes
    )
    return replace(masked, classes=classes)


def fingerprint(held: Tree, bounds: Mapping[Handle, FieldBounds]) -> str:
    """SHA-256 of what the policy owns of a tree."""
    return hashlib.sha256(json.dumps(tree_to_json(policys(held, bounds)), sort_keys=True).encode()).hexdigest()


def moved(
    before: Tree, now: Tree, bounds: Mapping[Handle, FieldBounds], names: Mapping[Handle, str] = _NO_NAMES
) -> str:
    """In words the first thing of the policy's in which two trees differ, from what to what; "" where they agree."""
    old, new = _by_key(before.nodes()), _by_key(now.nodes())
    masked_old, masked_new = _by_key(policys(before, bounds).nodes()), _by_key(policys(now, bounds).nodes())
    for key in sorted({*old, *new}):
        if masked_old.get(key) == masked_new.get(key):
            continue
        was, is_now = old.get(key), new.get(key)
        verb = Verb.ADD if was is None else Verb.DELETE if is_now is None else Verb.CHANGE
        words = describe(Step(verb, was, is_now), names)
        return words.replace(": add", ": new", 1).replace(": remove", ": gone", 1)
    return ""


def carried(held: Tree, steps: Iterable[Step]) -> Tree:
    """The tree after the steps."""
    nodes = _by_key(held.nodes())
    for step in steps:
        nodes.pop(step.node.key, None)
        if step.after is not None:
            nodes[step.after.key] = step.after
    return tree(held.device, nodes.values())


def reverted(held: Tree, plan: Plan) -> Tree:
    """The tree with every node that the plan touches as it was before the plan."""
    nodes = _by_key(held.nodes())
    for step in reversed(plan.steps):
        if step.before is None:
            nodes.pop(step.node.key, None)
        elif step.node.key in nodes or not isinstance(step.before, Offload):  # its device may be gone
            nodes[step.before.key] = step.before
    return tree(held.device, nodes.values())


def _by_key(nodes: Iterable[Node]) -> dict[tuple[str, int, int], Node]:
    return {node.key: node for node in nodes}


def _low(value: int, ends: tuple[int, int]) -> int:
    return ends[0] if ends[0] <= value <= ends[1] else value


def _without_bursts(masked: Class, live: Class, own: FieldBounds) -> Class:
    """Without what follows a rate that may move: HTB's bursts, and the first slope of HFSC's real-time curve."""
    if isinstance(masked, HfscClass):
        movable = own.rate[0] <= live.rate <= own.rate[1] and own.rate[0] != own.rate[1]
        return replace(masked, rt=straight(masked.rate)) if movable else masked
    assert isinstance(live, HtbClass)

    def kept(burst: int, rate: int, ends: tuple[int, int]) -> int:
        return 0 if ends[0] <= rate <= ends[1] and ends[0] != ends[1] else burst

    return replace(masked, burst=kept(live.burst, live.rate, own.rate), cburst=kept(live.cburst, live.ceil, own.ceil))
