"""Where all classes are tins of one CAKE: nothing of them moves but its AQM's target, which is one for all.

Each asks for a target by the law of a leaf's. The shortest that is asked for holds, and it grows only when every class
asks for more; one without a delay to keep, or with too few packets to judge it by, would have the compiled one.
"""

from __future__ import annotations

from dataclasses import replace

from shaper.control.aqm import Aim, aim
from shaper.control.needs import Need, need
from shaper.control.rails import recent
from shaper.control.setup import ClassSetup, Setup
from shaper.control.state import Memory, State
from shaper.control.tuning import Tuning
from shaper.control.words import aimed_for_all, distrust
from shaper.model.decision import Change, Decision, Want
from shaper.model.observation import Observation


def aim_all(
    setup: Setup, state: State, observation: Observation, *, now: float, tuning: Tuning
) -> tuple[State, Decision]:
    """One tick. A capture that is not trusted moves nothing, since nothing else is known of TCP's delay."""
    memories, needs, aims = dict(state.classes), dict[str, Need](), dict[str, Aim]()
    changed_at = recent(state.changed_at, now, tuning)
    spent = len(changed_at) >= tuning.changes_per_minute
    trusted = observation.capture.trusted
    for cls in setup.classes:
        path, seen = cls.path, observation.classes.get(cls.path)
        if seen is None or seen.seconds <= 0:
            continue
        memory, wanted = need(setup, cls, memories[path], seen, now=now, trusted=trusted, tuning=tuning)
        memories[path], needs[path] = memory, wanted
        if trusted:
            asked = replace(wanted, excess=-1.0, pressed=False) if wanted.excess is None else wanted
            rate = _served(setup, cls)
            aims[path] = aim(setup, cls, memory, asked, seen=seen, rate=rate, spent=spent, now=now, tuning=tuning)

    decisive = min(aims, key=lambda path: aims[path].target, default="")
    changes: list[Change] = []
    for cls in setup.classes:
        path, memory = cls.path, memories[cls.path]
        before = memory.grant
        after = replace(before, target=aims[decisive].target) if aims else before
        if after != before:
            why = aimed_for_all(path, needs[decisive], before, after, decisive=decisive)
            changes.append(Change(path, before, after, why, "none", after.rate))
        memories[path] = _remember(replace(memory, grant=after), before.target, aims.get(path), now=now)
    times = (*changed_at, now) if changes else changed_at  # it is one change of one queue
    words = (
        "" if trusted else f"capture not trusted ({distrust(observation.capture)}): nothing moves",
        "changes a minute used up" if spent else "",
    )
    return State(memories, now, times), Decision(
        {path: memory.grant for path, memory in memories.items()},
        tuple(changes),
        held="; ".join(filter(None, words)),
        needs={path: int(wanted.rate) for path, wanted in needs.items()},
        wants={
            path: Want(int(wanted.rate), 0, wanted.source, wanted.missed, memories[path].grant.rate, "none")
            for path, wanted in needs.items()
        },
    )


def _served(setup: Setup, cls: ClassSetup) -> float:
    """The rate in bit/s by whose frames the kernel bounds the tin's own target: its threshold."""
    return cls.static.rate * (setup.link.share or 1.0)


def _remember(memory: Memory, before: int, asked: Aim | None, *, now: float) -> Memory:
    """Who asked for a longer target while another would not goes on asking."""
    if memory.grant.target != before:
        return replace(memory, aimed_at=now, longer_since=None)
    if asked is not None and asked.target > before:
        return memory
    return replace(memory, longer_since=asked.longer_since if asked is not None else None)
