"""The control loop of one interface: observe, decide, act and write it down, once a tick."""

from __future__ import annotations

from dataclasses import replace

from collectors.histogram import DelayHistogram
from shaper.model.decision import Decision
from shaper.model.observation import Observation
from shaper.model.status import ControllerStatus, InterfaceStatus, RunTotals
from shaper.run.alarms import Alarms
from shaper.run.chronicle import Chronicle
from shaper.run.clock import Clock
from shaper.run.controlling import Controlling
from shaper.run.following import Following
from shaper.run.freezing import Freezing
from shaper.run.holding import Holding
from shaper.run.sensing import Sensing
from shaper.run.settings import Mode, Settings
from shaper.run.state import DeviceState


class Loop:
    """Moves the rates of what is held by what is seen, from `open` to `close`.

    Errors of the kernel raise alarms; they never end it.
    """

    controlling: Controlling

    last: float
    """Boot time of the last look."""

    def __init__(
        self,
        state: DeviceState,
        holding: Holding,
        sensing: Sensing,
        following: Following,
        settings: Settings,
        clock: Clock,
        alarms: Alarms,
    ) -> None:
        self.load: float | None = None
        """What was sent in the last tick, of what the link carries; None before there is one."""
        self.following = following
        self._spot = state.spot
        self._holding = holding
        self._sensing = sensing
        self._settings = settings
        self._clock = clock
        self._alarms = alarms
        self._freezing = Freezing(state, alarms)
        self._chronicle = Chronicle(state, clock, alarms)
        self._ticks = 0
        self._tick_seconds = 0.0

    def open(self) -> None:
        """Begins with what was applied. Raises UnavailableError, TryAgainError where its counters can't be read."""
        self.controlling = Controlling(
            self._holding, self._alarms, wanted=self._may_control, dry_run=self._settings.dry_run
        )
        self._sensing.open(self._holding.program)
        self._follow()
        self._begun = self.last = self._clock.boot()

    def resume(self) -> None:
        """Goes on by what is held now; what is known of classes that stay is kept. Raises as `open`."""
        self.controlling.resume()
        self._follow()
        self._sensing.go_over(self._holding.program)

    def restart(self) -> None:
        """Forgets what was found before: the link is another one."""
        self.controlling.restart()
        self.following.restart(self._holding.program, rate=self.controlling.link)

    def close(self) -> None:
        """Gives back sockets and files."""
        self.following.release()
        self._sensing.release()
        self._chronicle.close()

    def tick(self, *, now: float, beside: float | None, held: str) -> None:
        """One tick at boot time `now`.

        `beside` is the load of the device's other direction, None where that is not known; `held` says why no rate may
        move, "" where they may.
        """
        freeze = self._freezing.look(self._clock.wall())
        if freeze is None:
            self.controlling.lower()
        observation = self._look(now)
        frozen = freeze.words if freeze else ""
        decision, applied = self._decide(observation, now=now, beside=beside, held=held, frozen=frozen)
        self._ticks += 1
        self._chronicle.regard(decision, now=now)
        self._tick_seconds = self._clock.boot() - now
        if self.controlling.active:
            self._chronicle.journal(
                observation,
                decision,
                read_back=self.controlling.allocation if applied else None,
                premise=self.controlling.premise,
                link=self.following.premise,
            )

    def status(self) -> InterfaceStatus:
        """All that is known since the last tick; it costs a fifth of one, so only who shows or keeps it asks."""
        interface = self._holding.interface
        return InterfaceStatus(
            interface=interface.name,
            device=self._spot,
            direction=interface.direction,
            bandwidth=interface.bandwidth,
            policy=interface.policy,
            source=self._holding.policy.source,
            running=True,
            seconds=self.last - self._begun,
            classes=self._sensing.classes(self.controlling.allocation, now=self.last),
            controller=self._controller(),
            capture=self._sensing.observer.health,
            utilisation=self._sensing.utilisation(interface.bandwidth),
            unshaped_packets=self._sensing.unshaped,
            alarms=tuple(filter(None, (*self._alarms.texts(), self._chronicle.alarm))),
            frozen=self._freezing.freeze,
            link=self.following.status(),
        )

    def record(self, status: InterfaceStatus) -> None:
        """One line a second into the history."""
        self._chronicle.second(status)

    def named(self, status: InterfaceStatus) -> InterfaceStatus:
        """The status with the flows of TCP that send the most, which are told to who asks and are kept nowhere."""
        return replace(status, classes=self._sensing.named(status.classes))

    def delays(self) -> dict[str, DelayHistogram]:
        """The delays of every class since the start."""
        return self._sensing.observer.delays()

    def sliced(self) -> dict[str, int]:
        """How many of them are of slices of time."""
        return self._sensing.observer.sliced()

    def totals(self) -> RunTotals:
        """The whole run, after a last look, so that what is still queued counts as in flight and not as lost."""
        self._look(self._clock.boot(), last=True)
        interface = self._holding.interface
        return RunTotals(
            interface=interface.name,
            device=self._spot,
            direction=interface.direction,
            mode=self._settings.mode.value,
            seconds=self.last - self._begun,
            classes=self._sensing.observer.totals(),
            utilisation=self._sensing.utilisation(interface.bandwidth),
            changes=self.controlling.changes,
        )

    # --- inside

    @property
    def _may_control(self) -> bool:
        return self._settings.mode is Mode.CONTROLLED

    def _follow(self) -> None:
        """The link of the policy in force, where that moves and a controller may move it."""
        if self._may_control:
            self.following.open(self._holding.program, rate=self.controlling.link)

    def _look(self, now: float, *, last: bool = False) -> Observation:
        seconds = max(1e-3, now - self.last)
        self.last = now
        return self._sensing.look(now=now, seconds=seconds, last=last)

    def _decide(
        self, observation: Observation, *, now: float, beside: float | None, held: str, frozen: str
    ) -> tuple[Decision, bool]:
        """About the link first, then about the classes on it; and whether the kernel took it."""
        link = None
        if observation.fresh:
            sent = sum(one.sent_bytes for one in observation.classes.values()) * 8
            self.load = sent / observation.seconds / self.controlling.link
        if held or frozen:
            self.following.rests()
        else:
            link = self.following.tick(observation, now=now, beside=beside)
        decision, applied = self.controlling.decide(observation, now=now, held=held, frozen=frozen, link=link)
        if not self._settings.dry_run:
            self.following.took(self.controlling.link)
        return decision, applied

    def _controller(self) -> ControllerStatus:
        program, decision, shortages = self._holding.program, self.controlling.decision, self._chronicle.shortages
        return ControllerStatus(
            mode=self._settings.mode.value + (" (dry run)" if self._settings.dry_run else ""),
            ticks=self._ticks,
            changes=self.controlling.changes,
            held=decision.held if program.movable else program.fixed,
            shortfalls=decision.shortfalls,
            tick_seconds=self._tick_seconds,
            moved=self.controlling.moved(self.last),
            shortages=shortages.standing,
            shortages_begun=shortages.begun,
            given_up=decision.given_up,
        )
