"""The probes of one interface's classes: each in a thread of its own while a run is up, and what they find."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

from collectors.errors import ProbeError
from collectors.probe.log import Outcome
from collectors.probe.session import Prober, paced
from collectors.sample import FlowKey
from shaper.errors import ShaperError, internal
from shaper.model.policy import Interface
from shaper.model.probe import Probe, ProbeWhen
from shaper.model.sla import SlaState
from shaper.model.status import ClassStatus
from shaper.run.alarms import Alarms
from shaper.run.clock import Clock
from shaper.run.keys import read_key
from shaper.run.probed import Findings, OwnTraffic
from shaper.run.probers import prober

_TIMEOUT = 1.0
"""Seconds after which an answer counts as lost, and by which what is found lags behind."""

_AGAIN = 5.0
_SILENT = 3
"""Lost packets in a row that make an alarm: one alone is only counted."""

_ENDING = 2.0


@dataclass(slots=True)
class Worker:
    """One probe: its thread, and what it hands over. Only `stop`, `rest` and `settled` are shared.

    `timeout` and `eager` are those of its log.
    """

    probe: Probe
    device: str
    netns: str
    apart: bool
    clock: Clock
    timeout: float = _TIMEOUT
    eager: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    rest: threading.Event = field(default_factory=threading.Event)
    settled: deque[Outcome] = field(default_factory=deque)
    now: tuple[int, Prober | None] = (0, None)
    says: str = ""
    target: int = 0
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.target = int(ip_address(self.probe.to))
        self.thread = threading.Thread(target=self._work, name=f"probe {self.probe.to}", daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Waits for its thread, for which `stop` is set."""
        if self.thread is not None:
            self.thread.join(_ENDING)

    def owns(self, key: FlowKey) -> bool:
        """Whether a packet is one of its own."""
        _, made = self.now
        if made is None or key.dst != self.target or not made.owns(key.protocol, key.sport):
            return False
        return key.dport is None or key.dport == self.probe.port

    def _work(self) -> None:
        while not self.stop.is_set():
            try:
                self._session()
            except (ShaperError, ProbeError) as error:
                self.says = error.message
            except Exception as error:
                self.says = internal(error).message
            self.stop.wait(_AGAIN)

    def _session(self) -> None:
        key = read_key(Path(self.probe.key_file)) if self.probe.key_file else b""
        made = prober(
            self.probe,
            self.clock,
            timeout=self.timeout,
            key=key,
            device=self.device,
            netns=self.netns,
            apart=self.apart,
            eager=self.eager,
        )
        before, _ = self.now
        self.now = before, made
        silent = 0
        try:
            each = paced(
                made, self.clock, interval=self.probe.interval, stopped=self.stop.is_set, resting=self.rest.is_set
            )
            for outcome in each:
                self.settled.append(outcome)
                silent = silent + 1 if outcome.lost else 0
                self.says = self._reason(made) if silent >= _SILENT else ""
        finally:
            self.now = before + made.packets, None
            made.close()

    @staticmethod
    def _reason(made: Prober) -> str:
        """The newest thing that was said of packets that nobody answered."""
        (by, text), _ = next(reversed(made.log.refusals.items()), (("", "no answer"), 0))
        return f"{by} says: {text}" if by else text

    @property
    def packets(self) -> int:
        """Sent so far."""
        before, made = self.now
        return before + (made.packets if made is not None else 0)


class Probing:
    """Begins and ends the probes as the policy has them; `release` ends them all."""

    def __init__(self, clock: Clock, alarms: Alarms) -> None:
        self._clock = clock
        self._alarms = alarms
        self._workers: dict[str, Worker] = {}
        self._findings: dict[str, Findings] = {}
        self._traffic: dict[str, OwnTraffic] = {}

    def open(self, interface: Interface, *, apart: bool) -> None:
        """Goes over to the probes of an interface's classes; those that stay the same go on.

        `apart` marks their packets for programs in the kernel that measure; else `owns` tells them.
        """
        wanted = {leaf.path: leaf for leaf in interface.leaves() if leaf.probe is not None}
        for path, worker in tuple(self._workers.items()):
            leaf = wanted.get(path)
            same = leaf is not None and (leaf.probe, interface.device, interface.netns, apart) == (
                worker.probe,
                worker.device,
                worker.netns,
                worker.apart,
            )
            if not same:
                self._end([path])
        for path, leaf in wanted.items():
            if path in self._workers or leaf.probe is None:
                self._findings[path].regard(leaf)
                continue
            self._findings[path] = Findings(leaf, leaf.probe)
            self._traffic[path] = OwnTraffic(connections=leaf.probe.kind.transaction)
            worker = Worker(leaf.probe, interface.device, interface.netns, apart, self._clock)
            if leaf.probe.when is ProbeWhen.IDLE:
                worker.rest.set()  # until the class is seen to be idle
            self._workers[path] = worker
            worker.start()

    def release(self) -> None:
        """Ends every probe. Harmless when done twice."""
        self._end(tuple(self._workers))

    def _end(self, paths: Iterable[str]) -> None:
        workers = [self._workers.pop(path) for path in paths]
        for worker in workers:
            worker.stop.set()
        for worker in workers:
            worker.end()
        for path in self._findings.keys() - self._workers.keys():
            del self._findings[path], self._traffic[path]

    def owns(self, key: FlowKey) -> bool:
        """Whether a captured packet is a probe's: what is said of a class's own packets leaves it out."""
        return any(worker.owns(key) for worker in tuple(self._workers.values()))

    def tick(self, passed: Mapping[str, int], *, now: float) -> None:
        """Takes what the probes have found by boot time `now`, when so many packets had come to each class."""
        failing = []
        for path, worker in self._workers.items():
            found = self._findings[path]
            while worker.settled:
                found.add([worker.settled.popleft()])
            if (count := passed.get(path)) is not None:
                self._traffic[path].add(now, passed=count, probes=worker.packets)
            if worker.probe.when is ProbeWhen.IDLE:
                (worker.rest.clear if self._traffic[path].idle else worker.rest.set)()
            if worker.says:
                failing.append(f"{path}: {worker.says}")
        if failing:
            self._alarms.sound("probe", f"probes fail: {'; '.join(failing)}")
        else:
            self._alarms.end("probe")

    def shown(self, classes: Sequence[ClassStatus], *, now: float) -> tuple[ClassStatus, ...]:
        """The classes with what their probes had found at the tick of `now`, and their SLAs where those judge them."""
        return tuple(self._with(one, now) if one.path in self._workers else one for one in classes)

    def _with(self, cls: ClassStatus, now: float) -> ClassStatus:
        worker, found = self._workers[cls.path], self._findings[cls.path]
        status = found.status(now=now, resting=worker.rest.is_set(), says=worker.says)
        if not self._traffic[cls.path].idle:
            return replace(cls, probe=status)
        judged = found.judged(status)
        judges = judged is not None and any(target.state is not SlaState.NO_DATA for target in judged.targets)
        return replace(cls, probe=replace(status, idle=True, judges=judges), sla=judged or cls.sla)
