"""Every failure of the field's laws for links that move, each as a test of its own: what ours does in its place."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from link_model import REFLECTORS, Hidden, M, constant, moving, steps

from shaper.control import link
from shaper.model.link_rate import LinkSample, LinkSeen

ONE = REFLECTORS[:1]
BUSY, IDLE = 20 * M, 100_000


def fed(
    delays: list[float | None],
    *,
    setup: link.Setup | None = None,
    sent: float = BUSY,
    tick: float = 0.05,
    state: link.State | None = None,
    beside: float | None = None,
    begun: float = 100.0,
) -> tuple[link.State, list[int]]:
    """One sample a tick from the first reflector; the state after them, and the rate after each."""
    setup = setup or moving(reflectors=ONE)
    state, rates = state or link.initial(setup), []
    for number, delay in enumerate(delays):
        now = begun + (number + 1) * tick
        sample = LinkSample(setup.reflectors[0], now - tick / 2, delay)
        state, decision = link.step(setup, state, LinkSeen(tick, int(sent * tick / 8), (sample,), beside), now=now)
        rates.append(decision.rate)
    return state, rates


# --- the baseline


def test_the_first_sample_is_the_baseline_however_long_the_way():
    state, rates = fed([0.6] * 40)  # a satellite, and no made-up 100 ms to be late against
    assert state.heard[ONE[0]].round_trip == pytest.approx(0.6)
    assert min(rates) == 20 * M


def test_a_lower_delay_is_the_baseline_at_once_a_higher_one_slowly():
    setup = moving(reflectors=ONE)
    lower, _ = fed([0.1, 0.04, 0.04, 0.04], setup=setup, sent=IDLE)
    assert lower.heard[ONE[0]].round_trip == pytest.approx(0.04, abs=0.001)
    higher, _ = fed([0.05] * 20, setup=setup, sent=IDLE, state=lower, begun=101.0)
    assert 0.0 < higher.heard[ONE[0]].round_trip - lower.heard[ONE[0]].round_trip < 0.001


def test_a_longer_way_is_learned_while_nothing_is_loaded():
    path = Hidden(moving(), offered=constant(IDLE), extra=lambda _, now: 0.03 if now > 5 else 0.0).run(120)
    assert all(0.069 < path.state.heard[name].round_trip < 0.071 for name in REFLECTORS)
    assert path.run(20).rates() and min(path.rates()) == 20 * M


@pytest.mark.parametrize("loaded", ["this way", "the other way"])
def test_a_loaded_link_teaches_no_baseline(loaded):
    here, beside = (BUSY, None) if loaded == "this way" else (IDLE, 0.9)
    state, _ = fed([0.04] + [0.048] * 1200, sent=here, beside=beside)
    assert state.heard[ONE[0]].round_trip == pytest.approx(0.04)


# --- the vote


def test_two_late_samples_of_six_are_chance_three_are_not():
    _, rates = fed([0.04] * 10 + [0.09, 0.04, 0.09, 0.04, 0.04, 0.04])
    assert rates == sorted(rates)  # nothing was cut
    _, rates = fed([0.04] * 10 + [0.09, 0.04, 0.09, 0.04, 0.09])
    assert rates[-1] < rates[-2]


def test_one_packet_on_a_slow_link_is_no_queue():
    slow = moving(least=300_000, base=500_000, most=600_000, reflectors=ONE)
    packet = 1514 * 8 / 500_000  # 24 ms: more than what queueing may add
    _, rates = fed([0.04] * 4 + [0.04 + packet] * 40, setup=slow, sent=500_000)
    assert min(rates) == 500_000


# --- cuts


def test_a_cut_is_in_proportion_to_the_excess_where_nothing_shows_the_capacity():
    cuts = []
    for late in (0.060, 0.075, 0.3):
        state, _ = fed([0.04])
        samples = tuple(LinkSample(ONE[0], 100.05 + n / 1000, 0.04 + late) for n in range(3))  # too close together
        _, decision = link.step(moving(reflectors=ONE), state, LinkSeen(0.55, int(BUSY * 0.55 / 8), samples), now=100.6)
        cuts.append(decision.rate / state.rate)
    assert 0.99 > cuts[0] > cuts[1] > cuts[2]
    assert cuts[2] == pytest.approx(0.75, abs=0.002)


def test_no_two_cuts_within_300_ms():
    path = Hidden(moving(), capacity=steps((0, 25 * M), (3, 15 * M), (5, 10 * M), (7, 6 * M)), tick=0.05).run(10)
    falls = [at for (_, before), (at, after) in pairwise(path.decisions) if after.rate < before.rate]
    assert len(falls) > 3
    assert min(after - before for before, after in pairwise(falls)) >= 0.3 - 1e-6


def test_what_comes_through_is_measured_and_not_searched_for():
    path = Hidden(moving(), capacity=steps((0, 20 * M), (10, 8 * M)), limit=2_000_000, tick=0.25).run(20)
    found = [one.move.capacity for at, one in path.moves(since=10) if one.move and one.move.capacity and at > 10.8]
    assert found[0] == pytest.approx(8 * M, rel=0.05)


def test_the_queue_that_stands_is_drained_and_not_only_kept_from_growing():
    path = Hidden(moving(), capacity=steps((0, 20 * M), (10, 8 * M))).run(30)
    assert max(delay for at, delay in path.delays if at < 13) > 0.4
    assert path.p95(15) < 0.03
    assert path.used(15, 30) > 0.95


# --- growth


@pytest.mark.parametrize(("sent", "grows"), [(18 * M, True), (14 * M, False)])
def test_it_grows_under_load_only(sent, grows):
    path = Hidden(moving(), capacity=constant(30 * M), offered=constant(sent)).run(10)
    assert (max(path.rates()) > 20 * M) is grows


def test_it_does_not_grow_above_the_lower_threshold():
    _, rates = fed([0.04] * 3 + [0.049] * 100)  # 9 ms: not late, and not nothing
    assert set(rates[10:]) == {rates[10]}


@pytest.mark.parametrize("rate", [10 * M, 24 * M])
def test_without_load_the_base_rate_returns_by_one_percent_a_second(rate):
    setup = moving()
    path = Hidden(setup, offered=constant(IDLE))
    path.state, path.rate = link.resume(path.state, rate), rate
    path.run(10)
    expected = rate * math.exp(0.1 if rate < 20 * M else -0.1)
    assert path.rate == pytest.approx(expected, rel=0.015)
    assert path.run(90).rate == 20 * M


def test_a_rate_outside_is_moved_inside_and_never_refused():
    setup = moving()
    for wrong, bound in ((1 * M, 5 * M), (90 * M, 25 * M)):
        state = link.resume(link.initial(setup), wrong)
        _, decision = link.step(setup, state, LinkSeen(0.25, int(BUSY / 32)), now=1.0)
        assert decision.rate == bound
        assert decision.move is not None
        assert decision.move.bound == ("least" if wrong < bound else "most")


# --- whose delay it is


@pytest.mark.parametrize(("sent", "beside"), [(1 * M, 1.0), (1 * M, None), (8 * M, 0.95)])
def test_an_idle_direction_is_never_cut_for_the_delay_of_the_other(sent, beside):
    _, rates = fed([0.04] * 10 + [0.5] * 200, sent=sent, beside=beside)
    assert min(rates) == 20 * M


@pytest.mark.parametrize(("sent", "beside"), [(9 * M, None), (9 * M, 0.1), (19 * M, 1.0)])
def test_a_direction_that_may_be_at_fault_is_cut(sent, beside):
    _, rates = fed([0.04] * 10 + [0.5] * 20, sent=sent, beside=beside)
    assert min(rates) < 20 * M


@pytest.mark.parametrize("late", ["this way", "the other way"])
def test_one_way_delays_say_which_direction_is_late(late):
    queued = (lambda now: 0.2 if now > 5 else 0.0) if late == "the other way" else lambda _now: 0.0
    capacity = constant(20 * M) if late == "the other way" else steps((0, 20 * M), (5, 8 * M))
    path = Hidden(
        moving(most=20 * M), capacity=capacity, extra=lambda _, now: queued(now), way=lambda now: 7.0 + now * 1e-4
    )
    path.run(15)  # two clocks that are 7 s apart and drift by 100 ppm
    assert (min(path.rates()) < 19 * M) is (late == "this way")


# --- what is no congestion


def test_a_stall_is_not_bloat():
    """A handover: for 3 s nothing goes and nothing comes; then all answers come at once, seconds late."""
    setup = moving(reflectors=ONE)
    state, _ = fed([0.04] * 20, setup=setup, tick=0.25)
    rate, now = state.applied, 105.0
    for _ in range(12):
        now += 0.25
        state, decision = link.step(setup, state, LinkSeen(0.25, 0), now=now)
        assert decision.rate == rate
    assert "stands still" in decision.held
    late = tuple(LinkSample(ONE[0], 105.0 + n * 0.05, 3.0 - n * 0.05) for n in range(60))
    for samples in (late, *[(LinkSample(ONE[0], now + 0.3 + n * 0.25, 0.04),) for n in range(8)]):
        now += 0.25
        state, decision = link.step(setup, state, LinkSeen(0.25, int(BUSY / 32), samples), now=now)
        assert decision.rate >= rate


def test_answers_that_were_held_up_and_come_together_are_no_queue():
    """Half a second is too short to be seen as a stall, and traffic was sent meanwhile."""
    setup = moving(reflectors=ONE)
    state, rates = fed([0.04] * 20, setup=setup, tick=0.25)
    held = tuple(LinkSample(ONE[0], 105.0 + n * 0.05, 0.54 - n * 0.05) for n in range(10))
    _, decision = link.step(setup, state, LinkSeen(0.5, int(BUSY / 16), held), now=105.55)
    assert decision.rate >= rates[-1]


def test_lost_reflectors_hold_the_rate_then_lead_it_back_to_the_base_and_never_to_the_least():
    path = Hidden(
        moving(),
        capacity=steps((0, 20 * M), (5, 8 * M)),
        answers=lambda _name, now: now < 20,
        offered=steps((0, math.inf), (21, 0.0), (24, 7 * M)),  # the same goes where somebody pulls the cable
    ).run(25)
    held = path.rates(20.5, 24)
    assert max(held) - min(held) <= 0.02 * max(held)
    path.run(160)
    rates = path.rates(26)
    assert rates == sorted(rates)
    assert rates[-1] == 20 * M
    assert "no reflector has answered" in path.decisions[-1][1].held


def test_icmp_that_is_blocked_from_the_beginning_is_not_congestion():
    path = Hidden(moving(), answers=lambda _name, _now: False).run(60)
    assert set(path.rates()) == {20.0 * M}


def test_lost_probes_alone_cut_nothing():
    """Every other packet is lost; a radio link does that without a queue."""
    lossy = Hidden(moving(), answers=lambda _name, now: int(now * 20) % 2 == 0, capacity=constant(30 * M)).run(30)
    assert min(lossy.rates()) >= 20 * M


def test_a_reflector_that_falls_silent_is_replaced():
    setup = replace(moving(), reflectors=(*REFLECTORS, "192.0.2.4", "192.0.2.5"))
    path = Hidden(setup, answers=lambda name, now: name != REFLECTORS[1] or now < 5, capacity=constant(30 * M)).run(20)
    assert REFLECTORS[1] not in path.decisions[-1][1].probed
    assert "192.0.2.5" in path.decisions[-1][1].probed
    assert len(set(path.decisions[-1][1].probed)) == 4
    assert min(path.rates()) >= 20 * M


def test_a_reflector_that_is_late_alone_convinces_nobody_and_is_replaced():
    setup = replace(moving(), reflectors=(*REFLECTORS, "192.0.2.4", "192.0.2.5"))
    extra = lambda name, now: 0.3 if name == REFLECTORS[0] and now > 5 else 0.0  # noqa: E731
    path = Hidden(setup, extra=extra, capacity=constant(30 * M)).run(25)
    assert min(path.rates()) >= 20 * M
    assert REFLECTORS[0] not in path.decisions[-1][1].probed


def test_one_of_two_reflectors_is_no_majority():
    setup = moving(reflectors=REFLECTORS[:2])
    path = Hidden(
        setup, extra=lambda name, now: 0.3 if name == REFLECTORS[0] and now > 5 else 0.0, capacity=constant(30 * M)
    ).run(25)
    assert min(path.rates()) >= 20 * M


def test_without_spares_everybody_is_kept():
    path = Hidden(moving(), answers=lambda name, _now: name != REFLECTORS[1]).run(20)
    assert path.decisions[-1][1].probed == REFLECTORS


def test_a_way_that_is_longer_for_good_does_not_keep_the_rate_at_the_least():
    """A route that changes under load: the baseline is frozen, so only the least rate can show that it is not ours."""
    path = Hidden(moving(), extra=lambda _, now: 0.08 if now > 5 else 0.0, capacity=constant(30 * M)).run(40)
    assert min(path.rates()) == 5 * M
    assert path.rates()[-1] > 15 * M
    assert any("the way itself is longer" in one.held for _, one in path.decisions)


def test_a_queue_of_seconds_is_drained_although_its_answers_are_old():
    path = Hidden(moving(least=1 * M), capacity=steps((0, 20 * M), (5, 1.5 * M))).run(30)
    assert max(delay for _, delay in path.delays) > 2.0
    assert path.p95(25) < 0.05
    assert not any("the way itself" in one.held for _, one in path.decisions)
