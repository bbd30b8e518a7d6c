"""Inside a running shaper: the change that waits for its confirmation, and what freezes the control loop meanwhile."""

from __future__ import annotations

from dataclasses import replace

from shaper.errors import ShaperError, TryAgainError
from shaper.kernel.protocol import Kernel
from shaper.model.status import PendingConfirmation
from shaper.run import confirm
from shaper.run.changes import Order
from shaper.run.confirm import Way
from shaper.run.observe import Observer
from shaper.run.state import DeviceState
from shaper.run.trial import Trial
from shaper.run.waiting import Waiting, read_waiting
from shaper.run.watchdog import is_guarded

_GRACE = 5.0
"""Seconds after the deadline in which the watchdog must have come; then the shaper rolls back by itself."""


class Probation:
    """Of one interface. `way` is how the shaper goes back, `state` is held by it."""

    def __init__(self, kernel: Kernel, state: DeviceState, way: Way) -> None:
        self._kernel = kernel
        self._state = state
        self._way = way
        self.trial = Trial()
        self._waiting: Waiting | None = None
        self.renew()

    def renew(self) -> None:
        """Reads again what waits."""
        self._waiting = read_waiting(self._state)

    @property
    def held(self) -> str:
        """Why the controller must not act, "" when it may."""
        return f"change {self._waiting.change} waits for its confirmation" if self._waiting else ""

    def status(self, now: float) -> PendingConfirmation | None:
        """What waits, for the status."""
        if self._waiting is None:
            return None
        return pending_confirmation(self._state, self._waiting, now)

    def confirm(self, ident: str, *, now: float, order: Order) -> None:
        """As `confirm.confirm`."""
        try:
            confirm.confirm(self._state, ident, now=now, order=order)
        finally:
            self.renew()

    def extend(self, ident: str, seconds: float, *, now: float, order: Order) -> float:
        """As `confirm.extend`; gives the seconds that are left."""
        try:
            return confirm.extend(self._state, ident, seconds, now=now, order=order).left(now)
        finally:
            self.renew()

    def rollback(self, number: int | None, *, now: float, order: Order) -> str:
        """As `confirm.rollback`."""
        try:
            return confirm.rollback(self._kernel, self._state, number, now=now, order=order, way=self._way)
        finally:
            self.renew()

    def lapse(self, ident: str, *, now: float, order: Order) -> str:
        """Rolls back what nobody confirmed. Raises TryAgainError while there is time left."""
        waiting = confirm.the_waiting(self._state, ident)
        if waiting.left(now) > 0:
            raise TryAgainError(f"there are {waiting.left(now):.0f} s left", hint="wait for them to pass")
        return self._lapse(waiting, order)

    def tick(self, observer: Observer, *, now: float, order: Order, spare: frozenset[str]) -> str:
        """What became of the change by itself, "" mostly. Raises ShaperError where it can't be rolled back.

        `spare` are the classes that the policy did not write.
        """
        waiting = self._waiting
        if waiting is None:
            self.trial.tick(observer, now=now)
            return ""
        try:
            if waiting.judged is not None and now >= waiting.judged:
                return self._judge(waiting, observer, now=now, order=order, spare=spare)
            if now >= waiting.deadline + _GRACE:
                return self._lapse(waiting, order)
        except ShaperError as error:
            confirm.remember_trouble(self._state, waiting, confirm.told(error))
            raise
        return ""

    def _judge(self, waiting: Waiting, observer: Observer, *, now: float, order: Order, spare: frozenset[str]) -> str:
        verdict = self.trial.verdict(observer, now=now, spare=spare)
        self.trial.ended()
        if not verdict.good:
            return self._lapse(waiting, replace(order, why="; ".join(verdict.against)))
        why = f"no delay and no loss got worse: {verdict.judged} classes, {verdict.packets} packets"
        self.confirm(waiting.id, now=now, order=replace(order, why=why))
        return f"change {waiting.change} is confirmed: {why}"

    def _lapse(self, waiting: Waiting, order: Order) -> str:
        try:
            return confirm.lapse(self._kernel, self._state, waiting, order=order, way=self._way)
        finally:
            self.renew()


def pending_confirmation(state: DeviceState, waiting: Waiting, now: float) -> PendingConfirmation:
    """A change that waits, as a status shows it."""
    left = waiting.left(now)
    judged = None if waiting.judged is None else max(0.0, waiting.judged - now)
    guarded = is_guarded(state.root, waiting.id)
    return PendingConfirmation(waiting.id, waiting.change, left, judged, guarded, waiting.trouble)
