"""Additive increase, multiplicative decrease: what an engineer writes first; it stands in for `shaper.control.step`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shaper.control import Setup, State
from shaper.control.setup import ClassSetup, whole
from shaper.model.decision import Change, Decision
from shaper.model.observation import ClassObservation, Observation


class Aimd:
    """While a class misses a target its rate grows by `increase` x the link a second; while it does not, it falls by
    `decrease` of itself a second, to what it had at first. Moves within `band` of the rate are not made.

    Room is made by the lower tiers, down to their floors; inside a tier that does not fit all get the same part of
    what they want. Queues grow with the rate, so that they last as long.
    """

    def __init__(self, *, increase: float, decrease: float, band: float) -> None:
        self._increase, self._decrease, self._band = increase, decrease, band
        self._wanted: dict[str, float] = {}

    def step(
        self, setup: Setup, state: State, observation: Observation, *, now: float, tuning: object = None
    ) -> tuple[State, Decision]:
        """As `shaper.control.step`."""
        grants = {path: memory.grant for path, memory in state.classes.items()}
        if not observation.fresh:
            return state, Decision(grants, held="no fresh counters")
        for cls in setup.classes:
            wanted = self._wanted.get(cls.path, float(grants[cls.path].rate))
            seen = observation.classes.get(cls.path)
            if not cls.sla or seen is None:
                wanted = float(cls.guarantee)
            elif missed(cls, seen):
                wanted += self._increase * setup.link.bandwidth * seen.seconds
            else:
                wanted = max(float(cls.static.rate), wanted * (1 - self._decrease * seen.seconds))
            self._wanted[cls.path] = min(wanted, float(cls.highest))
        rates = shared(setup, self._wanted)
        changes: list[Change] = []
        for cls in setup.classes:
            before, rate = grants[cls.path], rates[cls.path]
            if rate > before.rate and rate - before.rate <= self._band * before.rate:
                continue  # falls are all made, so that the sum stays within the link
            if rate != before.rate:
                queue = queue_for(cls, rate, before.queue, observation)
                after = replace(before, rate=rate, ceil=max(rate, cls.static.ceil), queue=queue)
                changes.append(Change(cls.path, before, after, "AIMD", "none", int(self._wanted[cls.path])))
                grants[cls.path] = after
        memories = {path: replace(memory, grant=grants[path]) for path, memory in state.classes.items()}
        return replace(state, classes=memories, fresh_at=now), Decision(grants, tuple(changes))


def missed(cls: ClassSetup, seen: ClassObservation) -> bool:
    """Whether the class missed one of its targets in this tick, or in the window of its delays."""
    packets = seen.sent_packets + seen.dropped_packets
    late = seen.delay is not None and any(
        seen.delay.quantiles.get(target.percentile, 0.0) > target.seconds for target in cls.sla.delays
    )
    lost = cls.sla.loss is not None and seen.dropped_packets > max(1.0, cls.sla.loss * packets)
    slow = (
        cls.sla.throughput is not None
        and seen.sent_bytes * 8 / seen.seconds < cls.sla.throughput
        and (seen.dropped_packets > 0 or seen.backlog_bytes > 0)
    )
    return late or lost or slow


def shared(setup: Setup, wanted: Mapping[str, float]) -> dict[str, int]:
    """Floors, then tier by tier what is wanted, as far as it fits into the link and into every inner class."""
    rates = {cls.path: float(cls.lowest) for cls in setup.classes}
    for tier in sorted({cls.tier for cls in setup.classes}):
        members = [cls.path for cls in setup.classes if cls.tier == tier]
        part = 1.0
        for limit, leaves in (
            (setup.link.bandwidth, tuple(rates)),
            *((parent.limit, parent.leaves) for parent in setup.parents),
        ):
            asked = sum(max(0.0, wanted[path] - rates[path]) for path in members if path in leaves)
            left = limit - sum(rates[path] for path in leaves)
            part = min(part, max(0.0, left / asked)) if asked > 0 else part
        for path in members:
            rates[path] += part * max(0.0, wanted[path] - rates[path])
    return {cls.path: max(cls.lowest, whole(rates[cls.path])) for cls in setup.classes}


def queue_for(cls: ClassSetup, rate: int, present: int, observation: Observation) -> int:
    """As long as at first, and never shorter than what waits in it."""
    low, high = cls.bounds.queue
    backlog = observation.classes[cls.path].backlog_bytes if cls.path in observation.classes else 0
    wanted = int(cls.static.queue * rate / cls.static.rate)
    return min(high, max(low, wanted, min(present, backlog)))
