"""One interface under control: apply, measure, decide, act, once a tick; and the way out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from collectors.capture import Capture
from collectors.errors import CaptureError
from collectors.sample import CaptureWindow, FlowKey
from shaper import control
from shaper.compile.program import Program
from shaper.compile.tap import DETAILS
from shaper.errors import ShaperError
from shaper.history.buffered import BufferedHistory
from shaper.kernel.protocol import Kernel
from shaper.model.decision import Allocation, Decision
from shaper.model.match import Packet, classify
from shaper.model.observation import Observation
from shaper.model.policy import Direction, Interface, Policy
from shaper.model.status import ControllerStatus, InterfaceStatus, RunTotals
from shaper.plan import adopt_live, diff
from shaper.plan.drift import differences, some
from shaper.plan.steps import Plan
from shaper.run import apply, changes, confirm
from shaper.run.apply import Prepared
from shaper.run.changes import Condition, Order
from shaper.run.clock import Clock
from shaper.run.drift import Drift, Mending, changed_facts
from shaper.run.observe import Observer
from shaper.run.probation import Probation
from shaper.run.saved import SavedInterface, check_unmoved
from shaper.run.standing import interface_on
from shaper.run.state import DeviceState
from shaper.run.waiting import read_waiting, write_waiting
from shaper.run.who import caller
from shaper.tree import Class, Tree

_HORIZON = 3.0
"""Seconds after which a packet that never left the queue counts as lost."""

_REOPEN = 5.0
"""Seconds between attempts to measure delay again after the capture broke off."""

_LOOK = 2.0
"""Seconds between looks at whether the kernel still holds our tree."""

_STEP = 0.05
"""Seconds by which the wall clock must run from the boot clock between two ticks to have been set."""

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

    `drift` says what is done about changes that somebody else makes to our tree.
    """

    mode: Mode = Mode.CONTROLLED
    tick: float = 0.25
    dry_run: bool = False
    drift: Drift = Drift.MEND


