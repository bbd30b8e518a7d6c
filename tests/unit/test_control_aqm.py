"""The target of a leaf's AQM: what shortens it, what brings it back, and within what it stays."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.control import ClassSetup, LinkSetup, Setup, Tuning, initial, resume, step
from shaper.control.state import Memory
from shaper.history.codec import decode, encode
from shaper.model.decision import Bounds, Grant
from shaper.model.observation import CaptureHealth, ClassObservation, DelayView, Observation
from shaper.model.policy import Tier
from shaper.model.sla import DelayTarget, Sla

M = 10**6
TICK = 0.25
RATE = 12 * M
COMPILED = 4_992
HEALTHY = CaptureHealth(True, captured=1000)
TUNING = Tuning()
PROMISED = Sla((DelayTarget(0.95, 0.05),))
AIM = TUNING.setpoint * 0.05
"""Seconds of the 50 ms that the delay is led to."""


def leaf(*, target=(1_024, COMPILED), sla=PROMISED, rate=RATE):
    bounds = Bounds((rate, 16 * M), (16 * M, 16 * M), (100_000, 100_000), target)
    return ClassSetup(
        "web", Tier.PRIORITY, 1.0, rate, rate, 16 * M, sla, bounds, Grant(rate, 16 * M, 100_000, target[1])
    )


def seen(p95, *, count=1000, tcp=True, drops=0, backlog=30_000, rate=RATE, window=0.2):
    """A tick in which the class sent at `rate`, with the delay's 95th percentile in seconds."""
    size = int(rate * TICK / 8)
    delay = DelayView(count, window, {0.95: p95}, {}, p95)
    return ClassObservation("web", TICK, size, size // 1250, drops, backlog, rate, 0.0 if tcp else rate, {}, delay)


class Run:
    """Ticks against one class, with the clock kept."""

    def __init__(self, cls=None, *, bandwidth=20 * M, tuning=TUNING):
        self.setup = Setup(LinkSetup(bandwidth), (cls or leaf(),))
        self.state, self.now, self.tuning = initial(self.setup), 0.0, tuning
        self.changes, self.targets = [], [self.target]

    @property
    def target(self):
        return self.state.classes["web"].grant.target

    def tick(self, one, *, times=1, capture=HEALTHY):
        for _ in range(times):
            self.now += TICK
            observation = Observation(TICK, {"web": one}, capture)
            self.state, decision = step(self.setup, self.state, observation, now=self.now, tuning=self.tuning)
            self.changes += decision.changes
            self.targets.append(self.target)
        return self.target


def test_a_percentile_above_what_is_wanted_shortens_the_target_in_proportion():
    run = Run()
    assert run.tick(seen(1.25 * AIM)) == int(COMPILED / 1.25) // 128 * 128
    (change,) = run.changes
    assert change.before == replace(change.after, target=COMPILED)
    assert change.reason == "AQM target 3.97ms: the delay is above what is aimed at, and TCP in it"


def test_a_miss_is_named_and_halves_it_at_most():
    run = Run()
    assert run.tick(seen(0.4)) == COMPILED // 2 // 128 * 128
    assert run.changes[0].reason == "AQM target 2.43ms: p95 400ms over 50ms, and TCP in it"


def test_an_aqm_has_time_to_find_its_drops_before_the_next_move():
    run = Run()
    run.tick(seen(0.4), times=4)
    assert len(run.changes) == 1
    run.tick(seen(0.4))
    assert len(run.changes) == 2
    late = Run()  # the percentiles reach back further than that
    late.tick(seen(0.4, window=3.0), times=12)
    assert len(late.changes) == 1


def test_it_ends_at_a_frame_and_a_half_at_the_rate_it_is_served_at():
    run = Run()
    run.tick(seen(0.4), times=60)
    assert run.target == math.ceil(1.5 * 1514 * 8 / 12 / 128) * 128 == 1_536
    fast = Run(leaf(target=(1_024, 20 * COMPILED)), bandwidth=1000 * M)
    fast.tick(seen(0.4, rate=500 * M), times=60)
    assert fast.target == 1_024
    slow = Run(leaf(rate=1 * M))
    slow.tick(seen(0.4, rate=1 * M), times=60)
    assert slow.target == COMPILED  # one frame alone takes longer


def test_what_a_class_gets_by_borrowing_counts_for_its_rate():
    run = Run(leaf(rate=1 * M))
    run.tick(seen(0.4, rate=RATE), times=60)
    assert run.target == 1_536


@pytest.mark.parametrize(
    ("one", "capture"),
    [
        (seen(AIM), HEALTHY),
        (seen(1.05 * AIM), HEALTHY),
        (seen(0.4, count=99), HEALTHY),
        (seen(0.4), CaptureHealth(True, 900, 100)),
        (seen(0.4, drops=60), HEALTHY),  # as much is lost as may be late
    ],
)
def test_what_moves_nothing(one, capture):
    run = Run()
    run.tick(seen(AIM))  # there is TCP in it, as far as the capture knows
    run.tick(one, times=40, capture=capture)
    assert set(run.targets) == {COMPILED}


def test_where_there_is_no_tcp_the_rate_is_the_cure():
    run = Run()
    run.tick(seen(0.4, tcp=False), times=40)
    assert set(run.targets) == {COMPILED}
    assert run.state.classes["web"].grant.rate > RATE


def test_a_target_that_the_policy_says_stays():
    run = Run(leaf(target=(3_072, 3_072)))
    run.tick(seen(0.4), times=60)
    assert set(run.targets) == {3_072}


def test_a_queue_without_an_aqm_has_no_target():
    run = Run(leaf(target=(0, 0)))
    run.tick(seen(0.4), times=60)
    assert set(run.targets) == {0}


def test_it_comes_back_in_steps_after_a_window_inside():
    run = Run()
    run.tick(seen(0.4), times=20)
    least = run.target
    held = int(TUNING.window / TICK)
    run.tick(seen(0.3 * AIM), times=held)
    assert run.target == least
    run.tick(seen(0.3 * AIM))
    assert least < run.target <= least * math.exp(TUNING.aqm_raise)
    assert run.changes[-1].reason.endswith("the delay has been well inside")
    run.tick(seen(0.3 * AIM), times=8 * held)
    assert run.target == COMPILED
    risen = [after for before, after in pairwise(run.targets) if after > before]
    assert risen == sorted(risen)


def test_one_move_never_calls_for_the_other():
    """Even where the delay is in proportion to the target, the nearest that the two can be."""
    run = Run()
    for _ in range(2000):
        run.tick(seen(1.6 * AIM * run.target / COMPILED))
    moves = [after - before for before, after in pairwise(run.targets) if after != before]
    assert moves
    assert all(move < 0 for move in moves)
    assert len(run.changes) <= 3


def test_a_moment_inside_is_not_enough():
    run = Run()
    run.tick(seen(0.4), times=4)
    least = run.target
    for _ in range(10):
        run.tick(seen(0.3 * AIM), times=int(TUNING.window / TICK) - 1)
        run.tick(seen(0.9 * AIM))
    assert run.target == least


def test_where_the_link_carries_less_a_frame_takes_longer():
    run = Run()
    run.tick(seen(0.4), times=60)
    assert run.target == 1_536
    run.setup = replace(run.setup, classes=(leaf(rate=4 * M),)).carrying(6 * M, base=20 * M)
    run.state = resume(run.state, {"web": replace(run.state.classes["web"].grant, rate=4 * M)})
    run.tick(seen(AIM, rate=6 * M, backlog=0), times=60)
    assert run.target == 1_536  # where nothing waits it makes no odds
    run.tick(seen(AIM, rate=6 * M), times=60)
    assert run.target == math.ceil(1.5 * 1514 * 8 / 6 / 128) * 128 == 3_072
    assert "no less than its largest frames take" in run.changes[-1].reason


def test_with_the_budget_spent_only_a_class_that_misses_is_moved():
    run = Run(tuning=Tuning(changes_per_minute=0))
    run.tick(seen(1.25 * AIM), times=8)
    assert run.target == COMPILED
    run.tick(seen(0.4))
    assert run.target < COMPILED


def test_the_rate_waits_until_the_target_is_as_short_as_it_can_be():
    sla = Sla((DelayTarget(0.95, 0.05),), None, 14 * M)
    run = Run(leaf(sla=sla))
    run.tick(seen(0.1), times=3)
    assert run.state.classes["web"].integral == 0.0
    run.tick(seen(0.1), times=20)
    assert run.target <= 1_536
    assert run.state.classes["web"].integral > 0.0


def test_where_a_shorter_target_would_only_drop_more_the_rate_is_asked_at_once():
    run = Run(leaf(sla=Sla((DelayTarget(0.95, 0.05),), None, 14 * M)))
    run.tick(seen(0.1, drops=60), times=20)
    assert run.target == COMPILED
    assert run.state.classes["web"].integral > 0.0


def test_what_an_older_shaper_kept_is_read_as_without_a_target():
    grant, bounds = Grant(8, 16, 100), Bounds((8, 16), (8, 16), (0, 100))
    assert decode(Grant, {"rate_bit_s": 8, "ceil_bit_s": 16, "queue_bytes": 100}) == grant
    old = {"rate_bit_s": [8, 16], "ceil_bit_s": [8, 16], "queue_bytes": [0, 100]}
    assert decode(Bounds, old) == bounds
    memory = Memory(grant, 8.0, 8.0)
    kept = {key: value for key, value in encode(memory).items() if key not in ("aimed_at", "longer_since")}
    kept["grant"].pop("target_us")
    assert decode(Memory, kept) == memory


TICKS = st.lists(
    st.builds(
        seen,
        st.floats(0.0001, 1.0),
        count=st.sampled_from((10, 100, 1000)),
        tcp=st.booleans(),
        drops=st.sampled_from((0, 5, 500)),
        backlog=st.sampled_from((0, 50_000)),
        rate=st.integers(100_000, 16 * M),
        window=st.floats(0.1, 5.0),
    ),
    max_size=60,
)


@given(TICKS, st.integers(8, 800), st.integers(0, 800))
def test_it_never_leaves_its_bounds_nor_the_kernels_grid(ticks, low, more):
    bounds = (low * 128, (low + more) * 128)
    run = Run(leaf(target=bounds))
    for one in ticks:
        run.tick(one)
    assert all(bounds[0] <= target <= bounds[1] and target % 128 == 0 for target in run.targets)
    moved = [change for change in run.changes if change.before.target != change.after.target]
    assert len(moved) == sum(before != after for before, after in pairwise(run.targets))
    assert all("AQM target" in change.reason for change in moved)


@given(st.lists(st.floats(0.0001, AIM), min_size=1, max_size=80))
def test_nothing_moves_while_all_is_well(delays):
    run = Run()
    for delay in delays:
        run.tick(seen(delay))
    assert set(run.targets) == {COMPILED}


@given(st.floats(0.0001, 1.0), st.floats(0.0001, 1.0), st.integers(8, 39))
def test_the_longer_the_delay_the_shorter_the_target(one, other, target):
    found = []
    for delay in sorted((one, other)):
        run = Run()
        memory = replace(run.state.classes["web"], grant=replace(run.state.classes["web"].grant, target=target * 128))
        run.state = replace(run.state, classes={"web": memory})
        found.append(run.tick(seen(delay)))
    assert found[0] >= found[1]
