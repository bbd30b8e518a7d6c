"""One tick of the control law: (setup, state, observation, now) -> (state, decision). Pure, so it can be replayed."""

from __future__ import annotations

from dataclasses import replace

from shaper.control.allocate import MET, Claim, Share, allocate
from shaper.control.aqm import Aim, aim, kept
from shaper.control.infeasible import infeasible
from shaper.control.keeping import keep
from shaper.control.needs import Need, need
from shaper.control.queue import queue_limit, reach
from shaper.control.rails import recent, settle
from shaper.control.setup import ClassSetup, Setup
from shaper.control.state import Memory, State, initial
from shaper.control.tins import aim_all
from shaper.control.tuning import Tuning
from shaper.control.words import answered, distrust, held, reason
from shaper.control.yielding import entitle
from shaper.model.decision import Change, Decision, Grant
from shaper.model.observation import Observation
from shaper.model.policy import Tier
from shaper.units import format_duration

DEFAULTS = Tuning()


def step(
    setup: Setup, state: State, observation: Observation, *, now: float, tuning: Tuning = DEFAULTS
) -> tuple[State, Decision]:
    """Decides one tick; `now` in seconds of a clock that never goes back. Ticks are 0.05 to 1 s apart and may vary."""
    if not observation.fresh:
        return _without_counters(setup, state, now=now, tuning=tuning)
    if setup.tins:
        return aim_all(setup, state, observation, now=now, tuning=tuning)
    changed_at = recent(state.changed_at, now, tuning)
    spent = len(changed_at) >= tuning.changes_per_minute
    memories, needs = _look(setup, state, observation, spent=spent, now=now, tuning=tuning)
    claims = {cls.path: _claim(cls, memories[cls.path], needs.get(cls.path), tuning) for cls in setup.classes}
    shares = allocate(setup, tuple(claims.values()))

    urgent = {path for path, wanted in needs.items() if wanted.missed}
    present = {path: memory.grant.rate for path, memory in memories.items()}
    targets = {cls.path: cls.on_grid(shares[cls.path].rate) for cls in setup.classes}
    harmed = {cls.path: _harmed(setup, cls, memories, now=now) for cls in setup.classes if cls.lowest < cls.guarantee}
    undone = {path for path, found in harmed.items() if found}
    rates = settle(setup, present, targets, urgent=urgent, undone=undone, spent=spent, tuning=tuning)
    takers = [path for path, rate in rates.items() if rate > present[path]]
    within = reach(setup, needs, rates)

    changes: list[Change] = []
    for cls in setup.classes:
        path, memory, wanted = cls.path, memories[cls.path], needs.get(cls.path)
        before, queue, aimed = memory.grant, memory.grant.queue, kept(memory)
        if wanted is not None and (not spent or path in urgent):
            backlog = observation.classes[path].backlog_bytes
            queue = queue_limit(
                setup, cls, wanted, rate=rates[path], within=within[path], backlog=backlog, present=queue, tuning=tuning
            )
        if wanted is not None:
            seen = observation.classes[path]
            rate = max(rates[path], wanted.throughput)
            aimed = aim(setup, cls, memory, wanted, seen=seen, rate=rate, spent=spent, now=now, tuning=tuning)
        after = _grant(cls, rates[path], queue, aimed.target)
        if after != before:
            why = reason(
                cls,
                wanted or Need(),
                before,
                after,
                takers=takers,
                harmed=harmed.get(path, ()),
                bound=shares[path].bound,
                within=within[path],
            )
            changes.append(Change(path, before, after, why, shares[path].bound, int(claims[path].needed)))
        memories[path] = _remember(memory, claims[path], shares[path], after, aimed, within=within[path], now=now)
    thin = [
        path
        for path, wanted in needs.items()
        if wanted.thin and memories[path].level > max(claims[path].needed, claims[path].lowest) + 8
    ]
    short, given_up = infeasible(setup, needs, shares, tuning)
    return State(memories, now, (*changed_at, *(now for _ in changes))), Decision(
        {path: memory.grant for path, memory in memories.items()},
        tuple(changes),
        short,
        held(setup, needs, kept=thin, capture=distrust(observation.capture), spent=spent and rates != targets),
        {path: int(wanted.rate) for path, wanted in needs.items()},
        answered(needs, shares, targets, rates, urgent=urgent, spent=spent),
        given_up,
    )


