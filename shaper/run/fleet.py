"""All the interfaces that one run holds: begun together, changed together or not at all, ended one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from shaper.errors import UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, Policy
from shaper.model.status import InterfaceStatus
from shaper.plan.steps import Plan
from shaper.run import changes, confirm
from shaper.run.answers import Applied, Measured
from shaper.run.changes import Condition, Order
from shaper.run.clock import Clock
from shaper.run.interface import InterfaceRun
from shaper.run.saved import SavedInterface
from shaper.run.settings import Settings
from shaper.run.standing import interface_on, shapes
from shaper.run.state import DeviceState, both_directions
from shaper.run.together import together

_FAILED = "another interface of the policy failed"


class Fleet:
    """By the device that is shaped, one `InterfaceRun` for each direction; the caller holds the devices' locks."""

    def __init__(self, kernel: Kernel, *, folder: Path, settings: Settings, clock: Clock) -> None:
        self._kernel = kernel
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._runs: dict[str, InterfaceRun] = {}
        self._statuses: dict[str, InterfaceStatus] = {}

    def __iter__(self) -> Iterator[InterfaceRun]:
        return iter(tuple(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def statuses(self) -> tuple[InterfaceStatus, ...]:
        """What `look` gave last; safe from other threads."""
        return tuple(self._statuses.values())

    def look(self) -> tuple[InterfaceStatus, ...]:
        """The status of every interface as it stood at its last tick."""
        self._statuses = {shaped: run.status() for shaped, run in self._runs.items()}
        return self.statuses()

    def measured(self) -> tuple[Measured, ...]:
        """The status of every interface, and all delays since the start."""
        runs = zip(self._runs.values(), self.look(), strict=True)
        return tuple(Measured(run.loop.named(status), run.loop.delays(), run.loop.sliced()) for run, status in runs)

    def tick(self) -> None:
        """A tick of every interface."""
        for run in self._runs.values():
            others = (other.loop.load for other in self.on(run.state.spot) if other is not run)
            run.tick(beside=next((load for load in others if load is not None), None))

    def record(self) -> None:
        """One line of every interface into its history, of its last status."""
        for shaped, run in self._runs.items():
            run.loop.record(self._statuses[shaped])

    def start(self, policy: Policy, interfaces: Sequence[Interface], order: Order) -> None:
        """Begins all interfaces or none: what was applied is taken back when a later one fails.

        What was killed is put right everywhere before anything is applied: the directions of a device share its hook.
        """
        now, wanted = self._clock.boot(), {interface.key: interface for interface in interfaces}
        devices = dict.fromkeys(interface.spot for interface in interfaces)
        sides = [side for device in devices for side in both_directions(self._folder, device)]
        told = {side.key: confirm.tidy(self._kernel, side, now=now, order=order) for side in sides}
        touched = [side for side in sides if side.key in wanted or side.record()]
        with self._together(touched, order), contextlib.ExitStack() as undoing:
            for side in sides:
                if side.key in wanted:
                    self._begin(side, policy, wanted[side.key], order, undoing, told=told[side.key])
            for side in sides:
                if side.key not in wanted:
                    self._settle(side, policy, order, undoing)
            undoing.pop_all()

    def together(self, runs: Sequence[InterfaceRun], order: Order) -> contextlib.AbstractContextManager[None]:
        """What is changed in here on these directions holds for all or for none, should this program be killed."""
        return self._together([run.state for run in runs], order)

    def _together(self, sides: Sequence[DeviceState], order: Order) -> contextlib.AbstractContextManager[None]:
        """What fails is put back by who does it."""
        return together(self._kernel, sides, at=order.at, reason=_FAILED, restores=False)

    def _begin(
        self,
        side: DeviceState,
        policy: Policy,
        interface: Interface,
        order: Order,
        undoing: contextlib.ExitStack,
        *,
        told: Sequence[str] = (),
    ) -> InterfaceRun:
        """Applies and measures one direction; `undoing` learns how to take it back."""
        run = InterfaceRun(self._kernel, side, policy, interface, self._settings, self._clock, order, told=told)
        undoing.callback(run.undo, order)
        undoing.callback(run.close)
        undoing.callback(self._runs.pop, side.key, None)
        self._runs[side.key] = run
        return run

    def _settle(self, side: DeviceState, asked: Policy, order: Order, undoing: contextlib.ExitStack) -> None:
        """A direction that the policy does not have is let go of, but for where another policy had to come up."""
        confirm.refuse_while_waiting(side, now=self._clock.boot())
        (policy,) = {run.in_force[0].sha256: run.in_force[0] for run in self.on(side.spot)}.values()
        if policy.sha256 != asked.sha256 and shapes(policy, side.spot, side.direction):
            self._begin(side, policy, interface_on(policy, side.spot, side.direction), order, undoing)
        else:
            changes.let_go(self._kernel, side, order=order, undoing=undoing)

    def _begin_again(self, side: DeviceState, policy: Policy, interface: Interface, order: Order) -> None:
        """Takes back that a direction was let go of."""
        with contextlib.ExitStack() as undoing:
            self._begin(side, policy, interface, replace(order, why=_FAILED), undoing)
            undoing.pop_all()

    def rollback(self, device: str, number: int | None, order: Order) -> str:
        """All directions of a device go back to one policy, or none; what that was, in words."""
        runs = self.on(device)
        before = {run: run.in_force for run in runs}
        sides = [side for side in both_directions(self._folder, device) if side.has("changes.log")]
        with self._together(sides, order):
            try:
                told = confirm.rollback_both(
                    [(run.state, run) for run in runs], number, now=self._clock.boot(), order=order
                )
                self._take_up(device, order)
            except BaseException:
                for run in runs:
                    if run.gone:
                        self.drop_gone()
                        self._begin_again(run.state, *before[run], order)
                    elif run.in_force != before[run]:
                        run.back_to(*before[run], order=order)
                raise
        return told

    def _take_up(self, device: str, order: Order) -> None:
        """The directions that the policy in force has beside those that are held."""
        policy = next((run.in_force[0] for run in self.on(device) if not run.gone), None)
        for side in both_directions(self._folder, device):
            if policy and side.key not in self._runs and shapes(policy, device, side.direction):
                with contextlib.ExitStack() as undoing:
                    self._begin(side, policy, interface_on(policy, device, side.direction), order, undoing)
                    undoing.pop_all()

    def end_one(self, run: InterfaceRun, order: Order, what: str = "clear") -> Plan:
        """Clears one direction and lets go of it."""
        plan = run.clear(order, what=what)
        self._forget(run)
        return plan

    def clear(self, device: str, order: Order) -> tuple[Plan, ...]:
        """Clears all directions of a device, what comes in first, or none."""
        return self._end(device, order, InterfaceRun.clear, failed="the other direction could not be cleared")

    def release(self, device: str, order: Order) -> tuple[Plan, ...]:
        """Lets go of all directions of a device, or of none; the trees stay, with the static allocation."""
        return self._end(device, order, InterfaceRun.release, failed="the other direction could not be let go of")

    def _end(
        self, device: str, order: Order, way: Callable[[InterfaceRun, Order], Plan], *, failed: str
    ) -> tuple[Plan, ...]:
        """What fails in one direction is put back in all, and their runs begin again."""
        runs = self.on(device)[::-1]
        before = [(run, *run.in_force) for run in runs]
        try:
            with together(self._kernel, [run.state for run in runs], at=order.at, reason=failed):
                plans = tuple(way(run, order) for run in runs)
        except Exception:
            for run in runs:
                run.close()
                self._forget(run)
            for run, policy, interface in reversed(before):
                self._begin_again(run.state, policy, interface, order)
            raise
        for run in runs:
            self._forget(run)
        return plans

    def _forget(self, run: InterfaceRun) -> None:
        del self._runs[run.state.key]
        self._statuses.pop(run.state.key, None)

    def on(self, device: str) -> list[InterfaceRun]:
        """The directions of a device that are held."""
        return [run for run in self._runs.values() if run.state.spot == device]

    def drop_gone(self) -> tuple[str, ...]:
        """Lets go of what was rolled back to before the first policy of its device; which those were."""
        gone = [run for run in self if run.gone]
        for run in gone:
            self._forget(run)
        return tuple(run.state.title for run in gone)

    def go_over(
        self,
        policy: Policy,
        order: Order,
        *,
        only: str = "",
        expected: Sequence[SavedInterface] | None = None,
        condition: Condition | None = None,
    ) -> tuple[Applied, ...]:
        """Every direction that is held or wanted on these devices, or none; `only` names one of them."""
        devices = [only] if only else list(dict.fromkeys(run.state.spot for run in self._runs.values()))
        named = {interface.spot for interface in policy.interfaces}
        missing = [device for device in devices if device not in named]
        if missing:
            raise UnavailableError(
                f"{policy.source} has no interface on {', '.join(missing)} any more",
                hint=f"keep it in the file, or end it with `shaper clear --device {missing[0]}`",
            )
        wanted = [one for one in policy.interfaces if one.spot in devices]
        gone = [run for device in devices for run in self.on(device) if not shapes(policy, *run.place)]
        if condition is not None and (gone or any(one.key not in self._runs for one in wanted)):
            raise UnavailableError(
                "a running shaper cannot let a direction that comes or goes wait for its confirmation",
                hint="apply it without a confirmation, or end the run first",
            )
        saved = {(one.device, one.direction): one for one in expected} if expected is not None else {}
        sides = [DeviceState(self._folder, one.spot, one.direction) for one in wanted]
        fresh = [side for side in sides if side.key not in self._runs]
        for side in fresh:
            confirm.tidy(self._kernel, side, now=self._clock.boot(), order=order)
        applied: list[Applied] = []
        with (
            self._together([*sides, *(run.state for run in gone)], order),
            contextlib.ExitStack() as undoing,
        ):
            for one in wanted:
                expects = saved.get((one.spot, one.direction))
                applied.append(self._go_over_one(policy, one, order, undoing, expects, condition))
            for run in gone:
                policy_before, interface = run.in_force
                note = f"the policy no longer shapes the {interface.direction} of {interface.spot}"
                plan = self.end_one(run, order, what="apply")
                undoing.callback(self._begin_again, run.state, policy_before, interface, order)
                applied.append(Applied(interface.name, interface.spot, plan, (note,), 0, direction=interface.direction))
            undoing.pop_all()
        return tuple(applied)

    def _go_over_one(
        self,
        policy: Policy,
        interface: Interface,
        order: Order,
        undoing: contextlib.ExitStack,
        expected: SavedInterface | None,
        condition: Condition | None,
    ) -> Applied:
        run = self._runs.get(interface.key)
        if run is None:
            side = DeviceState(self._folder, interface.spot, interface.direction)
            prepared = self._begin(side, policy, interface, order, undoing).applied
        else:
            before = run.in_force
            prepared = run.reload(policy, interface, order=order, expected=expected, condition=condition)
            undoing.callback(run.back_to, *before, order=order)
        return Applied(
            interface.name,
            interface.spot,
            prepared.plan,
            prepared.program.notes,
            prepared.after.change,
            condition.id if condition else "",
            interface.direction,
        )
