"""What a class's traffic is made of: TCP or not, and TCP that takes whatever it is given or comes at a pace of its own.

Greedy TCP keeps the queue of a bottleneck full (Appenzeller, Keslassy and McKeown, Sizing Router Buffers, 2004), or
takes all that the others leave of the link. Many visitors who ask for little each do neither. Drops and delays do not
tell them apart: in a short queue both lose a few per cent, and wait little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shaper.control.setup import ClassSetup
from shaper.control.state import Memory
from shaper.control.tuning import Tuning
from shaper.model.observation import ClassObservation


@dataclass(frozen=True, slots=True)
class Mixture:
    """`share`, `elastic_at`, `fill` and `greedy_until` as in Memory, after this tick.

    `elastic` says that there is greedy TCP in the class, `paced` that there is TCP and that it comes at a pace of its
    own; `revealed` that it was taken for paced until this tick, and is greedy.
    """

    share: float | None
    elastic_at: float | None
    fill: float
    greedy_until: float | None
    elastic: bool
    paced: bool
    revealed: bool


def mixture(
    cls: ClassSetup,
    memory: Memory,
    seen: ClassObservation,
    *,
    throughput: float,
    now: float,
    trusted: bool,
    tuning: Tuning,
) -> Mixture:
    """Of one class in one tick. `throughput` is its own of late, in bit/s; `trusted` the capture's health."""
    share, elastic_at = memory.share, memory.elastic_at
    if trusted and seen.inelastic is not None and seen.offered > 0:
        share = towards(share, min(1.0, seen.inelastic / seen.offered), seen.seconds / tuning.share_seconds)
        if share < tuning.inelastic_above:
            elastic_at = now
    full = min(1.0, seen.backlog_bytes / max(memory.grant.queue, 1))
    fill = towards(memory.fill, full, seen.seconds / tuning.fill_seconds)
    if elastic_at is None or now - elastic_at > tuning.window:
        return Mixture(share, elastic_at, fill, None, elastic=False, paced=False, revealed=False)
    short = cls.memory or cls.bounds.target[1] > 0  # such a queue does not tell
    greedy = short or fill > tuning.greedy_fill or throughput > tuning.greedy_share * memory.within
    until = now + tuning.greedy_seconds if memory.greedy_until is None else memory.greedy_until
    revealed = greedy and until < now - seen.seconds
    if greedy:
        until = max(until, now + (tuning.greedy_again if revealed else tuning.window))
    elastic = now <= until
    return Mixture(share, elastic_at, fill, until, elastic=elastic, paced=not elastic, revealed=revealed)


def arrived(
    memory: Memory, seen: ClassObservation, mixed: Mixture, *, trusted: bool, tuning: Tuning
) -> tuple[float, Mapping[float, int]]:
    """What came in this tick and is not greedy TCP: in bit/s, and its envelope where that is known."""
    if mixed.paced:
        # It sends less where it is given less: what the others use is nothing that it lacks.
        return min(seen.offered, memory.within / tuning.headroom), {}
    if trusted and seen.inelastic is not None:
        # What was captured and what was counted are not of the same instants: the lesser one is not of the next tick.
        return min(seen.inelastic, seen.offered), seen.envelope
    return seen.offered * (1.0 if mixed.share is None else mixed.share), {}


def towards(mean: float | None, value: float, weight: float) -> float:
    """A mean that follows a value, by its weight of at most 1."""
    return value if mean is None else mean + min(1.0, weight) * (value - mean)
