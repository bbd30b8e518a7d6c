"""One tick of the link's law: (setup, state, what was seen, now) -> (state, decision). Pure, no clock, no chance.

Where a delay says that the link is too full, the rate goes straight to what is seen to come through, less what drains
the queue that stands; it is not searched for by halves. From there it grows under load, slowly near the last capacity
that was seen, ever faster beyond it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from shaper.control.link.capacity import between, capacity
from shaper.control.link.hearing import late_votes, listen, queueing, rebased, replaced, threshold
from shaper.control.link.state import Setup, State
from shaper.control.link.tuning import Tuning
from shaper.model.link_rate import LinkDecision, LinkMove, LinkSeen
from shaper.units import format_duration, format_rate

DEFAULTS = Tuning()
_KEPT = 12.0
"""Seconds for which it is known what was sent: longer than any queue that a probe's answer comes through."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """What the tick shows: rates in bit/s, the queueing delay in s; `late` as voted, `fresh` that answers came.

    From `limit` on a delay is late, below `low` it is none: both with the time of one packet.
    """

    now: float
    seconds: float
    achieved: float
    load: float
    delay: float | None
    limit: float
    low: float
    late: bool
    fresh: bool
    blamed: bool


def step(
    setup: Setup, state: State, seen: LinkSeen, *, now: float, tuning: Tuning = DEFAULTS
) -> tuple[State, LinkDecision]:
    """Decides one tick; `now` in seconds of a clock that never goes back."""
    state = _counted(setup, state, seen, now)
    achieved = _achieved(state, seen, now)
    load = achieved / state.rate
    beside = 0.0 if seen.beside is None else seen.beside
    fresh = any(sample.delay is not None for sample in seen.samples)
    state = _still(state, seen, fresh=fresh, now=now, tuning=tuning)
    quiet = load < tuning.idle and beside < tuning.idle and not state.draining
    state = listen(state, seen.samples, now=now, quiet=quiet, tuning=tuning)
    state, swapped = replaced(setup, state, now=now, tuning=tuning) if fresh else (state, "")
    limit = threshold(setup, state.rate)
    late = fresh and late_votes(setup, state, now=now, tuning=tuning)
    delay = queueing(state, now=now, tuning=tuning)
    if late and delay is not None:
        delay = max(delay, limit)  # the reflector that sees the least of it may only be the last to answer
    sight = _Sight(
        now,
        seen.seconds,
        achieved,
        load,
        delay,
        limit,
        limit - setup.bloat / 2,
        late,
        fresh,
        _blamed(state, load, beside, tuning),
    )
    state, why, held = _moved(setup, state, sight, tuning)
    state = replace(state, rate=min(float(setup.most), max(float(setup.least), state.rate)))
    return _decided(setup, state, sight, why, held or swapped, tuning)


def _counted(setup: Setup, state: State, seen: LinkSeen, now: float) -> State:
    """With what was sent in this tick; within what the policy allows, wherever the rate was before."""
    history = state.sent or ((now - seen.seconds, 0.0),)
    history = (*(one for one in history if one[0] > now - _KEPT), (now, history[-1][1] + seen.sent_bytes * 8))
    rate = min(float(setup.most), max(float(setup.least), state.rate))
    return replace(state, rate=rate, sent=history, answered_at=now if state.answered_at is None else state.answered_at)


def _achieved(state: State, seen: LinkSeen, now: float) -> float:
    """Over the last half second, or the tick where that is longer."""
    bits = between(state.sent, now - 0.5, now) if seen.seconds < 0.5 else None
    return seen.sent_bytes * 8 / max(seen.seconds, 1e-3) if bits is None else bits / 0.5


def _still(state: State, seen: LinkSeen, *, fresh: bool, now: float, tuning: Tuning) -> State:
    """A link over which nothing goes and nothing comes: what was on its way meanwhile says nothing of a queue."""
    nothing = not fresh and seen.sent_bytes * 8 <= tuning.still * state.rate * seen.seconds
    since = (now - seen.seconds if state.still_since is None else state.still_since) if nothing else None
    stalled = since is not None and now - since >= tuning.stalled
    return replace(state, still_since=since, ignored_before=now if stalled else state.ignored_before)


def _blamed(state: State, load: float, beside: float, tuning: Tuning) -> bool:
    """Whether a delay may be this direction's: an idle one never is, and a busier neighbour is rather."""
    if state.one_way or state.draining:
        return load >= tuning.idle or state.draining
    return load >= tuning.loaded or (load >= tuning.idle and beside < tuning.loaded)


