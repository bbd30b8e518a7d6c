"""`shaper run`: the loop over all interfaces of a policy, its requests and its signals."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from shaper.errors import PolicyError, ShaperError, UnavailableError, internal
from shaper.history.codec import decode
from shaper.kernel.protocol import Kernel
from shaper.model.change import Who
from shaper.model.policy import Direction, Interface, Policy
from shaper.model.status import InterfaceStatus, RunTotals
from shaper.plan.steps import Plan
from shaper.policy import parse_policy, read_policy
from shaper.run import changes, confirm
from shaper.run.changes import Condition, Order
from shaper.run.clock import Clock
from shaper.run.confirm import condition
from shaper.run.inbox import Inbox, Request
from shaper.run.interface import InterfaceRun, Settings
from shaper.run.place import placed
from shaper.run.saved import SavedInterface, interface_from_json
from shaper.run.standing import interface_on, shapes
from shaper.run.state import DeviceState, both_directions
from shaper.run.waiting import Waiting, read_waiting
from shaper.run.who import caller


class Watcher(Protocol):
    """What the command line hands in to hear of a run."""

    def ready(self, statuses: Sequence[InterfaceStatus]) -> None:
        """Everything is applied and measured."""

    def second(self, statuses: Sequence[InterfaceStatus]) -> None:
        """Once a second."""

    def told(self, message: str) -> None:
        """Something a person should read."""

    def ended(self, totals: Sequence[RunTotals]) -> None:
        """The last look, before everything is let go."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did to one direction of an interface."""

    interface: str
    device: str
    plan: Plan
    notes: tuple[str, ...]
    change: int
    confirmation: str = ""
    direction: Direction = Direction.EGRESS


