"""What the law of a link works on, and all that it remembers, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shaper.model.link_rate import BLOAT


@dataclass(frozen=True, slots=True)
class Setup:
    """One direction of a link. Rates in bit/s, `bloat` the delay in seconds that queueing may add, `packet` the largest
    frame in bytes; `reflectors` in the order in which they are asked."""

    least: int
    base: int
    most: int
    reflectors: tuple[str, ...]
    bloat: float = BLOAT
    packet: int = 1514


@dataclass(frozen=True, slots=True)
class Heard:
    """One reflector: the delays in seconds that are its own, round trip and (where told) one way; when that was seen;
    of its last probes, whether each was answered, and whether it was late while others were not."""

    round_trip: float | None = None
    way: float | None = None
    at: float | None = None
    answered: tuple[bool, ...] = ()
    odd: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Excess:
    """By how many seconds one probe took longer than its reflector's own delay; it was sent `at`, and `came` back."""

    reflector: str
    at: float
    came: float
    delay: float


@dataclass(frozen=True, slots=True)
class State:
    """`rate` is what the law wants, `applied` what was last asked for, both in bit/s.

    `sent` has the bits sent since the start, by boot time; `excesses` are of the last seconds, in the order of sending.
    `capacity` is what was last seen to come through, `growth` the present growth a second; `draining` says that a queue
    is being emptied; `vain` since when the least rate does nothing against a delay, and what that is; `one_way` that
    samples tell the direction. The times: of the last cut, of the last answer, since when there was neither answer nor
    traffic, before which samples do not count.
    """

    rate: float
    applied: int
    order: tuple[str, ...]
    heard: Mapping[str, Heard] = field(default_factory=dict)
    sent: tuple[tuple[float, float], ...] = ()
    excesses: tuple[Excess, ...] = ()
    capacity: float | None = None
    growth: float = 0.0
    cut_at: float | None = None
    draining: bool = False
    vain: tuple[float, float] | None = None
    answered_at: float | None = None
    still_since: float | None = None
    ignored_before: float | None = None
    one_way: bool = False


def initial(setup: Setup) -> State:
    """Nothing heard yet, at the base rate."""
    return State(float(setup.base), setup.base, setup.reflectors)


def resume(state: State, applied: int, setup: Setup | None = None) -> State:
    """The state with the rate that the kernel holds; with a `setup`, of another policy, what still fits is kept."""
    state = replace(state, applied=applied, rate=float(applied))
    if setup is None or setup.reflectors == state.order:
        return state
    kept = [name for name in state.order if name in setup.reflectors]
    return replace(state, order=(*kept, *(name for name in setup.reflectors if name not in kept)))
