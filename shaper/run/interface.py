"""One interface under control: apply, measure, decide, act, once a tick; and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from collectors.histogram import DelayHistogram
from collectors.sample import EBPF, FlowKey
from shaper.compile.program import Program
from shaper.errors import ShaperError
from shaper.history.buffered import BufferedHistory
from shaper.kernel.protocol import Kernel, within
from shaper.model.decision import Decision
from shaper.model.observation import Observation, Rung
from shaper.model.policy import Direction, Drift, Interface, Policy
from shaper.model.status import ClassStatus, ControllerStatus, InterfaceStatus, RunTotals
from shaper.plan.steps import Plan
from shaper.run import apply, changes, confirm
from shaper.run.alarms import Alarms
from shaper.run.answers import Lending
from shaper.run.calendar import Calendar
from shaper.run.changes import Condition, Order
from shaper.run.clock import Clock
from shaper.run.controlling import Controlling
from shaper.run.drift import Mending
from shaper.run.following import Following
from shaper.run.freezing import Freezing
from shaper.run.holding import Holding
from shaper.run.measuring import Measuring
from shaper.run.observe import Observer
from shaper.run.policed import counted
from shaper.run.prepare import Prepared
from shaper.run.probation import Probation
from shaper.run.probing import Probing
from shaper.run.saved import SavedInterface
from shaper.run.shortages import Shortages
from shaper.run.standing import interface_on
from shaper.run.state import DeviceState
from shaper.run.trips import Trips
from shaper.run.waiting import read_waiting, write_waiting
from shaper.run.who import caller
from shaper.tree import Class

_LOOK = 2.0
"""Seconds between looks at whether the kernel still holds our tree."""

_FLOWS = 5
_RETENTION = 30 * 86400.0
_PRUNE_EVERY = 3600.0
_AUDIT_TOLERANCE = 0.01
"""Malformed packets are read one way by the kernel's filter and another by scapy; more than these are a defect."""