def _look(
    setup: Setup, state: State, observation: Observation, *, spent: bool, now: float, tuning: Tuning
) -> tuple[dict[str, Memory], dict[str, Need]]:
    """What every class that was observed needs, and what is remembered of it."""
    memories, needs = dict(state.classes), dict[str, Need]()
    trusted = observation.capture.trusted
    for cls in setup.classes:
        seen = observation.classes.get(cls.path)
        if seen is not None and seen.seconds > 0:
            memories[cls.path], needs[cls.path] = need(
                setup, cls, memories[cls.path], seen, now=now, trusted=trusted, tuning=tuning
            )
    content = {
        tier: all(
            _content(memories[cls.path], needs[cls.path], tuning)
            for cls in setup.classes
            if cls.tier == tier and cls.path in needs
        )
        for tier in Tier
    }
    lossy_at: dict[Tier, float] = {}
    for cls in setup.classes:
        if (at := memories[cls.path].lossy_at) is not None:
            lossy_at[cls.tier] = max(at, lossy_at.get(cls.tier, at))
    surplus = {cls.path: _surplus(cls, needs[cls.path]) for cls in setup.classes if cls.path in needs}
    beyond = sum(surplus.values())
    unharmed = {
        cls.tier for cls in setup.classes if surplus.get(cls.path) and _unharmed(cls, memories[cls.path], now, tuning)
    }
    for cls in setup.classes:
        if (wanted := needs.get(cls.path)) is None:
            continue
        calm = all(well for tier, well in content.items() if tier < cls.tier)
        takeable = beyond - surplus[cls.path]
        memory = entitle(
            cls,
            memories[cls.path],
            wanted,
            calm=calm,
            takeable=takeable,
            careful=any(tier < cls.tier for tier in unharmed),
            lossy_at=max((at for tier, at in lossy_at.items() if tier < cls.tier), default=None),
            spent=spent,
            seconds=observation.seconds,
            now=now,
            tuning=tuning,
        )
        memories[cls.path] = keep(cls, memory, wanted.rate + wanted.drain, now=now, thin=wanted.thin, tuning=tuning)
    return memories, needs


def _unharmed(cls: ClassSetup, memory: Memory, now: float, tuning: Tuning) -> bool:
    """It has a target that drops miss, and dropped nothing of late, or only since its queue is one for greedy TCP."""
    misses = bool(cls.sla.bounds) or cls.sla.loss is not None
    revealed_at = memory.pace.revealed_at
    revealed = revealed_at is not None and now - revealed_at <= tuning.window
    return misses and (revealed or memory.dropped_at is None or now - memory.dropped_at >= tuning.restore_wait)


def _surplus(cls: ClassSetup, wanted: Need) -> float:
    """What it could do without, in bit/s. With less its queue lasts longer in the same proportion; TCP that comes at a
    pace of its own would lack all that it is not given."""
    if wanted.modest:
        return 0.0
    return max(0.0, wanted.throughput - max(cls.guarantee, wanted.rate, wanted.throughput * wanted.strain))


def _content(memory: Memory, wanted: Need, tuning: Tuning) -> bool:
    """The class has the rate that it needs and misses nothing that a rate could mend."""
    met = memory.grant.rate >= wanted.rate * (1 - tuning.apply_up) - tuning.apply_bits
    return met and (not wanted.missed or wanted.capacity is not None)


def _claim(cls: ClassSetup, memory: Memory, wanted: Need | None, tuning: Tuning) -> Claim:
    needed = wanted.rate + wanted.drain if wanted is not None else 0.0
    entitled = max(cls.lowest, memory.restored, min(needed, cls.guarantee))
    needed, held = cls.stepped(needed), cls.stepped(memory.level)
    firm = held if needed >= held * (1 - tuning.slack) else 0.0
    return Claim(
        cls.path, cls.tier, cls.weight, cls.lowest, entitled, needed, held, cls.highest, firm=firm, met=memory.met
    )


def _harmed(setup: Setup, cls: ClassSetup, memories: dict[str, Memory], *, now: float) -> list[str]:
    """The classes that dropped too much after its last rise, which is therefore taken back in this tick."""
    trial = memories[cls.path].trial
    if trial is None or not trial.undone or trial.at != now:
        return []
    return [other.path for other in setup.classes if other.tier < cls.tier and memories[other.path].lossy_at == now]


def _grant(cls: ClassSetup, rate: int, queue: int, target: int) -> Grant:
    """The ceiling stays where it was compiled, unless the rate has passed it."""
    low, high = cls.bounds.ceil
    return Grant(rate, max(rate, min(high, max(low, cls.static.ceil))), queue, target)


def _remember(
    memory: Memory, claim: Claim, share: Share, after: Grant, aimed: Aim, *, within: float, now: float
) -> Memory:
    """What was not granted is not held, and is not given back again at once when room returns."""
    room = share.rate + 8
    risen, trial = after.rate > memory.grant.rate, memory.trial
    return replace(
        memory,
        grant=after,
        within=within,
        trial=replace(trial, applied=True) if risen and trial is not None and trial.at == now else trial,
        level=memory.level if memory.level <= room else float(share.rate),
        restored=min(memory.restored, room) if claim.entitled > room else memory.restored,
        throttled=claim.needed > room,
        met=0 < claim.needed * MET <= room,
        raised_at=now if risen else memory.raised_at,
        aimed_at=aimed.moved_at,
        longer_since=aimed.longer_since,
    )


def _without_counters(setup: Setup, state: State, *, now: float, tuning: Tuning) -> tuple[State, Decision]:
    """Nothing was seen: hold what there is, and after a while go back to the static allocation."""
    since = now if state.fresh_at is None else state.fresh_at
    if now - since < tuning.stale:
        waited = f"no fresh counters for {format_duration(now - since)}"
        grants = {path: memory.grant for path, memory in state.classes.items()}
        return replace(state, fresh_at=since), Decision(grants, held=waited)
    why = f"no fresh counters for {format_duration(tuning.stale)}: static allocation"
    changes = tuple(
        Change(path, memory.grant, grant, why, "none", grant.rate)
        for path, grant in setup.static().items()
        if (memory := state.classes[path]).grant != grant
    )
    return State(initial(setup).classes, since), Decision(setup.static(), changes, held="stale")
