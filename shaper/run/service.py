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
from shaper.model.policy import Interface, Policy
from shaper.model.status import InterfaceStatus, RunTotals
from shaper.plan.steps import Plan
from shaper.policy import parse_policy, read_policy
from shaper.run.changes import Condition, Order
from shaper.run.clock import Clock
from shaper.run.confirm import condition
from shaper.run.inbox import Inbox, Request
from shaper.run.interface import InterfaceRun, Settings
from shaper.run.place import placed
from shaper.run.saved import SavedInterface, interface_from_json
from shaper.run.state import DeviceState
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
    """What an apply did to one interface."""

    interface: str
    device: str
    plan: Plan
    notes: tuple[str, ...]
    change: int
    confirmation: str = ""


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
        self._interfaces = {interface.device: interface for interface in interfaces}
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._inbox = inbox
        self._watcher = watcher
        self._stopping = False
        self._runs: dict[str, InterfaceRun] = {}
        self._statuses: dict[str, InterfaceStatus] = {}
        self.states = tuple(DeviceState(folder, device) for device in self._interfaces)

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
        """All interfaces or none: what was applied is taken back when a later one fails."""
        order = self._own_order()
        with contextlib.ExitStack() as undoing:
            for state in self.states:
                interface = self._interfaces[state.device]
                run = InterfaceRun(self._kernel, state, self._policy, interface, self._settings, self._clock, order)
                undoing.callback(run.undo, order)
                undoing.callback(run.close)
                self._runs[state.device] = run
            undoing.pop_all()

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
                for device, run in self._runs.items():
                    run.record(self._statuses[device])
                self._watcher.second(self.statuses())

    def _tick(self) -> None:
        for device, run in self._runs.items():
            for words in filter(None, (run.keep_time(), run.mend())):
                self._watcher.told(f"{device}: {words}")
        self._drop_gone()
        for device, run in self._runs.items():
            self._statuses[device] = run.tick()

    def _drop_gone(self) -> None:
        """A change that was the first of its device, rolled back, leaves nothing to hold."""
        for device in [device for device, run in self._runs.items() if run.gone]:
            del self._runs[device]
            self._statuses.pop(device, None)
            self._watcher.told(f"{device} holds nothing of ours any more")

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
        expected = interface_from_json(data) if data else None
        return self._go_over(
            policy,
            self._order(request),
            only=self._held(request),
            expected=expected,
            condition=self._condition(request.arguments.get("confirm")),
        )

    def _condition(self, wanted: Any) -> Condition | None:
        return (
            condition(wanted["id"], wanted["seconds"], now=self._clock.boot(), judge=wanted["judge"])
            if wanted
            else None
        )

    def _on_confirm(self, request: Request) -> object:
        run = self._runs[self._held(request)]
        run.probation.confirm(self._ident(request), now=self._clock.boot(), order=self._order(request))
        return {}

    def _on_extend(self, request: Request) -> object:
        run, seconds = self._runs[self._held(request)], float(request.arguments["seconds"])
        order = self._order(request)
        left = run.probation.extend(self._ident(request), seconds, now=self._clock.boot(), order=order)
        return {"left_s": left}

    def _on_rollback(self, request: Request) -> object:
        device, number = self._held(request), request.arguments.get("number")
        order, now = self._order(request), self._clock.boot()
        words = self._runs[device].probation.rollback(None if number is None else int(number), now=now, order=order)
        self._drop_gone()
        return {"told": words}

    def _on_lapse(self, request: Request) -> object:
        device = self._held(request)
        order, now = self._order(request), self._clock.boot()
        words = self._runs[device].probation.lapse(self._ident(request), now=now, order=order)
        self._watcher.told(f"{device}: {words}")
        self._drop_gone()
        return {"told": words}

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

    def _on_clear(self, request: Request) -> Plan:
        device = self._held(request)
        plan = self._runs[device].clear(self._order(request))
        del self._runs[device], self._statuses[device]
        self._watcher.told(f"{device} was cleared on request")
        return plan

    def _held(self, request: Request) -> str:
        """The device that a request is about. Raises UnavailableError once it was cleared."""
        device = str(request.arguments["device"])
        if device not in self._runs:
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
        expected: SavedInterface | None = None,
        condition: Condition | None = None,
    ) -> tuple[Applied, ...]:
        wanted = {interface.device: interface for interface in policy.interfaces}
        devices = [only] if only else list(self._runs)
        missing = [device for device in devices if device not in wanted]
        if missing:
            raise UnavailableError(
                f"{policy.source} has no interface on {', '.join(missing)} any more",
                hint=f"keep it in the file, or end it with `shaper clear --device {missing[0]}`",
            )
        applied = []
        for device in devices:
            prepared = self._runs[device].reload(
                policy, wanted[device], order=order, expected=expected, condition=condition
            )
            applied.append(
                Applied(
                    wanted[device].name,
                    device,
                    prepared.plan,
                    prepared.program.notes,
                    prepared.after.change,
                    condition.id if condition else "",
                )
            )
        return tuple(applied)
