"""In steady state nothing moves: the rate that a class keeps while its need varies."""

import math
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shaper.control import ClassSetup, Tuning
from shaper.control.keeping import keep
from shaper.control.state import Memory
from shaper.model.decision import Bounds, Grant
from shaper.model.policy import Tier
from shaper.model.sla import Sla

M = 10**6
TICK = 0.25
TUNING = Tuning()
GRANT = Grant(1 * M, 100 * M, 10_000)
CLASS = ClassSetup(
    "a",
    Tier.PRIORITY,
    1.0,
    1 * M,
    1 * M,
    100 * M,
    Sla(),
    Bounds((1 * M, 100 * M), (1 * M, 100 * M), (0, M)),
    GRANT,
)


def levels(needs, thin=False):
    """The rate kept after each tick's need."""
    memory, kept = Memory(GRANT, float(GRANT.rate), float(GRANT.rate)), []
    for number, needed in enumerate(needs):
        memory = keep(CLASS, memory, needed, now=number * TICK, thin=thin, tuning=TUNING)
        kept.append(memory.level)
    return kept


def moves(kept):
    return sum(before != after for before, after in pairwise(kept))


@given(st.floats(1e6, 5e7), st.floats(1.0, 1.13), st.integers(0, 2**32))
def test_a_need_that_varies_by_an_eighth_moves_a_rate_twice_and_never_down(least, spread, seed):
    dice = Random(seed)
    kept = levels([least * spread ** dice.random() for _ in range(2000)])
    assert kept == sorted(kept)
    assert moves(kept) <= 2


@given(st.floats(1e6, 5e6), st.floats(1.0, 8.0), st.integers(0, 2**32))
def test_whatever_the_need_does_rises_are_few_and_it_is_never_short(least, spread, seed):
    dice = Random(seed)
    needs = [least * spread ** dice.random() for _ in range(400)]
    kept = levels(needs)
    assert all(level >= needed / (1 + TUNING.apply_up) for level, needed in zip(kept, needs, strict=True))
    # A rise is followed by one of a tenth at least, unless a window has passed between.
    windows = math.ceil(len(needs) * TICK / TUNING.window)
    assert moves(kept) <= 2 + math.log(spread) / math.log(1 + TUNING.spare) + 2 * windows


def test_a_need_that_beats_with_the_tick_moves_nothing():
    kept = levels([2 * M if number % 2 else 8 * M for number in range(1000)])
    assert set(kept) == {8 * M}


def test_it_falls_after_a_window_to_the_most_of_that_window():
    kept = levels([10 * M] + [3 * M, 4 * M, 2 * M] * 40)
    window = round(TUNING.window / TICK)
    assert kept[window] == 10 * M
    assert kept[window + 1] == 4 * M
    assert kept[-1] == 4 * M


def test_too_few_samples_never_lower_it():
    assert levels([10 * M] + [2 * M] * 400, thin=True)[-1] == 10 * M
