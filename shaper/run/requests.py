"""What a running shaper is asked for, over its socket and by signals, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from shaper.errors import PolicyError, ShaperError, UnavailableError, internal
from shaper.history.codec import decode, encode
from shaper.kernel.protocol import Kernel
from shaper.model.change import Who
from shaper.plan.steps import Plan
from shaper.policy import parse_policy, read_policy
from shaper.run import confirm, freezing
from shaper.run.changes import Condition, Order
from shaper.run.clock import Clock
from shaper.run.confirm import condition
from shaper.run.fleet import Fleet
from shaper.run.inbox import Request
from shaper.run.interface import InterfaceRun
from shaper.run.place import placed
from shaper.run.saved import interface_from_json
from shaper.run.waiting import Waiting, read_waiting
from shaper.run.who import caller


class Requests:
    """Answers one request at a time, in the loop's own thread. `stopping` once one asked for the end."""

    def __init__(self, kernel: Kernel, fleet: Fleet, source: str, *, clock: Clock, told: Callable[[str], None]) -> None:
        """`source` is the file that a reload reads again; `told` what a person should read."""
        self.stopping = False
        self._kernel = kernel
        self._fleet = fleet
        self._source = source
        self._clock = clock
        self._told = told

    def handle(self, request: Request) -> None:
        """Does what is asked and answers; a failure is an answer, too."""
        handlers: dict[str, Callable[[Request], object]] = {
            "status": lambda _: self._fleet.look(),
            "measured": lambda _: self._fleet.measured(),
            "lending": lambda request: tuple(run.lending for run in self._fleet.on(self._held(request))),
            "apply": self._on_apply,
            "clear": self._on_clear,
            "release": self._on_release,
            "confirm": self._on_confirm,
            "extend": self._on_extend,
            "rollback": self._on_rollback,
            "lapse": self._on_lapse,
            "freeze": self._on_freeze,
            "thaw": self._on_thaw,
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
            self._told(f"{request.command}: {fault.message}")
            request.refuse(fault)

    def drop_gone(self) -> None:
        """Says what is held no more."""
        for title in self._fleet.drop_gone():
            self._told(f"{title} holds nothing of ours any more")

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
        return self._fleet.go_over(
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
        waiting, order = self._waiting(request), self._order(request)
        with self._fleet.together([run for run, _ in waiting], order):
            for run, one in waiting:
                run.probation.confirm(one.id, now=self._clock.boot(), order=order)
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
        runs = self._fleet.on(device)
        if number is None and any(read_waiting(run.state) for run in runs):
            with self._fleet.together(runs, order):
                told = [run.probation.rollback(None, now=now, order=order) for run, _ in self._waiting(request)]
        else:
            told = [self._fleet.rollback(device, None if number is None else int(number), order)]
        self.drop_gone()
        return {"told": "; ".join(told)}

    def _on_lapse(self, request: Request) -> object:
        order, now = self._order(request), self._clock.boot()
        told = []
        for run, waiting in self._waiting(request):
            told.append(run.probation.lapse(waiting.id, now=now, order=order))
            self._told(f"{run.state.title}: {told[-1]}")
        self.drop_gone()
        return {"told": "; ".join(told)}

    def _on_freeze(self, request: Request) -> dict[str, Any]:
        """Of both directions. It is in force when it is answered: the next tick looks first."""
        sides, order = [run.state for run in self._fleet.on(self._held(request))], self._order(request)
        seconds = request.arguments.get("seconds")
        freeze = freezing.freeze(sides[0], order, seconds=None if seconds is None else float(seconds))
        self._told(f"{sides[0].spot} is {freeze.words}")
        return {"freeze": encode(freeze), "unnoted": freezing.noted(sides, "freeze", order)}

    def _on_thaw(self, request: Request) -> dict[str, Any]:
        sides, order = [run.state for run in self._fleet.on(self._held(request))], self._order(request)
        was = freezing.thaw(sides[0], at=order.at)
        if was:
            self._told(f"{sides[0].spot} is thawed by {order.who}")
        return {"was_frozen": was, "unnoted": freezing.noted(sides, "thaw", order) if was else ""}

    def _waiting(self, request: Request) -> list[tuple[InterfaceRun, Waiting]]:
        """The directions of the device whose change waits by the request's id. Raises UnavailableError for none."""
        runs, ident = self._fleet.on(self._held(request)), self._ident(request)
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
        for run in self._fleet.on(device):
            confirm.refuse_while_waiting(run.state, now=self._clock.boot())
        plans = self._fleet.clear(device, self._order(request))
        self._told(f"{device} was cleared on request")
        return plans

    def _on_release(self, request: Request) -> tuple[Plan, ...]:
        """Both directions of the device."""
        device = self._held(request)
        for run in self._fleet.on(device):
            confirm.refuse_while_waiting(run.state, now=self._clock.boot())
        plans = self._fleet.release(device, self._order(request))
        self._told(f"{device} was let go of on request; its tree stays")
        return plans

    def _held(self, request: Request) -> str:
        """The device that a request is about. Raises UnavailableError once it was cleared."""
        device = str(request.arguments["device"])
        if not self._fleet.on(device):
            raise UnavailableError(
                f"{device} was cleared, and this run holds it no more", hint="end the run, and begin another"
            )
        return device

    def _on_reload(self, _: Request) -> object:
        """A bad file keeps the old policy, and says why."""
        try:
            policy = placed(read_policy(Path(self._source)), self._kernel)
            applied = self._fleet.go_over(policy, self._own_order("SIGHUP"))
        except ShaperError as error:
            reasons = error.problems() if isinstance(error, PolicyError) else (error.message,)
            self._told("the policy in force stays: " + "\n".join(str(reason) for reason in reasons))
            raise
        self._told(f"{self._source} was read again: {sum(len(one.plan.steps) for one in applied)} steps")
        return applied

    def _on_stop(self, _: Request) -> None:
        self.stopping = True
