"""The law of a link that moves, over a fluid model of one: what it keeps to whatever comes, and how good it is."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_model import REFLECTORS, Hidden, M, constant, moving, steps

from shaper.control import link
from shaper.control.link.capacity import capacity
from shaper.control.link.state import Excess
from shaper.model.link_rate import LinkSample, LinkSeen

DROP = steps((0, 20 * M), (15, 8 * M), (30, 15 * M))


@pytest.mark.parametrize("tick", [0.1, 0.25])
@pytest.mark.parametrize("most", [20 * M, 25 * M])
def test_a_link_that_falls_and_comes_back_is_followed(tick, most):
    path = Hidden(moving(most=most), capacity=DROP, tick=tick).run(45)
    for since, until in ((5, 15), (20, 30), (37, 45)):  # 5 s after it fell; what comes back is found once, and too much
        assert path.p95(since, until) < 0.03
        assert path.used(since, until) > 0.95
    assert path.used(0, 45) > 0.9


@pytest.mark.parametrize("tick", [0.5, 1.0])
def test_a_longer_tick_is_slower_and_still_follows(tick):
    path = Hidden(moving(), capacity=DROP, tick=tick).run(45)
    assert path.p95(20, 30) < 0.05
    assert path.used(0, 45) > 0.85


def test_with_jitter_it_is_no_worse():
    path = Hidden(moving(), capacity=DROP, extra=lambda name, now: 0.005 * (math.sin(now * 37 + len(name)) + 1) / 2)
    path.run(45)
    assert path.p95(20, 30) < 0.03
    assert path.used(20, 30) > 0.93


def test_a_link_that_carries_what_it_should_is_left_alone():
    path = Hidden(moving(most=20 * M), capacity=constant(20 * M)).run(60)
    assert not path.moves()


def test_a_steady_link_is_not_made_to_swing():
    """What it costs to look for more: a few percent, all of the time."""
    path = Hidden(moving(), capacity=constant(12 * M)).run(60)
    steady = path.rates(20)
    assert max(steady) < 1.06 * 12 * M
    assert min(steady) > 0.85 * 12 * M


@pytest.mark.parametrize("sent", [5 * M, 8 * M, 12 * M, 20 * M])
def test_capacity_is_told_from_the_slope_of_the_delay(sent):
    carried = 8 * M
    excesses = [Excess("a", 1 + n * 0.05, 0.0, 1.0 + (sent - carried) / carried * n * 0.05) for n in range(10)]
    bits = [(0.0, 0.0), (3.0, 3.0 * sent)]
    assert capacity(excesses, bits, standing=0.01, tuning=link.Tuning()) == pytest.approx(carried)


def test_without_a_queue_no_capacity_is_seen():
    empty = [Excess("a", 1 + n * 0.05, 0.0, 0.0) for n in range(10)]
    assert capacity(empty, [(0.0, 0.0), (3.0, 3e7)], standing=0.01, tuning=link.Tuning()) is None


def test_a_move_says_what_was_seen():
    path = Hidden(moving(), capacity=steps((0, 20 * M), (5, 8 * M))).run(8)
    first = next(one.move for _, one in path.moves(since=5) if one.move and one.move.after < one.move.before)
    assert first.delay is not None
    assert first.delay > 0.01
    assert first.achieved == pytest.approx(20 * M, rel=0.3)
    assert "late" in first.reason


def test_another_policy_keeps_what_is_known_of_reflectors_that_stay():
    path = Hidden(moving(), capacity=steps((0, 20 * M), (5, 8 * M))).run(10)
    other = moving(reflectors=(REFLECTORS[2], "198.51.100.9"))
    state = link.resume(path.state, 8 * M, other)
    assert state.order == other.reflectors
    assert state.heard[REFLECTORS[2]].round_trip == pytest.approx(0.04, abs=0.001)


rates = st.floats(0.2 * M, 60 * M)
links = st.lists(rates, min_size=1, max_size=6)


@given(links, st.floats(0, 0.05), st.sampled_from([0.1, 0.25, 1.0]), st.booleans())
def test_it_never_leaves_what_the_policy_allows_and_the_same_comes_of_the_same(capacities, jitter, tick, lossy):
    def run() -> Hidden:
        return Hidden(
            moving(),
            capacity=lambda now: capacities[int(now / 3) % len(capacities)],
            extra=lambda name, now: jitter * abs(math.sin(now * 97 + len(name))),
            answers=lambda _name, now: not lossy or int(now * 20) % 3 != 0,
            tick=tick,
        ).run(12)

    one, other = run(), run()
    assert one.decisions == other.decisions
    assert all(5 * M <= rate <= 25 * M and rate % 8 == 0 for rate in one.rates())


@settings(max_examples=min(50, settings.default.max_examples))  # of one number; each is 40 s of a link
@given(rates.filter(lambda rate: 6 * M < rate < 24 * M))
def test_whatever_a_steady_link_carries_is_found_and_kept(carried):
    path = Hidden(moving(), capacity=constant(carried)).run(40)
    assert path.used(20, 40) > 0.9
    assert path.p95(20) < 0.035


samples = st.builds(
    LinkSample,
    st.sampled_from(REFLECTORS),
    st.floats(0, 100),
    st.none() | st.floats(0, 30),
    st.none() | st.floats(-1e6, 1e6),
)


@given(
    st.lists(
        st.tuples(
            st.floats(0.001, 5), st.integers(0, 10**8), st.lists(samples, max_size=8), st.none() | st.floats(0, 3)
        ),
        max_size=20,
    )
)
def test_no_input_breaks_it(ticks):
    setup, now = moving(), 0.0
    state = link.initial(setup)
    for seconds, sent, came, beside in ticks:
        now += seconds
        state, decision = link.step(setup, state, LinkSeen(seconds, sent, tuple(came), beside), now=now)
        assert setup.least <= decision.rate <= setup.most
        assert decision.move is None or (math.isfinite(decision.move.achieved) and decision.move.reason)
