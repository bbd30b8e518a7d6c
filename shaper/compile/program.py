"""What compilation gives: the tree with the static allocation in it, and everything needed to move inside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shaper.model.decision import Allocation, Bounds
from shaper.model.match import Rules
from shaper.model.policy import Interface
from shaper.tree import FieldBounds, Handle, Insn, Tree, with_grants


@dataclass(frozen=True, slots=True)
class Program:
    """One interface, compiled.

    `tree` holds the static allocation; `handles` maps every class path to its class handle, for life; `bounds` and
    `static` are by leaf path: within what the controller may move, and where it starts. `tap` names the ifb that takes
    the copies of packets before the queue, "" where delay cannot be measured; `tap_filter` is the socket filter that
    picks the same packets after the queue, 1 in `sampling`. `notes` say in words what the shaper does instead of what
    the kernel lacks, and what delay that costs.
    """

    interface: Interface
    tree: Tree
    handles: Mapping[str, Handle]
    bounds: Mapping[str, Bounds]
    static: Allocation
    rules: Rules
    tap: str
    tap_filter: tuple[Insn, ...] = ()
    sampling: int = 1
    notes: tuple[str, ...] = ()

    def field_bounds(self) -> dict[Handle, FieldBounds]:
        """The controller's fields by class handle, as the plan compares them."""
        return {
            self.handles[path]: FieldBounds(bounds.rate, bounds.ceil, bounds.queue)
            for path, bounds in self.bounds.items()
        }

    def with_allocation(self, allocation: Allocation) -> Tree:
        """The tree with another allocation of the leaves."""
        return with_grants(
            self.tree,
            {self.handles[path]: (grant.rate, grant.ceil, grant.queue) for path, grant in allocation.items()},
        )
