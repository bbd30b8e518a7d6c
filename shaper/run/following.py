"""A link that moves, followed: probes to its reflectors while a run is up, and the rate that the law makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from collectors.probe.log import Outcome
from collectors.sample import FlowKey
from shaper.compile.program import Program
from shaper.control import link
from shaper.history.links import LinkPremise
from shaper.model.link_rate import LinkDecision, LinkMove, LinkSample, LinkSeen, LinkStatus, Moving
from shaper.model.observation import Observation
from shaper.model.policy import Direction
from shaper.model.probe import Probe
from shaper.run.alarms import Alarms
from shaper.run.clock import Clock
from shaper.run.probing import Worker
from shaper.units import format_duration

_PACE = 0.05
"""Seconds between two probes of all reflectors together."""

_TIMEOUT = 5.0
"""Seconds after which an answer counts as lost: a queue may be longer than the usual second, and that is the news."""

_STALE = 10.0
_ALARM = "link"


class Following:
    """Of one direction of one interface; of one whose link stands it does nothing. `release` ends the probes."""

    def __init__(self, clock: Clock, alarms: Alarms) -> None:
        self._clock = clock
        self._alarms = alarms
        self._workers: dict[str, Worker] = {}
        self._moving: Moving | None = None
        self._setup: link.Setup | None = None
        self._state: link.State | None = None
        self._way = Direction.EGRESS
        self._apart = False
        self._fresh_at: float | None = None
        self._moves = 0
        self._says = ""
        self.decision: LinkDecision | None = None
        """The last one, None while nothing is followed."""
        self.premise: LinkPremise | None = None
        """What the law was asked at the last tick, None where it was not."""

    def open(self, program: Program, *, rate: int) -> None:
        """Goes over to the link of a program, which has `rate` bit/s now; what is known of reflectors that stay is
        kept."""
        interface = program.interface
        if program.moving is None or interface.moving is None:
            self.release()
            return
        apart = bool(program.stamp)
        if self._moving is not None and (_asked(self._moving), self._apart) != (_asked(interface.moving), apart):
            self.release()
        self._moving, self._way, self._apart = interface.moving, interface.direction, apart
        least, most = program.moving
        self._setup = link.Setup(
            least, program.link_in(program.tree), most, self._moving.reflectors, self._moving.bloat, program.frame
        )
        before = self._state or link.initial(self._setup)
        self._state = link.resume(before, rate, self._setup)
        self.decision = LinkDecision(rate, probed=self._state.order[: link.Tuning().pingers])
        self._ask(self.decision.probed, interface.device, interface.netns)

    def restart(self, program: Program, *, rate: int) -> None:
        """Forgets what was found: the link is another one."""
        if self._setup is None:
            return
        self._state = None
        self.open(program, rate=rate)

    def release(self) -> None:
        """Ends every probe. Harmless when done twice."""
        self._ask((), "", "")
        self._moving = self._setup = self._state = self.decision = None
        self._alarms.end(_ALARM)

    def owns(self, key: FlowKey) -> bool:
        """Whether a captured packet is a probe's."""
        return any(worker.owns(key) for worker in tuple(self._workers.values()))

    def tick(self, observation: Observation, *, now: float, beside: float | None) -> LinkDecision | None:
        """What the link should carry from now on; None where it stands. `beside` is the other direction's load."""
        self.premise = None
        if self._setup is None or self._state is None:
            return None
        samples = tuple(self._settled())
        if not observation.fresh:
            self.decision = self._without_counters(self._setup, self._state, now=now)
        else:
            self._fresh_at = now
            sent = sum(one.sent_bytes for one in observation.classes.values())
            seen = LinkSeen(observation.seconds, sent, samples, beside)
            self.premise = LinkPremise(self._setup, self._state, seen, now)
            self._state, self.decision = link.step(self._setup, self._state, seen, now=now)
        if self.decision.move is not None:
            self._moves += 1
            self._says = self.decision.move.reason
        asked = next(iter(self._workers.values()), None)
        if asked is not None:
            self._ask(self.decision.probed, asked.device, asked.netns)
        self._complain()
        return self.decision

    def rests(self) -> None:
        """Nothing moves now: what was seen meanwhile does not count."""
        self.premise = None
        for _ in self._settled():
            pass
        if self._state is not None:
            self._state = replace(self._state, sent=(), excesses=())

    def took(self, rate: int) -> None:
        """What the kernel holds of the last decision."""
        if self._state is not None and rate != self._state.applied:
            self._state = link.resume(self._state, rate)

    def status(self) -> LinkStatus | None:
        """As it stands; None where the link does."""
        if self._setup is None or self.decision is None:
            return None
        return LinkStatus(
            self.decision.rate,
            self._setup.least,
            self._setup.base,
            self._setup.most,
            self.decision.probed,
            self.decision.delay,
            self.decision.capacity,
            self._moves,
            self._says,
            self.decision.held,
        )

    # --- inside

    def _without_counters(self, setup: link.Setup, state: link.State, *, now: float) -> LinkDecision:
        """Hold, and after a while go back to the base, as the classes go back to the static allocation."""
        since = self._fresh_at = now if self._fresh_at is None else self._fresh_at
        probed = state.order[: link.Tuning().pingers]
        if now - since < _STALE or state.applied == setup.base:
            return LinkDecision(state.applied, probed=probed, held="no fresh counters")
        why = f"no fresh counters for {format_duration(_STALE)}: the base rate"
        self._state = replace(link.initial(setup), order=state.order)
        move = LinkMove(state.applied, setup.base, why, "none", None, 0.0, None)
        return LinkDecision(setup.base, move, probed, held=why)

    def _ask(self, probed: Sequence[str], device: str, netns: str) -> None:
        """Probes to these reflectors and no others."""
        going = [self._workers.pop(name) for name in tuple(self._workers) if name not in probed]
        for worker in going:
            worker.stop.set()
        for name in probed:
            if name not in self._workers and self._moving is not None:
                probe = Probe(name, self._moving.kind, self._moving.port, interval=_PACE * len(probed))
                worker = Worker(probe, device, netns, self._apart, self._clock, timeout=_TIMEOUT, eager=True)
                self._workers[name] = worker
                worker.start()
        for worker in going:
            worker.end()

    def _settled(self) -> Iterator[LinkSample]:
        for name, worker in self._workers.items():
            while worker.settled:
                yield self._sample(name, worker.settled.popleft())

    def _sample(self, name: str, one: Outcome) -> LinkSample:
        """The wait in our own queue is no fault of the link's; of what comes in it is not known, and part of it."""
        waited = one.waited or 0.0 if self._way is Direction.EGRESS else 0.0
        if one.lost or one.round_trip is None:
            return LinkSample(name, one.at, None)
        way = one.there if self._way is Direction.EGRESS else one.back
        return LinkSample(name, one.at, max(0.0, one.round_trip - waited), None if way is None else way - waited)

    def _complain(self) -> None:
        words = [f"{name}: {worker.says}" for name, worker in self._workers.items() if worker.says]
        if words:
            self._alarms.sound(_ALARM, f"reflectors of the link do not answer: {'; '.join(words)}")
        else:
            self._alarms.end(_ALARM)


def _asked(moving: Moving) -> tuple[object, ...]:
    """What a running probe depends on."""
    return moving.kind, moving.port
