"""Qdiscs, classes, filters and devices of ours; all that stands on one device as one value with one canonical form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from shaper.tree.bands import EtsOptions, PrioOptions
from shaper.tree.cake import CakeOptions
from shaper.tree.filters import Filter
from shaper.tree.handles import ROOT, Handle, kind_at, qdisc_of
from shaper.tree.hfsc import HfscClass, HfscOptions
from shaper.tree.htb import HtbClass, HtbOptions
from shaper.tree.leaves import FifoOptions, FqCodelOptions, RawOptions
from shaper.tree.marks import MarkTable
from shaper.tree.offloads import Offload
from shaper.tree.queues import LeafOptions
from shaper.tree.sizetable import SizeTable

RootOptions = HtbOptions | HfscOptions | CakeOptions | EtsOptions | PrioOptions
Options = RootOptions | FifoOptions | FqCodelOptions | LeafOptions | RawOptions | None
OUR_ROOTS = ("htb", "hfsc", "cake", "ets", "prio")
"""The kinds that a root of ours may have."""
Class = HtbClass | HfscClass


@dataclass(frozen=True, slots=True)
class Qdisc:
    """`stab` says how a root counts packets; without it by the frames that the device is given.

    `device` is where it stands, "" for the tree's own device.
    """

    handle: Handle
    parent: Handle
    kind: str
    options: Options = None
    stab: SizeTable | None = None
    device: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return (kind_at("qdisc", self.device), self.parent, 0)


@dataclass(frozen=True, slots=True)
class Ifb:
    """A device of ours that takes the measurement's copies or what comes in; its alias says whose it is.

    Down it drops every packet.
    """

    name: str
    alias: str
    up: bool = True

    @property
    def key(self) -> tuple[str, int, int]:
        return ("ifb:" + self.name, 0, 0)


Node = Qdisc | HtbClass | HfscClass | Filter | Ifb | Offload | MarkTable


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything on one device, each collection sorted by key. Build it with `tree()`.

    The tree of an incoming direction stands on an ifb; the hook that feeds it is part of it, on a device of its own.
    So are the `offloads` of this and other devices that have to do with it.
    """

    device: str
    links: tuple[Ifb, ...] = ()
    qdiscs: tuple[Qdisc, ...] = ()
    classes: tuple[Class, ...] = ()
    filters: tuple[Filter, ...] = ()
    offloads: tuple[Offload, ...] = ()
    tables: tuple[MarkTable, ...] = ()

    def nodes(self) -> tuple[Node, ...]:
        """All of it as it could be added: devices, tables, qdiscs and classes from the top, filters."""
        below = _from_the_top(self.qdiscs, self.classes)
        return (*self.offloads, *self.links, *self.tables, *below, *self.filters)

    def root(self) -> Qdisc | None:
        """The root qdisc, if one was set (the kernel's default is not)."""
        return next((qdisc for qdisc in self.qdiscs if qdisc.parent == ROOT), None)

    def leaf_of(self, class_handle: Handle) -> Qdisc | None:
        """The qdisc under a class."""
        return next((qdisc for qdisc in self.qdiscs if qdisc.parent == class_handle), None)


def _from_the_top(qdiscs: Iterable[Qdisc], classes: Iterable[Class]) -> tuple[Qdisc | Class, ...]:
    nodes: list[Qdisc | Class] = [*qdiscs, *classes]
    known = {node.handle for node in nodes}
    below: dict[Handle, list[Qdisc | Class]] = {}
    for node in nodes:
        whole = qdisc_of(node.parent)  # a band is no node: what stands under it stands under its qdisc
        above = whole if node.parent not in known and whole in known else node.parent
        below.setdefault(above, []).append(node)
    ordered: list[Qdisc | Class] = []
    waiting = [parent for parent in below if parent not in known]
    while waiting:
        for node in below.pop(waiting.pop(0), ()):
            ordered.append(node)
            waiting.append(node.handle)
    return tuple(ordered)


def tree(device: str, nodes: Iterable[Node]) -> Tree:
    """A tree in canonical form. Raises ValueError when two nodes have the same key."""
    held: dict[tuple[str, int, int], Node] = {}
    for node in nodes:
        if node.key in held:
            raise ValueError(f"two nodes at {node.key}: {held[node.key]} and {node}")
        held[node.key] = node
    ordered = [held[key] for key in sorted(held)]
    return Tree(
        device,
        tuple(node for node in ordered if isinstance(node, Ifb)),
        tuple(node for node in ordered if isinstance(node, Qdisc)),
        tuple(node for node in ordered if isinstance(node, Class)),
        tuple(node for node in ordered if isinstance(node, Filter)),
        tuple(node for node in ordered if isinstance(node, Offload)),
        tuple(node for node in ordered if isinstance(node, MarkTable)),
    )


def with_offloads(held: Tree, offloads: Iterable[Offload]) -> Tree:
    """The tree with these offloads in the place of its own where they are of the same name, else beside them."""
    others = {one.key: one for one in (*held.offloads, *offloads)}
    return replace(held, offloads=tuple(others[key] for key in sorted(others)))
