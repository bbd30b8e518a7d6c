"""What is seen of one interface: counters, delays and losses, TCP and the probes, as one observation a tick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from collectors.sample import EBPF, FlowKey
from shaper.compile.program import Program
from shaper.kernel.protocol import Kernel
from shaper.model.decision import Allocation
from shaper.model.observation import Observation, Rung
from shaper.model.status import ClassStatus
from shaper.run.alarms import Alarms
from shaper.run.clock import Clock
from shaper.run.measuring import Measuring
from shaper.run.observe import Observer
from shaper.run.policed import counted
from shaper.run.probing import Probing
from shaper.run.settings import Settings
from shaper.run.trips import Trips

_FLOWS = 5
_AUDIT_TOLERANCE = 0.01
"""Malformed packets are read one way by the kernel's filter and another by scapy; more than these are a defect."""

_QUIET = 60.0
"""Seconds without a packet that passed unshaped after which that is over."""


class Sensing:
    """Of one direction of a device, from `open` to `release`; `kernel` is inside its network namespace."""

    observer: Observer
    """The account of every class since the start."""

    _program: Program

    def __init__(
        self, kernel: Kernel, clock: Clock, alarms: Alarms, settings: Settings, *, aside: Callable[[FlowKey], bool]
    ) -> None:
        """`aside` are packets that count for no class, beside those of the classes' own probes."""
        self._kernel = kernel
        self._clock = clock
        self._alarms = alarms
        self._aside = aside
        self._probing = Probing(clock, alarms)
        self.measuring = Measuring(
            kernel, clock, alarms, only=settings.measure, fine=settings.fine, aside=self._is_probe
        )
        self._trips = Trips(clock, alarms, aside=self._is_probe)
        self._busy_bits = self._busy_seconds = 0.0
        self.unshaped = 0
        """Packets that passed the shaper without a class."""
        self._unshaped_at = 0.0
        self.counting = 0.0
        """Seconds of a processor that reading the counters took last."""

    def open(self, program: Program) -> None:
        """Begins with what was applied. Raises UnavailableError, TryAgainError where its counters can't be read."""
        self._program = program
        self.observer = Observer(program, counted(self._kernel, program))
        self.measure()
        self._probe()

    def go_over(self, program: Program) -> None:
        """Goes on by what is held now; what is known of classes that stay is kept. Raises as `open`."""
        before, self._program = self._program, program
        self._probe()
        self.observer = Observer(program, counted(self._kernel, program), before=self.observer)
        if any(getattr(before, part) != getattr(program, part) for part in ("rules", "handles", "tap_filter", "stamp")):
            self.measure()

    def measure(self) -> None:
        """Begins anew to measure delays and losses, and beside them what TCP shows."""
        self.measuring.open(self._program)
        if self.measuring.rung is Rung.COUNTERS:
            self._trips.release()
        else:
            self._trips.open(self._program)

    def release(self) -> None:
        """Gives back sockets and programs. Harmless when done twice."""
        self._probing.release()
        self.measuring.release()
        self._trips.release()

    def look(self, *, now: float, seconds: float, last: bool = False) -> Observation:
        """What came in the `seconds` before boot time `now`; the `last` look ends the account of what is queued.

        What can't be read raises an alarm, and so does what is wrong with the figures.
        """
        counters, before = None, self._clock.processor()
        with self._alarms.watching("counters"):
            counters = counted(self._kernel, self._program)
        self.counting = self._clock.processor() - before
        queued = {handle: one.queued_packets for handle, one in counters.classes.items()} if counters and last else None
        window = self.measuring.window(self._program, now=now, queued=queued)
        # Where there are too many packets to look at each, none must be copied for another socket.
        sampled = window is not None and window.source == EBPF and window.sampling > 1
        fast = window is not None and (window.listening < 1 or sampled or not window.copied)
        self._trips.read(self._program, now=now, rests=fast)
        observation = self.observer.tick(
            now=now,
            seconds=seconds,
            counters=counters,
            window=window,
            why=self.measuring.why,
            rung=self.measuring.rung,
            lacking=self.measuring.lacking,
        )
        self._probing.tick(self.observer.passed(), now=now)
        self._account(observation, now=now)
        return observation

    def classes(self, allocation: Allocation, *, now: float) -> tuple[ClassStatus, ...]:
        """Every leaf class as it stands, with what the probes found, and what TCP showed."""
        return self._with_trips(self._probing.shown(self.observer.statuses(allocation), now=now))

    def named(self, classes: tuple[ClassStatus, ...]) -> tuple[ClassStatus, ...]:
        """The classes with their flows of TCP that send the most."""
        return self._with_trips(classes, flows=_FLOWS)

    def utilisation(self, bandwidth: int) -> float | None:
        """What was sent of what the link carries, over the time in which something waited; None without any."""
        return self._busy_bits / self._busy_seconds / bandwidth if self._busy_seconds else None

    def _is_probe(self, key: FlowKey) -> bool:
        """Whether a captured packet is a probe's: what is said of a class's own packets leaves it out."""
        return self._probing.owns(key) or self._aside(key)

    def _probe(self) -> None:
        self._probing.open(self._program.interface, apart=bool(self._program.stamp))

    def _with_trips(self, classes: tuple[ClassStatus, ...], *, flows: int = 0) -> tuple[ClassStatus, ...]:
        views = self._trips.views(self._program, flows=flows)
        return tuple(replace(one, tcp=views.get(one.path)) for one in classes)

    def _account(self, observation: Observation, *, now: float) -> None:
        self.unshaped += observation.unshaped_packets
        health = self.observer.health
        if health.misclassified > _AUDIT_TOLERANCE * health.audited:
            self._alarms.sound(
                "audit",
                f"{health.misclassified} of {health.audited} packets came out in another class when they were decoded "
                "a second time: what is said of the classes' delay may be wrong",
            )
        else:
            self._alarms.end("audit")
        if observation.unshaped_packets:
            self._unshaped_at = now
            self._alarms.sound("unshaped", f"{self.unshaped} packets passed the shaper without a class")
        elif now - self._unshaped_at >= _QUIET:
            self._alarms.end("unshaped")
        if any(each.backlog_bytes or each.dropped_packets for each in observation.classes.values()):
            self._busy_bits += sum(each.sent_bytes for each in observation.classes.values()) * 8
            self._busy_seconds += observation.seconds