def _moved(setup: Setup, state: State, sight: _Sight, tuning: Tuning) -> tuple[State, str, str]:
    """The state with the rate that is wanted now, why it moved, and why it did not."""
    unheard = sight.now - (state.answered_at or sight.now)
    if unheard >= tuning.lost:
        why = f"no reflector has answered for {format_duration(float(int(unheard)))} (is {_KIND} blocked?)"
        state = replace(_back(setup, state, sight, tuning), draining=False, vain=None)
        return state, f"{why}: back towards the base rate", f"{why}: not judged by delay"
    if state.still_since is not None and sight.now - state.still_since >= tuning.stalled:
        return state, "", "the link stands still: nothing goes, nothing comes back"
    if not sight.fresh or sight.delay is None:
        return state, "", f"no answers for {format_duration(unheard)}" if unheard >= tuning.stalled else ""
    if sight.late and sight.blamed:
        return _late(setup, state, sight, tuning)
    state = replace(state, vain=None)
    if state.draining:
        return _drained(setup, state, sight, tuning)
    if sight.load >= tuning.loaded:
        if sight.delay < sight.low:
            return _grown(setup, state, sight, tuning)
        return _stepped_back(setup, state, sight, tuning)
    if sight.load < tuning.loaded and not sight.late:
        return _back(setup, state, sight, tuning), "no load: back towards the base rate", ""
    return state, "", "late, but not by what goes this way" if sight.late else ""


_KIND = "ICMP"


def _late(setup: Setup, state: State, sight: _Sight, tuning: Tuning) -> tuple[State, str, str]:
    """Straight to what comes through, and below it while a queue is to be drained."""
    assert sight.delay is not None
    state = _in_vain(setup, state, sight, tuning)
    if state.vain is not None and sight.now - state.vain[0] >= tuning.resigned:
        settled = replace(rebased(state), vain=None, draining=False, capacity=None)
        return (
            settled,
            "",
            f"as late at the least rate for {format_duration(tuning.resigned)}: the way itself is longer",
        )
    if state.cut_at is not None and sight.now - state.cut_at < tuning.rest:
        return state, "", ""
    through = capacity(state.excesses, state.sent, standing=setup.bloat / 2, tuning=tuning)
    by = f"{format_duration(sight.delay)} late"
    if through is None:
        part = min(1.0, max(0.0, (sight.delay - sight.limit) / (4 * setup.bloat)))
        rate = state.rate * (tuning.mildest - part * (tuning.mildest - tuning.hardest))
        why = f"{by}: cut in proportion"
    else:
        if through * tuning.aim >= state.rate and not state.draining:
            return state, "", ""  # it drains by itself, or what was held up on the way comes together
        through = min(float(setup.most), through)
        if state.draining and state.capacity is not None:  # a queue that loses packets shows too much
            through = min(through, state.capacity)
        rate = _draining(through, sight.delay, tuning)
        why = f"{by} while {format_rate(int(through))} came through"
    return (
        replace(
            state,
            rate=rate,
            cut_at=sight.now,
            draining=True,
            growth=0.0,
            capacity=through if through is not None else state.capacity,
        ),
        why,
        "",
    )


def _in_vain(setup: Setup, state: State, sight: _Sight, tuning: Tuning) -> State:
    """Since when the rate is at its least and the delay does not answer to that."""
    assert sight.delay is not None
    if state.rate > setup.least * (1 + tuning.band):
        return replace(state, vain=None)
    if state.vain is None or sight.delay < tuning.answers * state.vain[1]:
        return replace(state, vain=(sight.now, sight.delay))
    return state


