"""What compilation gives: the tree with the static allocation in it, and everything needed to move inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from shaper.compile.numbers import Adopted
from shaper.model.decision import Allocation, Bounds, Grant
from shaper.model.match import Rules
from shaper.model.policy import Interface
from shaper.tree import (
    CakeOptions,
    FieldBounds,
    FqCodelOptions,
    Granted,
    Handle,
    Insn,
    LookupProgram,
    Tree,
    aqm_target,
    link_of,
    queue_limit,
    with_grants,
)


@dataclass(frozen=True, slots=True)
class Program:
    """One interface, compiled.

    `tree` holds the static allocation; `handles` maps every class path to its class handle, for life; `bounds` and
    `static` are by leaf path: within what the controller may move, and where it starts. `tap` names the ifb that takes
    the copies of packets before the queue, "" where delay cannot be measured; `tap_filter` is the socket filter that
    picks the same packets after the queue, 1 in `sampling`. Of an incoming direction `tap` is the ifb that is shaped,
    and `arriving_filter` picks the packets on the device that they come in by. `notes` say in words what the shaper
    does instead of what the kernel lacks, and what delay that costs. `reserved` is what of the link's bit/s no rate may
    be raised into; `movable` is false where no class has anything that a controller could move. `frame` is the largest
    frame in bytes as the kernel counts it. `adopted` has the numbers of a tree that was taken over. `policers` are
    the indexes of a leaf's, the peak rate's before the committed one's. `lookups` are the loaded programs of the
    tree that are extended BPF, and `devices` the numbers of those by which packets may have come in. `moving` are
    the least and the most that the whole link may be given, in bit/s, None where its rate stands. Where packets are
    policed and none wait `verdicts` are the indexes of what counts a leaf's: those that passed, and those that were
    dropped; a packet counts for `overhead` bytes more there than they say.

    `carried` are the rules as a program in the kernel can ask them. `stamp` names the loaded program that measures in
    the kernel in the place of captured packets, "" without one; `stamping` is what classifies for it, and
    `sorting` says that it writes the class on the packet, by which HTB sorts it without asking its filter, and
    `limits` are the delays (s) that it counts apart, by class handle: those of the targets. `unstamped` says
    why there is none although one was asked for.
    """

    interface: Interface
    tree: Tree
    handles: Mapping[str, Handle]
    bounds: Mapping[str, Bounds]
    static: Allocation
    rules: Rules
    carried: Rules
    tap: str
    tap_filter: tuple[Insn, ...] = ()
    arriving_filter: tuple[Insn, ...] = ()
    sampling: int = 1
    notes: tuple[str, ...] = ()
    reserved: int = 0
    movable: bool = True
    frame: int = 1514
    stamp: str = ""
    stamping: tuple[Insn, ...] = ()
    sorting: bool = False
    unstamped: str = ""
    limits: Mapping[Handle, tuple[float, ...]] = field(default_factory=dict)
    adopted: Adopted | None = None
    policers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lookups: tuple[LookupProgram, ...] = ()
    devices: Mapping[str, int] = field(default_factory=dict)
    moving: tuple[int, int] | None = None
    verdicts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    overhead: int = 0

    @property
    def measured(self) -> bool:
        """Whether delay can be measured."""
        return bool(self.tap_filter or self.stamp)

    @property
    def tins(self) -> bool:
        """Whether the classes are the tins of one CAKE, which has the link's rate and the target of all in its root."""
        root = self.tree.root()
        return root is not None and isinstance(root.options, CakeOptions)

    @property
    def hooked(self) -> bool:
        """Whether something of it stands on a hook."""
        return bool(self.tap or self.stamp or self.interface.policed)

    @property
    def fixed(self) -> str:
        """Why there is nothing for a controller to move, where it is not movable."""
        return "what is policed lends nothing" if self.interface.policed else "no class has a rate to move"

    @property
    def memories(self) -> frozenset[str]:
        """The leaves whose queues keep themselves short, and whose limit is of the kernel's memory."""
        leaves = {path: self.tree.leaf_of(self.handles[path]) for path in self.static}
        return frozenset(
            path for path, leaf in leaves.items() if leaf and isinstance(leaf.options, (FqCodelOptions, CakeOptions))
        )

    def size_of(self) -> Callable[[int], int] | None:
        """What the kernel counts a frame of so many bytes for, None where it is the same."""
        root = self.tree.root()
        return root.stab.count if root is not None and root.stab is not None else None

    def leaf_bounds(self) -> dict[str, FieldBounds]:
        """The controller's fields by leaf path, as the plan compares them."""
        return {
            path: FieldBounds(bounds.rate, bounds.ceil, bounds.queue, bounds.target)
            for path, bounds in self.bounds.items()
        }

    def field_bounds(self) -> dict[Handle, FieldBounds]:
        """The same by class handle, with the link's where that moves."""
        return self.by_handle(self.leaf_bounds(), self.moving)

    def by_handle(self, leaves: Mapping[str, FieldBounds], moving: tuple[int, int] | None) -> dict[Handle, FieldBounds]:
        """Those of some leaves by path, and of the link's rate, by the handles of what holds them: of tins the root."""
        found = {} if self.tins else {self.handles[path]: bounds for path, bounds in leaves.items()}
        held = link_of(self.tree)
        if held is None or (moving is None and not (self.tins and leaves)):
            return found
        rate = moving or (held[1], held[1])
        target = next((own.target for own in leaves.values()), (0, 0)) if self.tins else (0, 0)
        return found | {held[0]: FieldBounds(rate, rate, (0, 0), target)}

    def with_allocation(self, allocation: Allocation, *, link: int | None = None) -> Tree:
        """The tree with another allocation of the leaves, and another rate of the link (bit/s) where one is given."""
        grants = {
            self.handles[path]: Granted(grant.rate, grant.ceil, grant.queue, grant.target)
            for path, grant in allocation.items()
        }
        held = link_of(self.tree)
        if held is not None and (link is not None or self.tins):
            rate = held[1] if link is None else link
            shortest = min((grant.target for grant in allocation.values()), default=0) if self.tins else 0
            grants[held[0]] = Granted(rate, rate, 0, shortest)
        return with_grants(self.tree, grants)

    def link_in(self, held: Tree) -> int:
        """The rate of the whole link that a tree holds, in bit/s; the compiled one where it does not say."""
        found = link_of(held) or link_of(self.tree)
        return found[1] if found else self.interface.bandwidth

    def allocation_in(self, held: Tree) -> Allocation:
        """What a tree grants each leaf, by path; the static grant where the tree does not say."""
        root = held.root()
        if self.tins:
            target = aqm_target(root.options) if root is not None else 0
            return {path: replace(static, target=target or static.target) for path, static in self.static.items()}
        classes = {cls.handle: cls for cls in held.classes}
        grants: dict[str, Grant] = {}
        for path, static in self.static.items():
            cls, leaf = classes.get(self.handles[path]), held.leaf_of(self.handles[path])
            if cls is None:
                grants[path] = static
                continue
            queue, target = (queue_limit(leaf.options), aqm_target(leaf.options)) if leaf else (None, static.target)
            grants[path] = Grant(cls.rate, cls.ceil, static.queue if queue is None else queue, target)
        return grants
