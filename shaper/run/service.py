"""`shaper run`: the loop over all interfaces of a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, Policy
from shaper.model.status import InterfaceStatus, RunTotals
from shaper.run.changes import Order
from shaper.run.clock import Clock
from shaper.run.fleet import Fleet
from shaper.run.inbox import Inbox
from shaper.run.pace import Pace
from shaper.run.requests import Requests
from shaper.run.settings import Settings
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
        self._policy = policy
        self._interfaces = interfaces
        self._pace = Pace(settings.tick)
        self._clock = clock
        self._inbox = inbox
        self._watcher = watcher
        self._fleet = Fleet(kernel, folder=folder, settings=settings, clock=clock)
        self._requests = Requests(kernel, self._fleet, policy.source, clock=clock, told=watcher.told)
        devices = dict.fromkeys(interface.spot for interface in interfaces)
        self.states = tuple(DeviceState(folder, device) for device in devices)

    def statuses(self) -> tuple[InterfaceStatus, ...]:
        """Every interface as it stood a second ago at most; safe from other threads."""
        return self._fleet.statuses()

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
            self._fleet.start(self._policy, self._interfaces, Order(caller(), self._clock.wall()))
            try:
                with listening():
                    self._tick()
                    self._watcher.ready(self._fleet.look())
                    self._loop()
            finally:
                self._end()

    def _loop(self) -> None:
        due = self._clock.boot() + self._pace.seconds
        whole = self._clock.boot() + 1.0
        while not self._requests.stopping and self._fleet:
            request = self._inbox.get(min([due - self._clock.boot(), *(run.wait for run in self._fleet)]))
            if request is not None:
                self._requests.handle(request)
            now = self._clock.boot()
            if now < due:
                for run in self._fleet:
                    run.tend()
                continue
            self._tick()
            due = max(due + self._pace.seconds, now)
            if now >= whole:
                whole = max(whole + 1.0, now)
                statuses = self._fleet.look()
                self._fleet.record()
                self._watcher.second(statuses)

    def _tick(self) -> None:
        for run in self._fleet:
            for words in filter(None, (run.keep_time(), run.turn(), run.mend())):
                self._watcher.told(f"{run.state.title}: {words}")
        self._requests.drop_gone()
        self._fleet.tick()
        self._pace.spent(sum(run.counting for run in self._fleet))

    def _end(self) -> None:
        """Every interface gets its static allocation back, whatever fails before, at another one or in the telling."""
        with contextlib.ExitStack() as stopping:
            for run in self._fleet:
                stopping.callback(run.stop)
            self._watcher.ended(tuple(run.loop.totals() for run in self._fleet))