def _draining(through: float, delay: float, tuning: Tuning) -> float:
    """The rate at which a queue of `delay` seconds is gone within `drain` seconds."""
    return through * max(tuning.deepest, tuning.aim - delay / tuning.drain)


def _drained(setup: Setup, state: State, sight: _Sight, tuning: Tuning) -> tuple[State, str, str]:
    """Back to what comes through, as far as the queue is gone."""
    assert sight.delay is not None
    empty = sight.delay < sight.low
    state = replace(state, draining=not empty)
    if state.capacity is None:
        return state, "", ""
    rate = _draining(state.capacity, 0.0 if empty else sight.delay, tuning)
    if rate <= state.rate:
        return state, "", ""
    left = "the queue is drained" if empty else f"{format_duration(sight.delay)} left to drain"
    return replace(state, rate=rate), f"{left}: back to what came through, {format_rate(int(state.capacity))}", ""


def _grown(setup: Setup, state: State, sight: _Sight, tuning: Tuning) -> tuple[State, str, str]:
    """More under load: slowly about what came through last, ever faster where that was long ago passed."""
    assert sight.delay is not None
    near = state.capacity is not None and state.rate <= tuning.near * state.capacity
    faster = max(tuning.slow, state.growth * 2 ** (sight.seconds / tuning.double))
    growth = tuning.slow if near else min(tuning.fast, faster)
    room = 1 - sight.delay / sight.low
    if state.capacity is not None and state.rate <= tuning.wary * state.capacity:
        room *= room
    rate = state.rate * math.exp(min(growth * sight.seconds, tuning.stride) * room)
    return replace(state, rate=rate, growth=growth), "loaded and not late: more is tried", ""


def _stepped_back(setup: Setup, state: State, sight: _Sight, tuning: Tuning) -> tuple[State, str, str]:
    """What was tried was too much: a queue grows that is not late yet. Less than the cut that would come of it."""
    assert sight.delay is not None
    rested = state.cut_at is None or sight.now - state.cut_at >= tuning.rest
    standing = sight.low - setup.bloat / 4
    stands = all(one.delay >= standing for one in state.excesses[-tuning.jury :])  # jitter comes down now and then
    through = capacity(state.excesses, state.sent, standing=standing, tuning=tuning)
    if state.growth <= 0 or not (rested and stands) or through is None or through * (1 + tuning.band) >= state.rate:
        return state, "", ""
    why = f"{format_duration(sight.delay)} of queue while {format_rate(int(through))} came through: a step back"
    rate = min(state.rate, _draining(through, sight.delay, tuning))
    return replace(state, rate=rate, cut_at=sight.now, draining=True, growth=0.0, capacity=through), why, ""


def _back(setup: Setup, state: State, sight: _Sight, tuning: Tuning) -> State:
    """Towards the base rate, and not beyond it."""
    factor = math.exp(tuning.back * sight.seconds)
    if state.rate > setup.base:
        rate = max(float(setup.base), state.rate / factor)
    else:
        rate = min(float(setup.base), state.rate * factor)
    return replace(state, rate=rate, growth=0.0)


def _decided(
    setup: Setup, state: State, sight: _Sight, why: str, held: str, tuning: Tuning
) -> tuple[State, LinkDecision]:
    """What is asked of the kernel: moves that are worth it, in whole bytes a second."""
    wanted = int(state.rate) // 8 * 8
    arrived = wanted != state.applied and wanted in (setup.least, setup.base, setup.most)
    allowed = setup.least <= state.applied <= setup.most
    move = None
    if not allowed or arrived or abs(wanted - state.applied) >= tuning.band * state.applied:
        bound = "least" if wanted <= setup.least else "most" if wanted >= setup.most else "none"
        reason = why or "within what the policy allows"
        move = LinkMove(state.applied, wanted, reason, bound, sight.delay, sight.achieved, state.capacity)
        state = replace(state, applied=wanted)
    probed = state.order[: tuning.pingers]
    return state, LinkDecision(state.applied, move, probed, sight.delay, state.capacity, held)