class Service:
    """Runs the interfaces of one policy until it is told to stop."""

    def __init__(
        self,
        kernel: Kernel,
        policy: Policy,
        interfaces: Sequence[Interface],
        *,
        folder: Path,
        settings: Settings,
        clock: Clock,
        inbox: Inbox,
        watcher: Watcher,
    ) -> None:
        self._kernel = kernel
        self._policy = policy
        self._interfaces = {interface.shaped: interface for interface in interfaces}
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._inbox = inbox
        self._watcher = watcher
        self._stopping = False
        self._runs: dict[str, InterfaceRun] = {}
        self._statuses: dict[str, InterfaceStatus] = {}
        self._devices = tuple(dict.fromkeys(interface.device for interface in interfaces))
        self.states = tuple(DeviceState(folder, device) for device in self._devices)

    def statuses(self) -> tuple[InterfaceStatus, ...]:
        """The last status of every interface; safe from other threads."""
        return tuple(self._statuses.values())

    def serve(
        self,
        listening: Callable[[], contextlib.AbstractContextManager[None]],
        *,
        published: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Applies, loops, and leaves the static allocation behind.

        `published` is entered once the interfaces are locked and before anything is applied, `listening` once
        everything is applied; each is left in turn.
        """
        with contextlib.ExitStack() as locks:
            for state in self.states:
                locks.enter_context(state.lock())
            locks.enter_context(published())
            self._start()
            try:
                with listening():
                    self._tick()
                    self._watcher.ready(self.statuses())
                    self._loop()
            finally:
                self._end()

    def _start(self) -> None:
        """All interfaces or none: what was applied is taken back when a later one fails.

        What was killed is put right everywhere before anything is applied: the directions of a device share its hook.
        """
        order, now = self._own_order(), self._clock.boot()
        sides = [side for device in self._devices for side in both_directions(self._folder, device)]
        told = {side.shaped: confirm.tidy(self._kernel, side, now=now, order=order) for side in sides}
        with contextlib.ExitStack() as undoing:
            for side in sides:
                if side.shaped in self._interfaces:
                    interface = self._interfaces[side.shaped]
                    self._begin(side, self._policy, interface, order, undoing, told=told[side.shaped])
            for side in sides:
                if side.shaped not in self._interfaces:
                    self._settle(side, order, undoing)
            undoing.pop_all()

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
        undoing.callback(self._runs.pop, side.shaped, None)
        self._runs[side.shaped] = run
        return run

    def _settle(self, side: DeviceState, order: Order, undoing: contextlib.ExitStack) -> None:
        """A direction that the policy does not have is let go of, but for where another policy had to come up."""
        confirm.refuse_while_waiting(side, now=self._clock.boot())
        (policy,) = {run.in_force[0].sha256: run.in_force[0] for run in self._held_on(side.device)}.values()
        if policy.sha256 != self._policy.sha256 and shapes(policy, side.device, side.direction):
            self._begin(side, policy, interface_on(policy, side.device, side.direction), order, undoing)
        else:
            changes.let_go(self._kernel, side, order=order, undoing=undoing)

    def _loop(self) -> None:
        due = self._clock.boot() + self._settings.tick
        whole = self._clock.boot() + 1.0
        while not self._stopping and self._runs:
            request = self._inbox.get(due - self._clock.boot())
            if request is not None:
                self._handle(request)
            now = self._clock.boot()
            if now < due:
                continue
            self._tick()
            due = max(due + self._settings.tick, now)
            if now >= whole:
                whole = max(whole + 1.0, now)
                for shaped, run in self._runs.items():
                    run.record(self._statuses[shaped])
                self._watcher.second(self.statuses())

    def _tick(self) -> None:
        for run in self._runs.values():
            for words in filter(None, (run.keep_time(), run.mend())):
                self._watcher.told(f"{run.state.title}: {words}")
        self._drop_gone()
        for shaped, run in self._runs.items():
            self._statuses[shaped] = run.tick()

    def _drop_gone(self) -> None:
        """A change that was the first of its device, rolled back, leaves nothing to hold."""
        for shaped, run in [(shaped, run) for shaped, run in self._runs.items() if run.gone]:
            del self._runs[shaped]
            self._statuses.pop(shaped, None)
            self._watcher.told(f"{run.state.title} holds nothing of ours any more")

    def _end(self) -> None:
        """Every interface gets its static allocation back, whatever fails before, at another one or in the telling."""
        with contextlib.ExitStack() as stopping:
            for run in self._runs.values():
                stopping.callback(run.stop)
            self._watcher.ended(tuple(run.totals() for run in self._runs.values()))

    # --- requests

    def _handle(self, request: Request) -> None:
        handlers: dict[str, Callable[[Request], object]] = {
            "status": lambda _: self.statuses(),
            "apply": self._on_apply,
            "clear": self._on_clear,
            "confirm": self._on_confirm,
            "extend": self._on_extend,
            "rollback": self._on_rollback,
            "lapse": self._on_lapse,
            "reload": self._on_reload,
            "stop": self._on_stop,
        }
        try:
            handler = handlers.get(request.command)
            if handler is None:
                raise ShaperError(f"a running shaper knows no {request.command!r}", hint="is it of another version?")
            request.answer(handler(request))
        except ShaperError as error:
            request.refuse(error)
        except Exception as error:  # what one request breaks must not end the shaping
            fault = internal(error)
            self._watcher.told(f"{request.command}: {fault.message}")
            request.refuse(fault)

    def _on_apply(self, request: Request) -> object:
        missing = [name for name in ("text", "source") if name not in request.arguments]
        if missing:
            raise ShaperError(f"the request lacks {' and '.join(missing)}", hint="is it of another version?")
        files = request.arguments.get("files", {})
        if not isinstance(files, dict) or not all(isinstance(content, str) for content in files.values()):
            raise ShaperError("the request's `files` are no texts by name", hint="is it of another version?")
        policy = parse_policy(str(request.arguments["text"]), source=str(request.arguments["source"]), files=files)
        policy = placed(policy, self._kernel)
        data = request.arguments.get("expected")
        return self._go_over(
            policy,
            self._order(request),
            only=self._held(request),
            expected=None if data is None else [interface_from_json(one) for one in data],
            condition=self._condition(request.arguments.get("confirm")),
        )

    def _condition(self, wanted: Any) -> Condition | None:
        return (
            condition(wanted["id"], wanted["seconds"], now=self._clock.boot(), judge=wanted["judge"])
            if wanted
            else None
        )

    def _on_confirm(self, request: Request) -> object:
        for run, waiting in self._waiting(request):
            run.probation.confirm(waiting.id, now=self._clock.boot(), order=self._order(request))
        return {}

    def _on_extend(self, request: Request) -> object:
        seconds, order, now = float(request.arguments["seconds"]), self._order(request), self._clock.boot()
        left = [
            run.probation.extend(waiting.id, seconds, now=now, order=order) for run, waiting in self._waiting(request)
        ]
        return {"left_s": min(left)}

    def _on_rollback(self, request: Request) -> object:
        device, number = self._held(request), request.arguments.get("number")
        order, now = self._order(request), self._clock.boot()
        runs = self._held_on(device)
        if number is None and any(read_waiting(run.state) for run in runs):
            told = [run.probation.rollback(None, now=now, order=order) for run, _ in self._waiting(request)]
        else:
            sides = [(run.state, run) for run in runs]
            told = [confirm.rollback_both(sides, None if number is None else int(number), now=now, order=order)]
            self._take_up(device, order)
        self._drop_gone()
        return {"told": "; ".join(told)}

    def _take_up(self, device: str, order: Order) -> None:
        """The directions that the policy in force has beside those that are held."""
        policy = next((run.in_force[0] for run in self._held_on(device) if not run.gone), None)
        for side in both_directions(self._folder, device):
            if policy and side.shaped not in self._runs and shapes(policy, device, side.direction):
                with contextlib.ExitStack() as undoing:
                    self._begin(side, policy, interface_on(policy, device, side.direction), order, undoing)
                    undoing.pop_all()

    def _on_lapse(self, request: Request) -> object:
        order, now = self._order(request), self._clock.boot()
        told = []
        for run, waiting in self._waiting(request):
            told.append(run.probation.lapse(waiting.id, now=now, order=order))
            self._watcher.told(f"{run.state.title}: {told[-1]}")
        self._drop_gone()
        return {"told": "; ".join(told)}

    def _waiting(self, request: Request) -> list[tuple[InterfaceRun, Waiting]]:
        """The directions of the device whose change waits by the request's id. Raises UnavailableError for none."""
        runs, ident = self._held_on(self._held(request)), self._ident(request)
        found = [(run, read_waiting(run.state)) for run in runs]
        waiting = [(run, one) for run, one in found if one is not None and ident in ("", one.id)]
        return waiting or [(runs[0], confirm.the_waiting(runs[0].state, ident))]

    @staticmethod
    def _ident(request: Request) -> str:
        return str(request.arguments.get("id", ""))

    def _order(self, request: Request) -> Order:
        """Who asks: the uid is the socket's word, the rest their own."""
        data = request.arguments.get("who")
        who = decode(Who, data) if data else caller()
        uid = int(request.arguments.get("uid", who.uid))
        return Order(replace(who, uid=uid), self._clock.wall(), str(request.arguments.get("why", "")))

    def _own_order(self, why: str = "") -> Order:
        return Order(caller(), self._clock.wall(), why)

    def _on_clear(self, request: Request) -> tuple[Plan, ...]:
        """Both directions of the device; that of what comes in first."""
        device = self._held(request)
        runs = self._held_on(device)
        for run in runs:
            confirm.refuse_while_waiting(run.state, now=self._clock.boot())
        plans = tuple(self._end_one(run, self._order(request)) for run in reversed(runs))
        self._watcher.told(f"{device} was cleared on request")
        return plans

    def _end_one(self, run: InterfaceRun, order: Order, what: str = "clear") -> Plan:
        plan = run.clear(order, what=what)
        del self._runs[run.state.shaped]
        self._statuses.pop(run.state.shaped, None)
        return plan

    def _held_on(self, device: str) -> list[InterfaceRun]:
        """The directions of a device that are held."""
        return [run for run in self._runs.values() if run.state.device == device]

    def _held(self, request: Request) -> str:
        """The device that a request is about. Raises UnavailableError once it was cleared."""
        device = str(request.arguments["device"])
        if not self._held_on(device):
            raise UnavailableError(
                f"{device} was cleared, and this run holds it no more", hint="end the run, and begin another"
            )
        return device

    def _on_reload(self, _: Request) -> object:
        """A bad file keeps the old policy, and says why."""
        try:
            policy = placed(read_policy(Path(self._policy.source)), self._kernel)
            applied = self._go_over(policy, self._own_order("SIGHUP"))
        except ShaperError as error:
            reasons = error.problems() if isinstance(error, PolicyError) else (error.message,)
            self._watcher.told("the policy in force stays: " + "\n".join(str(reason) for reason in reasons))
            raise
        self._watcher.told(f"{self._policy.source} was read again: {sum(len(one.plan.steps) for one in applied)} steps")
        return applied

    def _on_stop(self, _: Request) -> None:
        self._stopping = True

    def _go_over(
        self,
        policy: Policy,
        order: Order,
        *,
        only: str = "",
        expected: Sequence[SavedInterface] | None = None,
        condition: Condition | None = None,
    ) -> tuple[Applied, ...]:
        """Every direction that is held or wanted on these devices, or none; `only` names one of them."""
        devices = [only] if only else list(dict.fromkeys(run.state.device for run in self._runs.values()))
        named = {interface.device for interface in policy.interfaces}
        missing = [device for device in devices if device not in named]
        if missing:
            raise UnavailableError(
                f"{policy.source} has no interface on {', '.join(missing)} any more",
                hint=f"keep it in the file, or end it with `shaper clear --device {missing[0]}`",
            )
        wanted = [one for one in policy.interfaces if one.device in devices]
        gone = [run for device in devices for run in self._held_on(device) if not shapes(policy, *run.place)]
        if condition is not None and (gone or any(one.shaped not in self._runs for one in wanted)):
            raise UnavailableError(
                "a running shaper cannot let a direction that comes or goes wait for its confirmation",
                hint="apply it without a confirmation, or end the run first",
            )
        saved = {(one.device, one.direction): one for one in expected} if expected is not None else {}
        with contextlib.ExitStack() as undoing:
            applied = [
                self._go_over_one(policy, one, order, undoing, saved.get((one.device, one.direction)), condition)
                for one in wanted
            ]
            undoing.pop_all()
        for run in gone:
            interface = run.in_force[1]
            note = f"the policy no longer shapes the {interface.direction} of {interface.device}"
            plan = self._end_one(run, order, what="apply")
            applied.append(Applied(interface.name, interface.device, plan, (note,), 0, direction=interface.direction))
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
        run = self._runs.get(interface.shaped)
        if run is None:
            side = DeviceState(self._folder, interface.device, interface.direction)
            prepared = self._begin(side, policy, interface, order, undoing).applied
        else:
            before = run.in_force
            prepared = run.reload(policy, interface, order=order, expected=expected, condition=condition)
            undoing.callback(run.back_to, *before, order=order)
        return Applied(
            interface.name,
            interface.device,
            prepared.plan,
            prepared.program.notes,
            prepared.after.change,
            condition.id if condition else "",
            interface.direction,
        )
