"""From probes to the delay that queueing adds: a baseline for each reflector, who of them is believed, and the vote."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace

from shaper.control.link.state import Excess, Heard, Setup, State
from shaper.control.link.tuning import Tuning
from shaper.model.link_rate import LinkSample


def listen(state: State, samples: Iterable[LinkSample], *, now: float, quiet: bool, tuning: Tuning) -> State:
    """What the samples say. Baselines only rise while the whole link is `quiet`."""
    heard, fresh = dict(state.heard), [one for one in state.excesses if one.came > now - 2 * tuning.fresh]
    answered, one_way = state.answered_at, state.one_way
    for sample in sorted(samples, key=lambda one: one.at):
        before = heard.get(sample.reflector, Heard())
        known = replace(before, answered=(*before.answered, sample.delay is not None)[-tuning.trial :])
        if sample.delay is not None:
            answered = now if answered is None else max(answered, now)
            if state.ignored_before is None or sample.at >= state.ignored_before:
                known, excess = _judged(known, sample, sample.delay, quiet=quiet, tuning=tuning)
                fresh.append(Excess(sample.reflector, sample.at, sample.at + sample.delay, excess))
                one_way = sample.way is not None
        heard[sample.reflector] = known
    fresh.sort(key=lambda one: one.at)
    return replace(state, heard=heard, excesses=tuple(fresh), answered_at=answered, one_way=one_way)


def _judged(known: Heard, sample: LinkSample, delay: float, *, quiet: bool, tuning: Tuning) -> tuple[Heard, float]:
    """The reflector's own delay by now, and by how much this sample exceeds it.

    Clocks drift, so a one-way delay alone proves nothing: the lesser of the two excesses counts.
    """
    seconds = 0.0 if known.at is None else max(0.0, sample.at - known.at)
    weight = min(1.0, seconds / tuning.rise) if quiet else 0.0
    trip = _towards(known.round_trip, delay, fall=tuning.fall, rise=weight)
    excess = max(0.0, delay - trip)
    way = known.way
    if sample.way is not None:
        way = _towards(known.way, sample.way, fall=tuning.fall, rise=weight)
        excess = min(excess, max(0.0, sample.way - way))
    return replace(known, round_trip=trip, way=way, at=sample.at), excess


def _towards(own: float | None, delay: float, *, fall: float, rise: float) -> float:
    """The first sample is the baseline; no delay is made up."""
    return delay if own is None else own + (fall if delay < own else rise) * (delay - own)


def rebased(state: State) -> State:
    """The least delay of the last seconds is the way's own from now on."""
    least: dict[str, float] = {}
    for one in state.excesses:
        least[one.reflector] = min(one.delay, least.get(one.reflector, one.delay))
    heard = {
        name: replace(
            known,
            round_trip=known.round_trip + least.get(name, 0.0) if known.round_trip is not None else None,
            way=known.way + least.get(name, 0.0) if known.way is not None else None,
        )
        for name, known in state.heard.items()
    }
    return replace(state, heard=heard, excesses=())


def threshold(setup: Setup, rate: float) -> float:
    """From how many seconds on a sample is late: what is allowed, and the time of one packet at the rate."""
    return setup.bloat + setup.packet * 8 / rate


def late_votes(setup: Setup, state: State, *, now: float, tuning: Tuning) -> bool:
    """Enough of the newest samples are late, at most of the reflectors that answer: one alone is its own matter."""
    jury = [one for one in state.excesses if one.came > now - tuning.fresh][-tuning.jury :]
    limit = threshold(setup, state.rate)
    if sum(one.delay > limit for one in jury) < tuning.votes:
        return False
    newest = _newest(state, now=now, tuning=tuning)
    return 2 * sum(delay > limit for delay in newest.values()) > len(newest)


def queueing(state: State, *, now: float, tuning: Tuning) -> float | None:
    """The delay in seconds that the link's queue adds, by the reflector that sees the least of it; None if unheard."""
    return min(_newest(state, now=now, tuning=tuning).values(), default=None)


def _newest(state: State, *, now: float, tuning: Tuning) -> Mapping[str, float]:
    """Of each reflector the median of its last three samples."""
    found: dict[str, list[float]] = {}
    for one in reversed(state.excesses):
        if one.came > now - tuning.fresh and len(found.setdefault(one.reflector, [])) < 3:
            found[one.reflector].append(one.delay)
    return {name: statistics.median(delays) for name, delays in found.items()}


def replaced(setup: Setup, state: State, *, now: float, tuning: Tuning) -> tuple[State, str]:
    """A reflector that does not answer, or is late alone, goes to the end of the line; which and why, "" for none.

    Where none answers nobody is to blame.
    """
    newest, limit = _newest(state, now=now, tuning=tuning), threshold(setup, state.rate)
    heard = dict(state.heard)
    if len(newest) > 1:
        for name, delay in newest.items():
            others = [other for each, other in newest.items() if each != name]
            odd = delay > limit and all(other <= limit for other in others)
            heard[name] = replace(heard[name], odd=(*heard[name].odd, odd)[-tuning.trial :])
    state = replace(state, heard=heard)
    probed = state.order[: tuning.pingers]
    if not any(_answers(heard.get(name, Heard()), tuning) for name in probed):
        return state, ""
    for name in probed if len(state.order) > len(probed) else ():
        known = heard.get(name, Heard())
        full = len(known.answered) == tuning.trial
        silent = full and 2 * sum(known.answered) < tuning.trial
        if silent or (len(known.odd) == tuning.trial and 2 * sum(known.odd) > tuning.trial):
            place = state.order.index(name)
            spare = state.order[len(probed)]
            order = (*state.order[:place], spare, *state.order[place + 1 : len(probed)])
            order = (*order, *state.order[len(probed) + 1 :], name)
            left = {each: one for each, one in heard.items() if each != name}
            excesses = tuple(one for one in state.excesses if one.reflector != name)
            why = f"{name} {'does not answer' if silent else 'is late alone'}: {spare} is asked in its place"
            return replace(state, order=order, heard=left, excesses=excesses), why
    return state, ""


def _answers(known: Heard, tuning: Tuning) -> bool:
    return sum(known.answered[-tuning.trial :]) * 2 >= max(1, len(known.answered))