class InterfaceRun:
    """Owns one interface from its making to `stop` or `clear`; the caller holds its lock and calls `tick`.

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
        self._kernel = kernel
        self._settings = settings
        self._clock = clock
        self._alarms: dict[str, str] = {}
        self._ticks = self._changes = self._unshaped = 0
        self._busy_bits = self._busy_seconds = self._tick_seconds = self._pruned = 0.0
        self._capture: Capture | None = None
        self._no_capture = ""
        self._reopen = self._looked = 0.0
        self._offset = clock.wall() - clock.boot()

        self._mending = Mending(settings.drift)
        self._frozen = self.gone = False
        """Rolled back to before the first policy: there is nothing left to hold."""

        for words in (*told, *confirm.tidy(kernel, state, now=clock.boot(), order=order)):
            self._alarm(words[:9], words)
        policy, interface = self._allowed(policy, interface)
        self.probation = Probation(kernel, state, self)
        self.applied = self._apply(policy, interface, what="run", order=order, keep_live=False)
        self._record = self.applied.after
        self._history = BufferedHistory(state.history)
        try:
            self._policy = policy
            self._tree = self.applied.target
            self._take_over(self.applied.program)
            self._control = control.initial(self._setup)
            self._observer = Observer(self._program, kernel.counters(state.shaped))
            self._open_capture()
            self._begun = self._last = clock.boot()
        except BaseException:
            self.close()
            self.undo(order)
            raise

    @property
    def in_force(self) -> tuple[Policy, Interface]:
        """What it holds now."""
        return self._policy, self._interface

    @property
    def place(self) -> tuple[str, Direction]:
        """Its device and direction."""
        return self.state.device, self.state.direction

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
            return self._go_over(
                policy, interface, what="apply", order=order, keep_live=True, expected=expected, condition=condition
            )
        finally:
            self.probation.renew()
            if judged:
                self.probation.trial.begins(self._observer, now=self._clock.boot())

    def to_policy(
        self, policy: Policy, *, what: str, order: Order, of: int, confirmation: str, structure: bool
    ) -> None:
        """Goes back to a policy and its static allocation, in the structure of this run."""
        interface = interface_on(policy, self.state.device, self.state.direction)
        self._go_over(policy, interface, what=what, order=order, keep_live=False, of=of, confirmation=confirmation)

    def to_nothing(self, *, what: str, order: Order, of: int, confirmation: str) -> None:
        """Removes what is ours and lets go."""
        self._release_capture()
        changes.clear(self._kernel, self.state, order=order, what=what, of=of, confirmation=confirmation)
        self.gone = True
        self.close()

    def _go_over(self, policy: Policy, interface: Interface, *, keep_live: bool, **how: Any) -> Prepared:
        prepared = self._apply(policy, interface, keep_live=keep_live, **how)
        self._mending.renew()
        self._policy = policy
        return self._took(prepared)

    def _took(self, prepared: Prepared) -> Prepared:
        """Goes on by what was applied."""
        self.probation.trial.anew()
        self._record = prepared.after
        self._tree = prepared.target
        before, program = self._program, prepared.program
        if program != before:
            self._take_over(program)
            self._control = control.resume(control.initial(self._setup), self._allocation, before=self._control)
            self._observer = Observer(program, self._kernel.counters(self.state.shaped), before=self._observer)
            if any(getattr(before, part) != getattr(program, part) for part in ("rules", "handles", "tap_filter")):
                self._open_capture()
        return prepared

    def keep_time(self) -> str:
        """Judges a change on trial, rolls back what no watchdog came for; what it did in words. Errors are alarms."""
        try:
            spare = frozenset(leaf.path for leaf in self._interface.leaves() if leaf.implied)
            order = Order(caller(), self._clock.wall())
            words = self.probation.tick(self._observer, now=self._clock.boot(), order=order, spare=spare)
        except ShaperError as error:
            self._alarm("confirmation", error.message)
            return ""
        self._alarms.pop("confirmation", None)
        return words

    def mend(self) -> str:
        """Puts back what somebody changed, or fits it to a changed device; what was done in words. Errors are alarms.

        The live allocation stays where it fits. Nothing is touched while a change waits for its confirmation, nor
        where somebody keeps changing it.
        """
        if self.probation.held or not self._mending.due(self._last):
            return ""
        done, mended = self._mending.words(), False
        with self._alarming("mending"):
            self._mending.tries()
            prepared = self._prepare(self._policy, self._interface, keep_live=False)
            target = adopt_live(self._tree, prepared.program.tree, bounds=prepared.program.field_bounds())
            plan = diff(prepared.mine, target, bounds={})
            if plan.steps or prepared.program != self._program:
                self._mending.sends(self._last)
                order = Order(caller(), self._clock.wall(), done)
                made = replace(prepared, plan=plan, target=target)
                self._took(changes.make(self._kernel, self.state, made, what="mend", order=order))
                if any(not isinstance(step.node, Class) for step in plan.steps):
                    self._open_capture()
                mended = True
            self._mending.succeeded(mended=mended)
            self._alarms.pop("tree", None)
        return done if mended else ""

    def stop(self) -> None:
        """Puts the static allocation back, leaves the tree, and lets go of everything."""
        try:
            self._send(self._program.tree)
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
        self._release_capture()
        plan = changes.clear(self._kernel, self.state, order=order, what=what)
        self.close()
        return plan

    def close(self) -> None:
        """Gives back sockets and files."""
        self._release_capture()
        self._history.close()

    # --- one tick

    def tick(self) -> InterfaceStatus:
        """Observe, decide, act, journal. Errors of the kernel raise alarms; they never end the run."""
        now = self._clock.boot()
        seconds = max(1e-3, now - self._last)
        self._last = now
        observation = self._observe(now, seconds)
        self._account(observation)
        decision, applied = self._decide(observation, now)
        self._ticks += 1
        status = self._status()
        self._tick_seconds = self._clock.boot() - now
        self._journal(observation, decision, applied=applied)
        return status

    def record(self, status: InterfaceStatus) -> None:
        """One line a second into the history."""
        at = self._clock.wall()
        self._history.observe(at=at, device=self._interface.device, status=status)
        if at - self._pruned > _PRUNE_EVERY:
            self._pruned = at
            self._history.prune(before=at - _RETENTION)

    def totals(self) -> RunTotals:
        """The whole run, after a last look, so that what is still queued counts as in flight and not as lost."""
        now = self._clock.boot()
        self._account(self._observe(now, max(1e-3, now - self._last), last=True))
        self._last = now
        return RunTotals(
            interface=self._interface.name,
            device=self._interface.device,
            direction=self._interface.direction,
            mode=self._settings.mode.value,
            seconds=self._last - self._begun,
            classes=self._observer.totals(),
            utilisation=self._utilisation(),
            changes=self._changes,
        )

    # --- inside

    def _allowed(self, policy: Policy, interface: Interface) -> tuple[Policy, Interface]:
        """The policy that may come up by itself: one that nobody confirmed does not, nor another while one waits."""
        allowed, why = confirm.confirmed_policy(self.state, policy)
        if why:
            self._alarm("unconfirmed", why)
            interface = interface_on(allowed, interface.device, interface.direction)
        waiting = read_waiting(self.state)
        if waiting is not None and waiting.sha256 != allowed.sha256:
            confirm.refuse_while_waiting(self.state, now=self._clock.boot())
        return allowed, interface

    def _apply(
        self,
        policy: Policy,
        interface: Interface,
        *,
        keep_live: bool,
        expected: SavedInterface | None = None,
        **how: Any,
    ) -> Prepared:
        prepared = self._prepare(policy, interface, keep_live=keep_live)
        if expected is not None:
            check_unmoved(prepared, expected)
        return changes.make(self._kernel, self.state, prepared, **how)

    def _prepare(self, policy: Policy, interface: Interface, *, keep_live: bool) -> Prepared:
        structure = self._settings.mode is not Mode.STATIC
        prepared = apply.prepare(self._kernel, self.state, policy, interface, structure=structure, keep_live=keep_live)
        self._link = self._kernel.link(interface.device)
        return prepared

    def _take_over(self, program: Program) -> None:
        """Measures and controls by this program from now on."""
        self._program = program
        self._interface = program.interface
        self._allocation: Allocation = program.allocation_in(self._tree)
        self._setup = control.setup_from(
            program.interface, program.bounds, program.static, mtu_frame=program.frame, reserved=program.reserved
        )
        self._decision = Decision(self._allocation)

    def _open_capture(self) -> None:
        self._release_capture()
        program = self._program
        if not program.measured:
            self._no_capture = next((note for note in program.notes if note.startswith("delay:")), "no tap")
            return
        handles, rules = program.handles, program.rules

        def classid(key: FlowKey) -> int:
            return handles[classify(rules, Packet(*key))]

        try:
            self._capture = Capture(
                device=self._interface.device,
                tap=program.tap,
                after_filter=program.tap_filter,
                arriving_filter=program.arriving_filter,
                sampling=program.sampling,
                classify=classid,
                horizon=_HORIZON,
                detailed=not rules.asked().keys().isdisjoint(DETAILS),
                size_of=program.size_of(),
            )
        except CaptureError as error:
            self._no_capture = f"{error}"
            self._alarm("capture", f"delay is not measured: {error}")
            self._reopen = self._clock.boot() + _REOPEN
        else:
            self._no_capture = ""
            self._alarms.pop("capture", None)

    def _release_capture(self) -> None:
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    def _observe(self, now: float, seconds: float, *, last: bool = False) -> Observation:
        counters = window = None
        with self._alarming("counters"):
            counters = self._kernel.counters(self.state.shaped)
        if now - self._looked >= _LOOK:
            self._looked = now
            self._watch_tree(now)
        if self._capture is None and self._program.measured and now >= self._reopen:
            self._open_capture()
        if self._capture is not None:
            queued = {handle: one.queued_packets for handle, one in counters.classes.items()} if counters else None
            window = self._drain(self._capture, queued=queued if last else None)
        return self._observer.tick(now=now, seconds=seconds, counters=counters, window=window, why=self._no_capture)

    def _watch_tree(self, now: float) -> None:
        """Somebody else may remove or change what is ours, and the device may go, come back, or change itself."""
        mending = self._mending
        with self._alarming("tree"):
            mending.saw((), ())
            link = self._kernel.link(self.state.device)
            held = apply.ours(apply.read(self._kernel, self.state), self._record)
            names = {handle: path for path, handle in self._program.handles.items()}
            mending.saw(differences(held, self._tree, names), changed_facts(self._link, link))
            if mending.found:
                raise apply.VerifyError(mending.alarm(self.state.title, now))
            self._alarms.pop("mending", None)

    def _drain(self, capture: Capture, *, queued: dict[int, int] | None) -> CaptureWindow | None:
        """`queued` packets by classid end the account: what neither left nor is queued was lost."""
        try:
            if queued is not None:
                return capture.settle(now=self._clock.wall(), queued=queued)
            window = capture.drain(now=self._clock.wall())
        except (CaptureError, OSError) as error:
            self._no_capture = f"the capture broke off: {error}"
            self._alarm("capture", f"delay is no longer measured: {error}")
            self._release_capture()
            self._reopen = self._clock.boot() + _REOPEN
            return None
        finally:
            before, self._offset = self._offset, self._clock.wall() - self._clock.boot()
        if abs(self._offset - before) <= _STEP:
            return window
        # Stamps from before and after cannot be compared: what is in the queue is let go, and counting begins anew.
        self._open_capture()
        self._no_capture = f"the wall clock was set by {self._offset - before:+.2f} s: the capture began anew"
        return None

    def _account(self, observation: Observation) -> None:
        """Utilisation is over the time in which something waited."""
        self._unshaped += observation.unshaped_packets
        health = self._observer.health
        if health.misclassified > _AUDIT_TOLERANCE * health.audited:
            self._alarm(
                "audit",
                f"{health.misclassified} of {health.audited} packets came out in another class when they were decoded "
                "a second time: what is said of the classes' delay may be wrong",
            )
        if observation.unshaped_packets:
            self._alarm("unshaped", f"{self._unshaped} packets passed the shaper without a class")
        if any(each.backlog_bytes or each.dropped_packets for each in observation.classes.values()):
            self._busy_bits += sum(each.sent_bytes for each in observation.classes.values()) * 8
            self._busy_seconds += observation.seconds

    def _decide(self, observation: Observation, now: float) -> tuple[Decision, bool]:
        """The decision, and whether the kernel took it. Frozen while a change waits for its confirmation."""
        if not self._controls or self.probation.held:
            self._frozen = bool(self.probation.held)
            self._decision = Decision(self._allocation, held=self.probation.held)
            return self._decision, False
        if self._frozen:  # what the controller remembers is of another time
            self._control, self._frozen = control.resume(control.initial(self._setup), self._allocation), False
        applied = False
        self._control, decision = control.step(self._setup, self._control, observation, now=now)
        if decision.changes and not self._settings.dry_run:
            with self._alarming("programming"):
                self._send(self._program.with_allocation(decision.allocation))
                applied = True
                self._changes += len(decision.changes)
            self._allocation = self._program.allocation_in(self._tree)
            self._control = control.resume(self._control, self._allocation)  # what the kernel took, not what was asked
        self._decision = decision
        return decision, applied

    @property
    def _controls(self) -> bool:
        return self._settings.mode is Mode.CONTROLLED and self._program.movable

    def _send(self, target: Tree) -> None:
        plan = diff(self._tree, target, bounds={})
        if not plan.steps:
            return
        try:
            self._kernel.send(self.state.shaped, plan.steps)
        finally:  # also of what was refused in the middle the first part was done
            self._tree = apply.ours(apply.read(self._kernel, self.state), self._record)
        if self._tree != target:
            raise apply.VerifyError(
                f"{self.state.title} holds something else than was sent: {some(differences(self._tree, target))}",
                hint="another program is changing the same interface",
            )

    def _journal(self, observation: Observation, decision: Decision, *, applied: bool) -> None:
        if not self._controls:
            return
        self._history.decide(
            at=self._clock.wall(),
            device=self._interface.device,
            decision=decision,
            applied=applied,
            read_back=self._program.allocation_in(self._tree) if applied else None,
            inputs=observation,
        )

    def _status(self) -> InterfaceStatus:
        alarms = [*self._alarms.values()]
        if self._history.alarm:
            alarms.append(self._history.alarm)
        return InterfaceStatus(
            interface=self._interface.name,
            device=self._interface.device,
            direction=self._interface.direction,
            bandwidth=self._interface.bandwidth,
            policy=self._interface.policy,
            source=self._policy.source,
            running=True,
            seconds=self._last - self._begun,
            classes=self._observer.statuses(self._allocation),
            controller=ControllerStatus(
                mode=self._settings.mode.value + (" (dry run)" if self._settings.dry_run else ""),
                ticks=self._ticks,
                changes=self._changes,
                held=self._decision.held if self._program.movable else "no class has a rate to move",
                shortfalls=self._decision.shortfalls,
                tick_seconds=self._tick_seconds,
            ),
            capture=self._observer.health,
            utilisation=self._utilisation(),
            unshaped_packets=self._unshaped,
            alarms=tuple(alarms),
            drift=self._mending.found,
            mends=self._mending.count,
            confirmation=self.probation.status(self._last),
        )

    def _utilisation(self) -> float | None:
        return self._busy_bits / self._busy_seconds / self._interface.bandwidth if self._busy_seconds else None

    @contextlib.contextmanager
    def _alarming(self, what: str) -> Iterator[None]:
        """An error in here is an alarm until the same thing works again."""
        try:
            yield
        except ShaperError as error:
            self._alarm(what, error.message)
        else:
            self._alarms.pop(what, None)

    def _alarm(self, what: str, message: str) -> None:
        self._alarms[what] = message
