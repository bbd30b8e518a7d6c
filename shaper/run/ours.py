"""Whose it is: the part of a device's tree that a record proves to be ours, and what is refused as somebody else's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from shaper.compile import incoming, stamp, tap
from shaper.errors import UnavailableError
from shaper.kernel.decode import GONE
from shaper.model.policy import Direction, Interface
from shaper.plan.trees import is_hook
from shaper.run.offloads import held_by, label, regarding
from shaper.run.state import Record, boot_id
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_INGRESS,
    COUNT_INDEXES,
    OUR_ROOTS,
    ROOT_MAJORS,
    BpfFilter,
    Filter,
    Finish,
    FlowerFilter,
    LoadedFilter,
    Node,
    Offload,
    Qdisc,
    Tree,
    U32Filter,
    U32Table,
    handle_text,
    tree,
)

HookNode = TypeVar("HookNode", Qdisc, Filter)


def ours(
    observed: Tree,
    record: Record | None,
    *,
    beside: Record | None = None,
    leaving: bool = False,
    touched: Iterable[Offload] = (),
) -> Tree:
    """The part of the device's tree that the record proves to be ours.

    A clsact hook that carries our filter, or one of the other direction's, whose record is `beside`, is ours to use;
    when we are `leaving` it counts only if nobody else's filter stands on it, the other direction's included. Offloads
    are those of the record, and the ones that are `touched`.
    """
    record, beside = (one if one is not None and one.boot == boot_id() else None for one in (record, beside))
    incoming = (record and record.direction) is Direction.INGRESS or (beside and beside.direction) is Direction.EGRESS
    mine: list[Node] = [*observed.links, *observed.tables]
    mine.extend(regarding(observed.offloads, {*held_by(record), *map(label, touched)}))
    root = observed.root()
    if record is not None and root is not None and root.handle == record.root and root.kind in OUR_ROOTS:
        mine.append(root)
        mine.extend(node for node in observed.qdiscs if node.parent >> 16 == root.handle >> 16)
        mine.extend(observed.classes)
        kinds = BpfFilter | LoadedFilter | FlowerFilter | U32Filter | U32Table
        places = {root.handle} | {node.handle for node in observed.qdiscs if node.parent >> 16 == root.handle >> 16}
        mine.extend(node for node in observed.filters if node.parent in places and isinstance(node, kinds))
    if incoming:  # the ifb is ours, and so is its hook
        mine.extend(_on_hooks(observed.qdiscs, elsewhere=False))
        mine.extend(node for node in _on_hooks(observed.filters, elsewhere=False) if _stamps(node))
    hooked = _on_hooks(observed.filters, elsewhere=incoming)
    taps = [node for node in hooked if _feeds(node, record)]
    mine.extend(taps)
    alone = record is not None and record.hooked and len(taps) == len(hooked)
    shared = not leaving and (bool(taps) or any(_feeds(node, beside) for node in hooked))
    if alone or shared:
        mine.extend(node for node in _on_hooks(observed.qdiscs, elsewhere=incoming) if node.kind == "clsact")
    return tree(observed.device, mine)


def _on_hooks(nodes: Iterable[HookNode], *, elsewhere: bool) -> list[HookNode]:
    """Clsact hooks and what stands on them: of the tree's own device, or `elsewhere`, on the device that feeds it."""
    return [node for node in nodes if is_hook(node.parent) and bool(node.device) == elsewhere]


def _stamps(node: Filter) -> bool:
    there = (node.parent, node.preference, node.handle) == (CLSACT_EGRESS, stamp.PREFERENCE, stamp.FILTER_HANDLE)
    return isinstance(node, LoadedFilter) and there and node.name.startswith(stamp.NAME)


def polices(node: Filter) -> bool:
    """Whether it is a filter that polices what comes in: its first actions count what passes and what does not."""
    if not isinstance(node, (BpfFilter, LoadedFilter, FlowerFilter)) or node.parent != CLSACT_INGRESS:
        return False
    return any(isinstance(action, Finish) and action.index in COUNT_INDEXES for action in node.actions)


_PLACES = {
    Direction.EGRESS: (CLSACT_EGRESS, tap.PREFERENCE, tap.FILTER_HANDLE),
    Direction.INGRESS: (CLSACT_INGRESS, incoming.PREFERENCE, incoming.FILTER_HANDLE),
}


def _feeds(node: Filter, record: Record | None) -> bool:
    """Whether a filter on the hook is of the direction with this record; at its place also when its ifb is gone."""
    if record is None:
        return False
    if record.direction is Direction.EGRESS and _stamps(node):
        return True
    if record.policed and polices(node):
        return True
    if not record.tap or not isinstance(node, BpfFilter):
        return False
    there = (node.parent, node.preference, node.handle) == _PLACES[record.direction]
    return node.target == record.tap or (node.target == GONE and there)


def left_behind(held: Tree, direction: Direction) -> Tree:
    """What of ours stays when it is let go of: all that shapes, and the offloads as they are. What measures goes."""
    return replace(
        held,
        links=held.links if direction is Direction.INGRESS else (),
        qdiscs=tuple(node for node in held.qdiscs if node.device or not is_hook(node.parent)),
        filters=tuple(node for node in held.filters if node.device or not is_hook(node.parent)),
    )


def refuse_foreign_root(observed: Tree, record: Record | None, interface: Interface) -> None:
    """Raises UnavailableError unless the root is ours, or nobody's."""
    root = observed.root()
    if root is None:
        return
    owned = record is not None and record.boot == boot_id() and root.handle == record.root and root.kind in OUR_ROOTS
    if owned:
        return
    name = f"{root.kind} {handle_text(root.handle)}"
    if root.handle >> 16 in ROOT_MAJORS:
        message = f"{interface.shaped} carries a tree of the shaper's ({name}) that this state folder has no record of"
        hint = (
            "name the folder it was applied with (--state DIR), take it over: "
            f"shaper adopt {interface.device} POLICY; or remove it: tc qdisc del dev {interface.shaped} root"
        )
    else:
        message = f"{interface.shaped} carries somebody else's qdisc ({name})"
        hint = (
            f"if nothing needs it, remove it: tc qdisc del dev {interface.shaped} root; "
            "else ask the program that made it to let go"
        )
    raise UnavailableError(message, hint=hint, where=interface.device_where)


def foreign_hooks(observed: Tree, mine: Tree) -> tuple[str, ...]:
    """What holds the clsact hook and is not ours, in words."""
    held = {node.key for node in mine.qdiscs}
    return tuple(
        f"{node.kind} {handle_text(node.handle)}"
        for node in observed.qdiscs
        if node.parent == CLSACT and node.key not in held
    )
