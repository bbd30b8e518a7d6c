"""The simulator's loop: packets through the model of the queues, under the shaper's own observer and controller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from collectors.capture import TAUS
from collectors.envelope import Envelope
from collectors.sample import CaptureWindow, ClassWindow
from shaper import control
from shaper.compile.program import Program
from shaper.history.records import Premise
from shaper.kernel.protocol import ClassCounters, DeviceCounters
from shaper.lab.account import Account, Second
from shaper.lab.counters import Interval, RunLines
from shaper.lab.offered import Offered
from shaper.lab.trial import Trial
from shaper.model.decision import Decision
from shaper.model.observation import TICK, Observation
from shaper.run.observe import Observer
from shaper.run.setups import setup_of
from shaper.simulate import HtbModel, Packet
from shaper.sla import Waited

_SECOND = 10**9
LEAD = 1.0
"""Seconds that the controller has been at work when the traffic begins."""


@dataclass(frozen=True, slots=True)
class Move:
    """What the controller decided, by what, at a time in seconds of the traffic; of ticks that changed something."""

    at: float
    decision: Decision
    inputs: Observation
    premise: Premise


@dataclass(slots=True)
class _Seen:
    """What the capture would have seen of a class since the last tick."""

    envelope: Envelope = field(default_factory=lambda: Envelope(TAUS))
    delays: list[float] = field(default_factory=list)
    packets: int = 0
    bytes: int = 0
    lost: int = 0


class Simulation:
    """One run; `run()` it once. The same arguments give the same run."""

    def __init__(self, program: Program, offered: Offered, *, mode: str, tick: float = TICK) -> None:
        """`mode` as of `shaper run`; the tree must be one that the model knows."""
        self._program, self._offered, self._mode = program, offered, mode
        self._tick = round(tick * _SECOND)
        self._model = HtbModel(program.tree)
        self._count = program.size_of() or (lambda size: size)
        paths = {path: program.handles[path] for path in (leaf.path for leaf in program.interface.leaves())}
        self._handles = paths
        self._paths = {handle: path for path, handle in paths.items()}
        self._seconds = int(offered.seconds)
        self._account = {path: tuple(Second() for _ in range(self._seconds)) for path in paths}
        self._seen = {path: _Seen() for path in paths}
        self._setup = setup_of(program)
        self._state = control.initial(self._setup)
        self._allocation = program.static
        self._observer = Observer(program, self._counters())
        self._last = -round(LEAD * _SECOND)
        self._lines = RunLines(ready=True)
        self._before: tuple[DeviceCounters, dict[str, Waited]] | None = None
        self._busy_bits = self._busy_seconds = 0.0
        self._changes = 0
        self.moves: list[Move] = []

    def run(self) -> Trial:
        """To the end of the traffic and one second more, in which the queues run empty."""
        end = (self._seconds + 1) * _SECOND
        packets = iter(self._offered.packets)
        following = next(packets, None)
        ticking, second, number = self._last + self._tick, 0, 0
        while True:
            wake = self._model.next_event
            times = [ticking, second, *([following[0]] if following else []), *([wake] if wake is not None else [])]
            now = min(times)
            if now > end:
                break
            if following and following[0] == now:
                self._arrives(number, following, now)
                number += 1
                following = next(packets, None)
            self._departs(now)
            if second == now:
                self._count_second(now // _SECOND)
                second += _SECOND
            if ticking == now:
                self._decide(now)
                ticking += self._tick
        for one in (second for seconds in self._account.values() for second in seconds):
            one.lost = one.sent - len(one.delays)
        self._lines.summary = {
            "utilisation": self._busy_bits / self._busy_seconds / self._program.interface.bandwidth
            if self._busy_seconds
            else None,
            "changes": self._changes,
        }
        return Trial(self._mode, 0.0, self._seconds, self._lines, Account(self._account))

    def _arrives(self, number: int, packet: tuple[int, str, int], now: int) -> None:
        _, path, size = packet
        seen, second = self._seen[path], self._account[path][min(now // _SECOND, self._seconds - 1)]
        size = self._count(size)
        seen.envelope.add(now, size)
        seen.packets += 1
        seen.bytes += size
        second.sent += 1
        if not self._model.enqueue(self._handles[path], Packet(number, size, now)):
            seen.lost += 1

    def _departs(self, now: int) -> None:
        while (sent := self._model.dequeue(now)) is not None:
            handle, packet = sent
            path, delay = self._paths[handle], (now - packet.arrived) / _SECOND
            self._seen[path].delays.append(delay)
            self._account[path][min(packet.arrived // _SECOND, self._seconds - 1)].delays.append(delay)

    def _counters(self) -> DeviceCounters:
        return DeviceCounters(
            {
                handle: ClassCounters(*one[:3], 0, one.backlog_bytes, one.queued_packets)
                for handle, one in self._model.counters().items()
            },
            0,
        )

    def _window(self, seconds: float) -> CaptureWindow:
        classes: dict[int, ClassWindow] = {}
        for path, seen in self._seen.items():
            classes[self._handles[path]] = ClassWindow(
                delays=tuple(seen.delays),
                arrived_packets=seen.packets,
                arrived_bytes=seen.bytes,
                inelastic_bytes=seen.bytes,
                matched=len(seen.delays),
                lost=seen.lost,
                envelope=seen.envelope.take(),
            )
            seen.delays, seen.packets, seen.bytes, seen.lost = [], 0, 0, 0
        captured = sum(2 * one.matched + one.lost for one in classes.values())
        return CaptureWindow(seconds, classes, captured, 0, 0, 0, 0, {}, 1)

    def _decide(self, now: int) -> None:
        seconds = (now - self._last) / _SECOND
        self._last = now
        observation = self._observer.tick(
            now=now / _SECOND, seconds=seconds, counters=self._counters(), window=self._window(seconds), why=""
        )
        if any(one.backlog_bytes or one.dropped_packets for one in observation.classes.values()):
            self._busy_bits += sum(one.sent_bytes for one in observation.classes.values()) * 8
            self._busy_seconds += seconds
        if self._mode != "controlled" or not self._program.movable:
            return
        premise = Premise(self._setup, self._state, now / _SECOND)
        self._state, decision = control.step(self._setup, self._state, observation, now=premise.now)
        if decision.changes:
            self._model.change(self._program.with_allocation(decision.allocation))
            self._allocation = decision.allocation
            self._changes += len(decision.changes)
            self.moves.append(Move(premise.now, decision, observation, premise))

    def _count_second(self, number: int) -> None:
        """As `shaper run --json` says it once a second."""
        counted, waited = self._counters(), self._observer.waited()
        if self._before is not None:
            then, meanwhile = self._before
            for path, rate in self._rates(then, counted):
                waiting, granted = (waited[path] - meanwhile[path]).rate, self._allocation[path].rate
                self._lines.intervals.setdefault(path, []).append(Interval(number - 0.5, rate, waiting, granted))
        self._before = counted, waited

    def _rates(self, before: DeviceCounters, after: DeviceCounters) -> Iterator[tuple[str, float]]:
        for path, handle in self._handles.items():
            then, now = before.classes.get(handle), after.classes.get(handle)
            if then is None or now is None:
                continue
            yield path, (now.sent_bytes - then.sent_bytes) * 8.0
