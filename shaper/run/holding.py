"""What a run holds of one interface in the kernel: the policy in force and its tree, sent, read back and mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, OnFlap, Policy
from shaper.plan import adopt_live, diff
from shaper.plan.drift import differences, some
from shaper.plan.fingerprint import carried
from shaper.plan.steps import Step
from shaper.run import apply, changes, ebbing
from shaper.run.changes import Order
from shaper.run.drift import changed_facts, flapped
from shaper.run.ours import ours
from shaper.run.prepare import Lender, Prepared, prepare
from shaper.run.saved import SavedInterface, check_unmoved
from shaper.run.state import DeviceState
from shaper.tree import Handle, Tree, with_offloads


class Holding:
    """Of one direction of a device; the caller holds its lock. Nothing is held before the first `apply`."""

    policy: Policy
    program: Program
    tree: Tree
    """What the kernel should hold at this moment, the controller's moves included."""

    anew = False
    """Whether the link flapped since the last look, and the policy's own allocation is wanted then."""

    def __init__(self, kernel: Kernel, state: DeviceState, *, structure: bool, lender: Lender | None = None) -> None:
        self._kernel = kernel
        self._state = state
        self._structure = structure
        self._left: tuple[Step, ...] = ()
        self._went = False
        self._lender = lender

    @property
    def interface(self) -> Interface:
        """The interface as the policy in force has it."""
        return self.program.interface

    @property
    def names(self) -> Mapping[Handle, str]:
        """The paths of the classes by their handles."""
        return {handle: path for path, handle in self.program.handles.items()}

    def apply(
        self,
        policy: Policy,
        interface: Interface,
        *,
        keep_live: bool,
        order: Order,
        expected: SavedInterface | None = None,
        **how: Any,
    ) -> Prepared:
        """Goes over to what a policy says at the order's time, with its line in the history.

        `expected` is a saved plan that it must be.
        """
        prepared = self._prepare(policy, interface.at(order.at), keep_live=keep_live)
        if expected is not None:
            check_unmoved(prepared, expected)
        prepared = changes.make(self._kernel, self._state, prepared, order=order, **how)
        self._link = self._kernel.link(interface.device)  # offloads may have changed with it
        self.policy = policy
        return self._took(prepared)

    def send(self, target: Tree, *, patience: float | None = 0.0) -> None:
        """The controller's moves; limits of queues that are too full for that are lowered later, by `lower`.

        `patience` is that of `ebbing.send`. Raises StepError, VerifyError; `tree` is then what the kernel took.
        """
        plan = diff(self.tree, target, bounds={})
        if not plan.steps:
            return
        try:
            self._left = ebbing.send(self._kernel, self._state.shaped, plan.steps, patience=patience)
            target = ebbing.as_it_stands(target, self._left)
        finally:  # also of what was refused in the middle the first part was done
            self.tree = self._held()
        if self.tree != target:
            raise apply.VerifyError(
                f"{self._state.title} holds something else than was sent: {some(differences(self.tree, target))}",
                hint="another program is changing the same interface",
            )

    def lower(self) -> bool:
        """Lowers the limits that are left as far as their queues have drained; whether there were any."""
        if not self._left:
            return False
        before, self._left = self._left, ()  # after an error it is drift
        left = ebbing.lower(self._kernel, self._state.shaped, before)
        self.tree, self._left = ebbing.as_it_stands(carried(self.tree, before), left), left
        return True

    def drifted(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What somebody else changed of ours, and how the device itself changed, in words.

        A device that went and came back took its tree with it: nobody changed that. Raises UnavailableError while it is
        gone.
        """
        try:
            link = self._kernel.link(self._state.device)
        except UnavailableError:
            self._went = True
            raise
        asked = {name for rule in self.program.rules.ordered for match in rule.all_of for name in match.iif}
        facts = changed_facts(self._link, link, asked=asked)
        again = flapped(self._link, link) if self.interface.on_flap is OnFlap.REAPPLY else ""
        self.anew = bool(again)
        self._went |= link.index != self._link.index
        if self._went:
            return (), (f"{link.name} came back", *facts)
        return differences(self._held(), self.tree, self.names), (*facts, *([again] if again else ()))

    def mending(self) -> Prepared | None:
        """What puts everything back, fitted to the device as it is now.

        The live allocation stays where it fits, but for a link that flapped where the policy wants its own `anew`. None
        where there is nothing to put back.
        """
        prepared = self._prepare(self.policy, self.interface, keep_live=False)
        bounds = {} if self.anew else prepared.program.field_bounds()
        target = adopt_live(self.tree, prepared.program.tree, bounds=bounds)
        plan = diff(prepared.mine, with_offloads(target, prepared.released), bounds={})
        if not plan.steps and prepared.program == self.program:
            self._went = False
            return None
        return replace(prepared, plan=plan, target=target)

    def mend(self, prepared: Prepared, order: Order) -> Prepared:
        """Carries out what `mending` found."""
        return self._took(changes.make(self._kernel, self._state, prepared, what="mend", order=order))

    def _prepare(self, policy: Policy, interface: Interface, *, keep_live: bool) -> Prepared:
        prepared = prepare(
            self._kernel,
            self._state,
            policy,
            interface,
            structure=self._structure,
            keep_live=keep_live,
            lender=self._lender,
        )
        self._link = self._kernel.link(interface.device)
        return prepared

    def _took(self, prepared: Prepared) -> Prepared:
        self._record, self.tree, self.program = prepared.after, prepared.target, prepared.program
        self._left, self._went = prepared.left, False
        return prepared

    def _held(self) -> Tree:
        return ours(apply.read(self._kernel, self._state), self._record)
