"""One interface under control, from its beginning to one of its ends: what it holds, and when that becomes another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from shaper.compile.program import Program
from shaper.errors import ShaperError
from shaper.kernel.protocol import Kernel, within
from shaper.model.policy import Direction, Drift, Interface, Policy
from shaper.model.status import InterfaceStatus
from shaper.plan.steps import Plan
from shaper.run import apply, changes, confirm
from shaper.run.alarms import Alarms
from shaper.run.answers import Lending
from shaper.run.calendar import Calendar
from shaper.run.changes import Condition, Order
from shaper.run.clock import Clock
from shaper.run.drift import Mending
from shaper.run.following import Following
from shaper.run.holding import Holding
from shaper.run.loop import Loop
from shaper.run.prepare import Prepared
from shaper.run.probation import Probation
from shaper.run.saved import SavedInterface
from shaper.run.sensing import Sensing
from shaper.run.settings import Mode, Settings
from shaper.run.standing import interface_on
from shaper.run.state import DeviceState
from shaper.run.waiting import read_waiting, write_waiting
from shaper.run.who import caller
from shaper.tree import Class

_LOOK = 2.0
"""Seconds between looks at whether the kernel still holds our tree."""


class InterfaceRun:
    """Owns one interface from its making to `stop` or `clear`; the caller holds its lock, has called `tidy`, and calls
    `tick`.

    Making it applies the policy with its static allocation and begins to measure; `applied` is what that did.
    """

    def __init__(
        self,
        kernel: Kernel,
        state: DeviceState,
        policy: Policy,
        interface: Interface,
        settings: Settings,
        clock: Clock,
        order: Order,
        *,
        told: Sequence[str] = (),
    ) -> None:
        """`told` is what the caller has put right on this side before."""
        self.state = state
        self._kernel = kernel = within(kernel, state.netns)
        self._settings = settings
        self._clock = clock
        self._alarms = Alarms()
        self._looked = 0.0
        self.gone = False
        """Rolled back to before the first policy: there is nothing left to hold."""
        following = Following(clock, self._alarms)
        self._sensing = Sensing(kernel, clock, self._alarms, settings, aside=following.owns)
        self._holding = Holding(kernel, state, structure=self._structure, lender=self._sensing.measuring)
        self._mending = Mending()
        self._calendar = Calendar()

        for words in told:
            self._alarms.sound(words[:9], words)
        if settings.alarm:
            self._alarms.sound("policy", settings.alarm)
        policy, interface = self._allowed(policy, interface)
        self.probation = Probation(kernel, state, self)
        try:
            self.applied = self._holding.apply(policy, interface, what="run", order=order, keep_live=False)
        except BaseException:
            self._sensing.release()
            raise
        self._mending.renew(self._drift)
        self.loop = Loop(state, self._holding, self._sensing, following, settings, clock, self._alarms)
        try:
            self.loop.open()
        except BaseException:
            self.close()
            self.undo(order)
            raise

    @property
    def in_force(self) -> tuple[Policy, Interface]:
        """What it holds now."""
        return self._holding.policy, self._holding.interface

    @property
    def place(self) -> tuple[str, Direction]:
        """Its device and direction."""
        return self.state.spot, self.state.direction

    @property
    def lending(self) -> Lending:
        """How a change of it is prepared."""
        measuring = self._sensing.measuring
        return Lending(self.state.direction, self._structure, measuring.instance, measuring.copies)

    @property
    def counting(self) -> float:
        """Seconds of a processor that reading the counters took last."""
        return self._sensing.counting

    @property
    def wait(self) -> float:
        """Seconds until it wants to be tended, infinite where a tick does."""
        return self._sensing.measuring.wait

    def tend(self) -> None:
        """What cannot wait for the next tick, where that is time."""
        self._sensing.measuring.tend()

    @property
    def _structure(self) -> bool:
        return self._settings.mode is not Mode.STATIC

    @property
    def _drift(self) -> Drift:
        return self._settings.drift or self._holding.interface.drift

    # --- from start to stop

    def undo(self, order: Order) -> None:
        """Takes back what making it did, since the run could not begin."""
        changes.unmake(self._kernel, self.state, self.applied, at=order.at, reason="the run could not begin")

    def reload(
        self,
        policy: Policy,
        interface: Interface,
        *,
        order: Order,
        expected: SavedInterface | None = None,
        condition: Condition | None = None,
    ) -> Prepared:
        """Goes over to another policy; the live allocation stays where it fits, and what is known of classes too.

        With `expected` exactly the saved plan is carried out, or TryAgainError says what moved; with a `condition` the
        change waits for its confirmation, and until then no rate moves.
        """
        confirm.refuse_while_waiting(self.state, now=self._clock.boot())
        judged = condition is not None and condition.judged is not None
        if judged:
            self.probation.trial.closes(self._sensing.observer, now=self._clock.boot())
        try:
            prepared = self._go_over(
                policy, interface, what="apply", order=order, keep_live=True, expected=expected, condition=condition
            )
            self._alarms.end("policy")
            return prepared
        finally:
            self.probation.renew()
            if judged:
                self.probation.trial.begins(self._sensing.observer, now=self._clock.boot())

    def to_policy(
        self, policy: Policy, *, what: str, order: Order, of: int, confirmation: str, structure: bool
    ) -> None:
        """Goes back to a policy and its static allocation, in the structure of this run."""
        interface = interface_on(policy, self.state.spot, self.state.direction)
        self._go_over(policy, interface, what=what, order=order, keep_live=False, of=of, confirmation=confirmation)

    def to_nothing(self, *, what: str, order: Order, of: int, confirmation: str) -> None:
        """Removes what is ours and lets go."""
        self._sensing.measuring.release()
        changes.clear(self._kernel, self.state, order=order, what=what, of=of, confirmation=confirmation)
        self.gone = True
        self.close()

    def _go_over(self, policy: Policy, interface: Interface, *, keep_live: bool, **how: Any) -> Prepared:
        before = self._holding.program
        prepared = self._holding.apply(policy, interface, keep_live=keep_live, **how)
        self._mending.renew(self._drift)
        self._goes_on(before)
        return prepared

    def _goes_on(self, before: Program) -> None:
        """By what is held now; what is known of the classes of the program before is kept."""
        self.probation.trial.anew()
        if self._holding.program != before:
            self.loop.resume()

    def keep_time(self) -> str:
        """Judges a change on trial, rolls back what no watchdog came for; what it did in words. Errors are alarms."""
        try:
            spare = frozenset(leaf.path for leaf in self._holding.interface.leaves() if leaf.implied)
            order = Order(caller(), self._clock.wall())
            words = self.probation.tick(self._sensing.observer, now=self._clock.boot(), order=order, spare=spare)
        except ShaperError as error:
            self._alarms.sound("confirmation", error.message)
            return ""
        self._alarms.end("confirmation")
        return words

    def mend(self) -> str:
        """Puts back what somebody changed, or fits it to a changed device; what was done in words. Errors are alarms.

        The live allocation stays where it fits. Nothing is touched while a change waits for its confirmation, nor
        where somebody keeps changing it.
        """
        fallen = self._sensing.measuring.fallen
        if self.probation.held or not (fallen or self._mending.due(self.loop.last)):
            return ""
        done, mended = self._mending.words(), False
        if fallen:
            done = f"another way of measuring delay takes over: {self._sensing.measuring.why}"
        with self._alarms.watching("mending"):
            self._mending.tries()
            prepared = self._holding.mending()
            if prepared is not None:
                self._mending.sends(self.loop.last)
                before = self._holding.program
                self._holding.mend(prepared, Order(caller(), self._clock.wall(), done))
                self._goes_on(before)
                if any(not isinstance(step.node, Class) for step in prepared.plan.steps):
                    self._sensing.measure()
                mended = True
            if self._holding.anew:
                self.loop.restart()
            self._mending.succeeded(mended=mended)
            self._alarms.end("tree")
        return done if mended else ""

    def turn(self) -> str:
        """Goes over to the numbers that the schedule has by now; what was done in words. Errors are alarms.

        The live allocation stays where it fits. While a change waits for its confirmation nothing moves; what holds
        when that is over is gone over to then.
        """
        at = self._clock.wall()
        timed = self._calendar.due(self._holding.interface, at=at, now=self.loop.last)
        if timed is None or timed.timetable is None or self.probation.held:
            return ""
        words, done = f"the schedule: {timed.timetable.words(timed.phase or ())}", False
        with self._alarms.watching("schedule"):
            self._calendar.tries(self.loop.last)
            order = Order(caller(), at, words)
            self._go_over(self._holding.policy, timed, what="schedule", order=order, keep_live=True)
            self._calendar.succeeded()
            done = True
        return words if done else ""

    def stop(self) -> None:
        """Puts the static allocation back, leaves the tree, and lets go of everything.

        Raises UnavailableError when the device is gone, and the tree with it.
        """
        try:
            self._kernel.link(self.state.device)
            self._holding.send(self._holding.program.tree, patience=None)
        finally:
            self.close()

    def back_to(self, policy: Policy, interface: Interface, *, order: Order) -> None:
        """Takes back a `reload`, since another interface of the policy failed."""
        write_waiting(self.state, None)
        self.probation.renew()
        order = replace(order, why="another interface of the policy failed")
        self._go_over(policy, interface, what="apply", order=order, keep_live=True)

    def clear(self, order: Order, *, what: str = "clear") -> Plan:
        """Removes what is ours and lets go."""
        confirm.refuse_while_waiting(self.state, now=self._clock.boot())
        self._sensing.measuring.release()
        plan = changes.clear(self._kernel, self.state, order=order, what=what)
        self.close()
        return plan

    def release(self, order: Order) -> Plan:
        """Puts the static allocation back and lets go of the tree, which stays."""
        self._sensing.measuring.release()
        self._holding.send(self._holding.program.tree, patience=None)
        plan = changes.release(self._kernel, self.state, order=order)
        self.close()
        return plan

    def close(self) -> None:
        """Gives back sockets and files."""
        self.loop.close()

    # --- one tick

    def tick(self, *, beside: float | None = None) -> None:
        """A look at the tree, and one tick of the loop. Errors of the kernel raise alarms; they never end the run.

        `beside` is the load of the device's other direction, None where that is not known.
        """
        now = self._clock.boot()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._watch_tree(now)
        self.loop.tick(now=now, beside=beside, held=self.probation.held)

    def status(self) -> InterfaceStatus:
        """How it stood at the last tick."""
        return replace(
            self.loop.status(),
            drift=self._mending.found,
            mends=self._mending.count,
            confirmation=self.probation.status(self.loop.last),
            schedule=self._calendar.outlook(self._holding.interface, self._clock.wall()),
        )

    # --- inside

    def _allowed(self, policy: Policy, interface: Interface) -> tuple[Policy, Interface]:
        """The policy that may come up by itself: one that nobody confirmed does not, nor another while one waits."""
        allowed, why = confirm.confirmed_policy(self.state, policy)
        if why:
            self._alarms.sound("unconfirmed", why)
            interface = interface_on(allowed, interface.spot, interface.direction)
        waiting = read_waiting(self.state)
        if waiting is not None and waiting.sha256 != allowed.sha256:
            confirm.refuse_while_waiting(self.state, now=self._clock.boot())
        return allowed, interface

    def _watch_tree(self, now: float) -> None:
        """Somebody else may remove or change what is ours, and the device may go, come back, or change itself."""
        with self._alarms.watching("tree"):
            self._mending.saw((), ())
            self._mending.saw(*self._holding.drifted())
            if self._mending.found:
                raise apply.VerifyError(self._mending.alarm(self.state.title, now))
            self._alarms.end("mending")
