"""Limits that are lowered by which the kernel would throw packets away: how far, for what a queue holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.plan.lowering import lifted, lowers, nearer
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    CakeOptions,
    CodelOptions,
    Diffserv,
    FifoOptions,
    FqCodelOptions,
    FqPieOptions,
    Occupancy,
    Options,
    PieOptions,
    Qdisc,
    RedOptions,
)

FQ = FqCodelOptions(1000, 4992, 99968, 1514, 1024, 64_000, True)
CAKE = CakeOptions(8_000_000, Diffserv.DIFFSERV4, memory=4 << 20)
_LIMITS = st.integers(1, 10_000)
_HELD = st.builds(Occupancy, st.integers(0, 5000), st.integers(0, 2**22))


def change(before: Options, after: Options) -> Step:
    old, new = (Qdisc(0x5B100000, 0x5A000010, "any", options) for options in (before, after))
    return Step(Verb.CHANGE, old, new)


def options_of(step: Step) -> Options:
    assert isinstance(step.after, Qdisc)
    return step.after.options


@pytest.mark.parametrize(
    ("before", "after", "does"),
    [
        (FQ, FQ._replace(limit=999), True),
        (FQ, FQ._replace(memory=63_999), True),
        (FQ, FQ._replace(limit=1001, memory=64_001, target=1024), False),
        (CodelOptions(10, 5, 5, True), CodelOptions(9, 5, 5, True), True),
        (PieOptions(10, 5, True), PieOptions(9, 5, True), True),
        (FqPieOptions(10, 8, 5, 1514, 64_000, True), FqPieOptions(9, 8, 5, 1514, 64_000, True), True),
        (FqPieOptions(10, 8, 5, 1514, 64_000, True), FqPieOptions(10, 8, 5, 1514, 1000, True), False),
        (CAKE, CAKE._replace(memory=1 << 20), True),
        (CAKE._replace(memory=0), CAKE, True),
        (CAKE, CAKE._replace(memory=0), False),
        (FifoOptions(10), FifoOptions(9), False),
        (RedOptions(9, 1, 2, 5, 12, 1, True, False), RedOptions(8, 1, 2, 5, 12, 1, True, False), False),
        (FifoOptions(10), FQ, False),
    ],
)
def test_which_limits_the_kernel_would_throw_packets_away_for(before: Options, after: Options, does: bool) -> None:
    step = change(before, after)
    assert lowers(step) is does
    if not does:
        assert lifted(step) == step


def test_what_stays_is_only_the_limit() -> None:
    step = change(FQ, FQ._replace(limit=10, target=9984))
    assert options_of(lifted(step)) == FQ._replace(target=9984)


@given(_LIMITS, _LIMITS, _HELD, _HELD)
def test_a_limit_goes_down_only_and_never_below_what_the_queue_holds(
    old: int, new: int, held: Occupancy, came: Occupancy
) -> None:
    before, after = FQ._replace(limit=old, memory=64 * old), FQ._replace(limit=new, memory=64 * new)
    step = change(before, after)
    done = options_of(nearer(step, held, came))
    assert isinstance(done, FqCodelOptions)
    for present, wanted, taken, grown, limit in (
        (old, new, held.packets, came.packets, done.limit),
        (64 * old, 64 * new, held.memory, came.memory, done.memory),
    ):
        assert limit >= min(present, taken + 2 * grown)
        assert limit <= max(present, wanted)
        assert limit >= wanted
    if new < old and held == came == Occupancy():
        assert done == after


def test_cakes_own_memory_is_no_limit_to_keep() -> None:
    step = change(CAKE._replace(memory=0), CAKE)
    done = options_of(nearer(step, Occupancy(9000, 8 << 20), Occupancy()))
    assert isinstance(done, CakeOptions)
    assert done.memory == 9 << 20