class Mode(StrEnum):
    """How much of the shaper is at work: tiers and controller, tiers alone, or plain guarantees and limits."""

    CONTROLLED = "controlled"
    STRUCTURED = "structured"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run behaves. `tick` in seconds; with `dry_run` decisions are made and journalled, not carried out.

    `drift` says what is done about changes that somebody else makes to our tree; None leaves it to the policy.
    `measure` is the one rung of measurement that is taken beside the counters; None: the best that works. With `fine`
    delays are counted in the kernel by 0.4 % instead of 3 %. `alarm` is about the policy that the run began with, and
    stands until another is applied; "" for none.
    """

    mode: Mode = Mode.CONTROLLED
    tick: float = 0.25
    dry_run: bool = False
    drift: Drift | None = None
    measure: Rung | None = None
    fine: bool = False
    alarm: str = ""


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
        self._ticks = self._unshaped = 0
        self._busy_bits = self._busy_seconds = self._tick_seconds = self._pruned = 0.0
        self._looked = 0.0
        self._probing = Probing(clock, self._alarms)
        self._following = Following(clock, self._alarms)
        self._measuring = Measuring(
            kernel, clock, self._alarms, only=settings.measure, fine=settings.fine, aside=self._owns
        )
        self._trips = Trips(clock, self._alarms, aside=self._owns)
        self._holding = Holding(kernel, state, structure=settings.mode is not Mode.STATIC, lender=self._measuring)
        self._mending = Mending()
        self._calendar = Calendar()
        self.counting = 0.0
        """Seconds of a processor that reading the counters took last."""
        self.gone = False
        """Rolled back to before the first policy: there is nothing left to hold."""
        self.load: float | None = None
        """What was sent in the last tick, of what the link carries; None before there is one."""

        for words in told:
            self._alarms.sound(words[:9], words)
        if settings.alarm:
            self._alarms.sound("policy", settings.alarm)
        policy, interface = self._allowed(policy, interface)
        self.probation = Probation(kernel, state, self)
        self._freezing = Freezing(state, self._alarms)
        try:
            self.applied = self._holding.apply(policy, interface, what="run", order=order, keep_live=False)
        except BaseException:
            self._measuring.release()
            raise
        self._mending.renew(self._drift)
        self._shortages = Shortages(self._alarms)
        self._history = BufferedHistory(state.history)
        if state.history.exists():
            self._history.end_shortages(at=clock.wall(), device=state.device)
        try:
            self._controlling = Controlling(
                self._holding, self._alarms, wanted=settings.mode is Mode.CONTROLLED, dry_run=settings.dry_run
            )
            self._observer = Observer(self._holding.program, counted(kernel, self._holding.program))
            self._measure()
            self._probing.open(self._holding.interface, apart=bool(self._holding.program.stamp))
            self._follow()
            self._begun = self._last = clock.boot()
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
        structure = self._settings.mode is not Mode.STATIC
        return Lending(self.state.direction, structure, self._measuring.instance, self._measuring.copies)

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
            self.probation.trial.closes(self._observer, now=self._clock.boot())
        try:
            prepared = self._go_over(
                policy, interface, what="apply", order=order, keep_live=True, expected=expected, condition=condition
            )
            self._alarms.end("policy")
            return prepared
        finally:
            self.probation.renew()
            if judged:
                self.probation.trial.begins(self._observer, now=self._clock.boot())

    def to_policy(
        self, policy: Policy, *, what: str, order: Order, of: int, confirmation: str, structure: bool
    ) -> None:
        """Goes back to a policy and its static allocation, in the structure of this run."""
        interface = interface_on(policy, self.state.spot, self.state.direction)
        self._go_over(policy, interface, what=what, order=order, keep_live=False, of=of, confirmation=confirmation)

    def to_nothing(self, *, what: str, order: Order, of: int, confirmation: str) -> None:
        """Removes what is ours and lets go."""
        self._measuring.release()
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
        program = self._holding.program
        if program == before:
            return
        self._controlling.resume()
        self._probing.open(program.interface, apart=bool(program.stamp))
        self._follow()
        self._observer = Observer(program, counted(self._kernel, program), before=self._observer)
        if any(getattr(before, part) != getattr(program, part) for part in ("rules", "handles", "tap_filter", "stamp")):
            self._measure()

    def keep_time(self) -> str:
        """Judges a change on trial, rolls back what no watchdog came for; what it did in words. Errors are alarms."""
        try:
            spare = frozenset(leaf.path for leaf in self._holding.interface.leaves() if leaf.implied)
            order = Order(caller(), self._clock.wall())
            words = self.probation.tick(self._observer, now=self._clock.boot(), order=order, spare=spare)
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
        fallen = self._measuring.fallen
        if self.probation.held or not (fallen or self._mending.due(self._last)):
            return ""
        done, mended = self._mending.words(), False
        if fallen:
            done = f"another way of measuring delay takes over: {self._measuring.why}"
        with self._alarms.watching("mending"):
            self._mending.tries()
            prepared = self._holding.mending()
            if prepared is not None:
                self._mending.sends(self._last)
                before = self._holding.program
                self._holding.mend(prepared, Order(caller(), self._clock.wall(), done))
                self._goes_on(before)
                if any(not isinstance(step.node, Class) for step in prepared.plan.steps):
                    self._measure()
                mended = True
            if self._holding.anew:
                self._controlling.restart()
                self._following.restart(self._holding.program, rate=self._controlling.link)
            self._mending.succeeded(mended=mended)
            self._alarms.end("tree")
        return done if mended else ""

    def turn(self) -> str:
        """Goes over to the numbers that the schedule has by now; what was done in words. Errors are alarms.

        The live allocation stays where it fits. While a change waits for its confirmation nothing moves; what holds
        when that is over is gone over to then.
        """
        at = self._clock.wall()
        timed = self._calendar.due(self._holding.interface, at=at, now=self._last)
        if timed is None or timed.timetable is None or self.probation.held:
            return ""
        words, done = f"the schedule: {timed.timetable.words(timed.phase or ())}", False
        with self._alarms.watching("schedule"):
            self._calendar.tries(self._last)
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
        self._measuring.release()
        plan = changes.clear(self._kernel, self.state, order=order, what=what)
        self.close()
        return plan

    def release(self, order: Order) -> Plan:
        """Puts the static allocation back and lets go of the tree, which stays."""
        self._measuring.release()
        self._holding.send(self._holding.program.tree, patience=None)
        plan = changes.release(self._kernel, self.state, order=order)
        self.close()
        return plan

    def close(self) -> None:
        """Gives back sockets and files."""
        self._following.release()
        self._probing.release()
        self._measuring.release()
        self._trips.release()
        at = self._clock.wall()
        self._history.shortages(at=at, device=self.state.device, news=self._shortages.close(at=at))
        self._history.close()

    # --- one tick

    def tick(self, *, beside: float | None = None) -> InterfaceStatus:
        """Observe, decide, act, journal. Errors of the kernel raise alarms; they never end the run.

        `beside` is the load of the device's other direction, None where that is not known.
        """
        now = self._clock.boot()
        seconds = max(1e-3, now - self._last)
        self._last = now
        freeze = self._freezing.look(self._clock.wall())
        if freeze is None:
            self._controlling.lower()
        observation = self._observe(now, seconds)
        self._account(observation)
        frozen = freeze.words if freeze else ""
        decision, applied = self._decide(observation, now=now, beside=beside, frozen=frozen)
        self._ticks += 1
        at = self._clock.wall()
        news = self._shortages.tick(decision, now=now, at=at)
        self._history.shortages(at=at, device=self.state.device, news=news)
        status = self._status()
        self._tick_seconds = self._clock.boot() - now
        self._journal(observation, decision, applied=applied)
        return status

    def record(self, status: InterfaceStatus) -> None:
        """One line a second into the history."""
        at = self._clock.wall()
        self._history.observe(at=at, device=self.state.device, status=status)
        if at - self._pruned > _PRUNE_EVERY:
            self._pruned = at
            self._history.prune(before=at - _RETENTION)

    def named(self, status: InterfaceStatus) -> InterfaceStatus:
        """The status with the flows of TCP that send the most, which are told to who asks and are kept nowhere."""
        return replace(status, classes=self._with_trips(status.classes, flows=_FLOWS))

    def delays(self) -> dict[str, DelayHistogram]:
        """The delays of every class since the start."""
        return self._observer.delays()

    def totals(self) -> RunTotals:
        """The whole run, after a last look, so that what is still queued counts as in flight and not as lost."""
        now = self._clock.boot()
        self._account(self._observe(now, max(1e-3, now - self._last), last=True))
        self._last = now
        return RunTotals(
            interface=self._holding.interface.name,
            device=self.state.spot,
            direction=self.state.direction,
            mode=self._settings.mode.value,
            seconds=self._last - self._begun,
            classes=self._observer.totals(),
            utilisation=self._utilisation(),
            changes=self._controlling.changes,
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

    def _owns(self, key: FlowKey) -> bool:
        """Whether a captured packet is a probe's: what is said of a class's own packets leaves it out."""
        return self._probing.owns(key) or self._following.owns(key)

    def _measure(self) -> None:
        """Begins anew, by the program that is held: delays and losses first, beside them what TCP shows."""
        program = self._holding.program
        self._measuring.open(program)
        if self._measuring.rung is Rung.COUNTERS:
            self._trips.release()
        else:
            self._trips.open(program)

    def _follow(self) -> None:
        """The link of the policy in force, where that moves and a controller may move it."""
        if self._settings.mode is Mode.CONTROLLED:
            self._following.open(self._holding.program, rate=self._controlling.link)

    def _decide(
        self, observation: Observation, *, now: float, beside: float | None, frozen: str
    ) -> tuple[Decision, bool]:
        """About the link first, then about the classes on it."""
        held, link = self.probation.held, None
        if observation.fresh:
            sent = sum(one.sent_bytes for one in observation.classes.values()) * 8
            self.load = sent / observation.seconds / self._controlling.link
        if held or frozen:
            self._following.rests()
        else:
            link = self._following.tick(observation, now=now, beside=beside)
        decision, applied = self._controlling.decide(observation, now=now, held=held, frozen=frozen, link=link)
        if not self._settings.dry_run:
            self._following.took(self._controlling.link)
        return decision, applied

    def _observe(self, now: float, seconds: float, *, last: bool = False) -> Observation:
        counters, before = None, self._clock.processor()
        with self._alarms.watching("counters"):
            counters = counted(self._kernel, self._holding.program)
        self.counting = self._clock.processor() - before
        if now - self._looked >= _LOOK:
            self._looked = now
            self._watch_tree(now)
        queued = {handle: one.queued_packets for handle, one in counters.classes.items()} if counters and last else None
        window = self._measuring.window(self._holding.program, now=now, queued=queued)
        # Where there are too many packets to stamp each, none must be copied for a socket.
        fast = window is not None and window.source == EBPF and window.sampling > 1
        self._trips.read(self._holding.program, now=now, rests=fast)
        return self._observer.tick(
            now=now,
            seconds=seconds,
            counters=counters,
            window=window,
            why=self._measuring.why,
            rung=self._measuring.rung,
            lacking=self._measuring.lacking,
        )

    def _watch_tree(self, now: float) -> None:
        """Somebody else may remove or change what is ours, and the device may go, come back, or change itself."""
        with self._alarms.watching("tree"):
            self._mending.saw((), ())
            self._mending.saw(*self._holding.drifted())
            if self._mending.found:
                raise apply.VerifyError(self._mending.alarm(self.state.title, now))
            self._alarms.end("mending")

    def _account(self, observation: Observation) -> None:
        """Utilisation is over the time in which something waited."""
        self._unshaped += observation.unshaped_packets
        health = self._observer.health
        if health.misclassified > _AUDIT_TOLERANCE * health.audited:
            self._alarms.sound(
                "audit",
                f"{health.misclassified} of {health.audited} packets came out in another class when they were decoded "
                "a second time: what is said of the classes' delay may be wrong",
            )
        if observation.unshaped_packets:
            self._alarms.sound("unshaped", f"{self._unshaped} packets passed the shaper without a class")
        if any(each.backlog_bytes or each.dropped_packets for each in observation.classes.values()):
            self._busy_bits += sum(each.sent_bytes for each in observation.classes.values()) * 8
            self._busy_seconds += observation.seconds

    def _journal(self, observation: Observation, decision: Decision, *, applied: bool) -> None:
        if not self._controlling.active:
            return
        self._history.decide(
            at=self._clock.wall(),
            device=self.state.device,
            decision=decision,
            applied=applied,
            read_back=self._controlling.allocation if applied else None,
            inputs=observation,
            premise=self._controlling.premise,
            link=self._following.premise,
        )

    def _status(self) -> InterfaceStatus:
        interface, program = self._holding.interface, self._holding.program
        return InterfaceStatus(
            interface=interface.name,
            device=self.state.spot,
            direction=interface.direction,
            bandwidth=interface.bandwidth,
            policy=interface.policy,
            source=self._holding.policy.source,
            running=True,
            seconds=self._last - self._begun,
            classes=self._classes(),
            controller=ControllerStatus(
                mode=self._settings.mode.value + (" (dry run)" if self._settings.dry_run else ""),
                ticks=self._ticks,
                changes=self._controlling.changes,
                held=self._controlling.decision.held if program.movable else program.fixed,
                shortfalls=self._controlling.decision.shortfalls,
                tick_seconds=self._tick_seconds,
                moved=self._controlling.moved(self._last),
                shortages=self._shortages.standing,
                shortages_begun=self._shortages.begun,
                given_up=self._controlling.decision.given_up,
            ),
            capture=self._observer.health,
            utilisation=self._utilisation(),
            unshaped_packets=self._unshaped,
            alarms=tuple(filter(None, (*self._alarms.texts(), self._history.alarm))),
            drift=self._mending.found,
            mends=self._mending.count,
            confirmation=self.probation.status(self._last),
            schedule=self._calendar.outlook(interface, self._clock.wall()),
            frozen=self._freezing.freeze,
            link=self._following.status(),
        )

    def _classes(self) -> tuple[ClassStatus, ...]:
        """With what the probes found, and what TCP showed."""
        return self._with_trips(
            self._probing.tick(self._observer.statuses(self._controlling.allocation), now=self._last)
        )

    def _with_trips(self, classes: tuple[ClassStatus, ...], *, flows: int = 0) -> tuple[ClassStatus, ...]:
        views = self._trips.views(self._holding.program, flows=flows)
        return tuple(replace(one, tcp=views.get(one.path)) for one in classes)

    def _utilisation(self) -> float | None:
        bandwidth = self._holding.interface.bandwidth
        return self._busy_bits / self._busy_seconds / bandwidth if self._busy_seconds else None
