"""Everything the control law remembers, as a value: the same state and the same observation give the same decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shaper.control.setup import Setup
from shaper.model.decision import Allocation, Grant

Counted = tuple[float, int, int]
"""When a tick ended, how many packets came to a class in it, and how many of them were dropped."""


@dataclass(frozen=True, slots=True)
class Peak:
    """A need seen at a time: bit/s, and where the figure comes from, in words. `bare` is it without any headroom."""

    at: float
    rate: float
    source: str
    bare: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """The last rise of what a yielding class is given back: when, from how many bit/s, by how many at most.

    `careful` says that a class above lost nothing before the first, so that it is to blame where one does after it;
    `applied` that the rate rose by it; `undone` that it was taken back, and the next waits for `patience` seconds.
    """

    at: float
    before: float
    step: float
    careful: bool = True
    applied: bool = False
    undone: bool = False
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """By what greedy TCP in a class is told from TCP that comes at a pace of its own. Times in seconds.

    `fill` is how full its queue was of late, as a share of its limit; until `greedy_until` it is taken to fill any
    (None before there was some), at `revealed_at` it last did so though it was not, and `doubt` is for how long it was
    taken for greedy then, 0 before. `reach` is the most that the class could count on of late, in bit/s; until
    `takes_until` it is taken to want all of that.
    """

    fill: float = 0.0
    greedy_until: float | None = None
    revealed_at: float | None = None
    doubt: float = 0.0
    reach: float | None = None
    takes_until: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one class.

    `peaks` are the needs of the window, falling, the largest first; `integral` the exponent of the feedback; `level`
    (bit/s) the rate that the class keeps, `grown_at` when it last rose, `lower_since` since when the need has been well
    below it, and `lower_most` (bit/s) at most; `share` the inelastic share of its traffic when the capture was last
    trusted, None before that; `throughput` bit/s smoothed over about two seconds; `pace` what is known of its TCP's;
    `within` bit/s that it could count on after the last tick while it borrows; `restored` the part of the guarantee, in
    bit/s, that a yielding class was given back, `harmed_since` since when it has been short of it, `eased_since` since
    when it could do without, `trial` its last rise of that; `second` are the ticks of the last second, and `dropped_at`
    is when it last dropped anything, `lossy_at` when it did so too often in one to be given less, though it had the
    rate that it needed (both of classes with a target for delay or loss); `throttled` whether it got less than it
    needed, `met` whether it got about that much, `raised_at` when its rate last rose. `asked` is the present need
    without headroom, in bit/s, evened out since it jumped last, at `asked_since`. `aimed_at` is when the target of its
    AQM moved last, `longer_since` since when a longer one has been called for.
    """

    grant: Grant
    level: float
    restored: float
    peaks: tuple[Peak, ...] = ()
    integral: float = 0.0
    share: float | None = None
    elastic_at: float | None = None
    throughput: float | None = None
    pace: Pace = Pace()
    within: float | None = None
    grown_at: float | None = None
    lower_since: float | None = None
    lower_most: float = 0.0
    harmed_since: float | None = None
    eased_since: float | None = None
    trial: Trial | None = None
    second: tuple[Counted, ...] = ()
    dropped_at: float | None = None
    lossy_at: float | None = None
    raised_at: float | None = None
    throttled: bool = False
    met: bool = False
    asked: float = 0.0
    asked_since: float = 0.0
    aimed_at: float | None = None
    longer_since: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """`fresh_at` is when counters last came (None before the first); `changed_at` the times of the last changes."""

    classes: Mapping[str, Memory]
    fresh_at: float | None = None
    changed_at: tuple[float, ...] = ()


def initial(setup: Setup) -> State:
    """Nothing seen yet, every class at its static grant."""
    return State(
        {cls.path: Memory(cls.static, float(cls.static.rate), float(cls.lowest)) for cls in setup.classes},
    )


def resume(state: State, allocation: Allocation, *, before: State | None = None) -> State:
    """The state with other grants: what the kernel holds, after a policy came or a change was refused.

    `before` is the state under another policy: classes that stay keep what was remembered of them.
    """
    remembered = before.classes if before else {}
    memories = {path: remembered.get(path, memory) for path, memory in state.classes.items()}
    return State(
        {path: replace(memory, grant=allocation.get(path, memory.grant)) for path, memory in memories.items()},
        before.fresh_at if before else state.fresh_at,
        before.changed_at if before else state.changed_at,
    )
