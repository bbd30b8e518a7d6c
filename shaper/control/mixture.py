"""What a class's traffic is made of: TCP or not, and TCP that takes whatever it is given or comes at a pace of its own.

Greedy TCP keeps the queue of a bottleneck full (Appenzeller, Keslassy and McKeown, Sizing Router Buffers, 2004), or
takes all that the others leave of the link. Many visitors who ask for little each do neither. Drops and delays do not
tell them apart: in a short queue both lose a few per cent, and wait little.
"""

from __future__ import annotations

from dataclasses import dataclass

from shaper.control.setup import ClassSetup, Setup
from shaper.control.state import Memory, Pace
from shaper.control.tuning import Tuning
from shaper.model.observation import ClassObservation


@dataclass(frozen=True, slots=True)
class Mixture:
    """`share`, `elastic_at` and `pace` as in Memory, after this tick.

    `elastic` says that there is TCP in the class, `paced` that it leaves the queue mostly empty, `modest` that it does
    not take all of the link that is left either, and so would lack what it were not given.
    """

    share: float | None
    elastic_at: float | None
    pace: Pace
    elastic: bool
    paced: bool
    modest: bool


def mixture(
    setup: Setup,
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
    elastic = elastic_at is not None and now - elastic_at <= tuning.window
    pace = _pace(setup, cls, memory, seen, elastic=elastic, throughput=throughput, now=now, tuning=tuning)
    paced = elastic and pace.greedy_until is not None and now > pace.greedy_until
    modest = paced and (pace.takes_until is None or now > pace.takes_until)
    return Mixture(share, elastic_at, pace, elastic=elastic, paced=paced, modest=modest)


def _pace(
    setup: Setup,
    cls: ClassSetup,
    memory: Memory,
    seen: ClassObservation,
    *,
    elastic: bool,
    throughput: float,
    now: float,
    tuning: Tuning,
) -> Pace:
    before = memory.pace
    waiting = max(0, seen.backlog_bytes - 2 * setup.link.mtu_frame)  # a frame or two are in transit
    full = min(1.0, waiting / max(memory.grant.queue, 1))
    fill = towards(before.fill, full, min(tuning.fill_tick, seen.seconds / tuning.fill_seconds))
    # What it could have had a while ago: what others take in one tick says nothing of its greed.
    reach = memory.within
    if reach is not None:
        reach = max(reach, towards(before.reach, reach, seen.seconds / tuning.window))
    until, revealed_at, doubt = before.greedy_until, before.revealed_at, before.doubt
    takes_until = before.takes_until
    if elastic:
        until = now + tuning.greedy_seconds if until is None else until
        if cls.memory or cls.bounds.target[1] > 0 or fill > tuning.greedy_fill:  # a queue kept short does not tell
            if until < now - seen.seconds:
                doubt = min(max(tuning.greedy_again, 2 * doubt), tuning.greedy_longest)
                revealed_at, until = now, now + doubt
            until = max(until, now + tuning.window)
        if reach is not None and throughput > tuning.greedy_share * reach:
            takes_until = now + tuning.window
    elif until is not None and until <= now:
        until = None
    return Pace(fill, until, revealed_at, doubt, reach, takes_until)


def towards(mean: float | None, value: float, weight: float) -> float:
    """A mean that follows a value, by its weight of at most 1."""
    return value if mean is None else mean + min(1.0, weight) * (value - mean)
