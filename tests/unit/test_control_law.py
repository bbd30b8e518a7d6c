"""One rule of the law after the other, on single ticks and short runs of them."""

from dataclasses import replace

import pytest

from shaper.control import ClassSetup, LinkSetup, Setup, Tuning, initial, step
from shaper.model.decision import Bounds, Grant
from shaper.model.observation import CaptureHealth, ClassObservation, DelayView, Observation
from shaper.model.policy import Tier
from shaper.model.sla import DelayTarget, Sla
from shaper.units import format_duration

M = 10**6
TICK = 0.25
HEALTHY = CaptureHealth(True, captured=1000)
P95 = DelayTarget(0.95, 0.05)
VIDEO = Sla((P95,), 0.005)
MIXED = Sla((DelayTarget(0.95, 0.1),), None, 4 * M)


def leaf(path, tier=Tier.PRIORITY, *, guarantee=3 * M, floor=None, limit=20 * M, sla=VIDEO, queue=None):
    floor = guarantee if floor is None else floor
    bounds = Bounds((floor, limit), (floor, limit), queue or (6000, 10 * M))
    return ClassSetup(path, tier, 1.0, guarantee, floor, limit, sla, bounds, Grant(floor, limit, 18_750))


def view(p95=0.005, count=1000, largest=None, percentile=0.95, window=0.1):
    return DelayView(count, window, {percentile: p95}, {}, p95 if largest is None else largest)


def seen(path, offered, *, tcp=0.0, sent=None, drops=0, backlog=0, delay=None, envelope=None, blind=False):
    """A class in one tick: `offered` and `tcp` in bit/s, packets of 1250 bytes."""
    sent = offered + tcp if sent is None else sent
    size = int(sent * TICK / 8)
    return ClassObservation(
        path,
        TICK,
        size,
        size // 1250,
        drops,
        backlog,
        offered + tcp,
        None if blind else offered,
        envelope or {},
        delay if delay is not None or blind else view(),
    )


class Run:
    """Ticks against one setup, with the clock kept."""

    def __init__(self, *leaves, bandwidth=20 * M, tuning=None):
        self.setup = Setup(LinkSetup(bandwidth), leaves)
        self.state, self.now, self.tuning = initial(self.setup), 0.0, tuning or Tuning()
        self.decisions = []

    def tick(self, *classes, times=1, capture=HEALTHY, fresh=True):
        for _ in range(times):
            self.now += TICK
            observation = Observation(TICK, {each.path: each for each in classes}, capture, fresh=fresh)
            self.state, decision = step(self.setup, self.state, observation, now=self.now, tuning=self.tuning)
            self.decisions.append(decision)
        return self.decisions[-1]

    def rate(self, path="video"):
        return self.state.classes[path].grant.rate

    def changes(self):
        return [change for decision in self.decisions for change in decision.changes]


def test_feed_forward_is_a_tenth_over_what_is_offered():
    run = Run(leaf("video"))
    decision = run.tick(seen("video", 10 * M))
    assert run.rate() == 11 * M
    (change,) = decision.changes
    assert (change.bound, change.wanted) == ("none", 11 * M)
    assert "feed-forward 11mbit, 1.1 x 10mbit offered" in change.reason
    assert decision.needs == {"video": 11 * M}


def test_the_envelope_sizes_bursts_and_the_reason_says_what_was_missed():
    run = Run(leaf("video"))
    decision = run.tick(seen("video", 2 * M, delay=view(0.184), envelope={0.002: 1500, 0.02: 60_000}))
    # (60000 + 1500) x 8 / (20 ms + 50 ms - a frame on the wire - the burst), whole bytes a second.
    spare = 0.05 - 1514 * 8 / (20 * M) - 0.001
    assert run.rate() == pytest.approx(61_500 * 8 / (0.02 + spare), abs=8)
    assert "p95 184ms over 50ms: feed-forward 7.194mbit" in decision.changes[0].reason
    assert "from envelope at 20ms" in decision.changes[0].reason


def test_tcp_does_not_count_as_a_need():
    run = Run(leaf("video"))
    run.tick(seen("video", 0.5 * M, tcp=12 * M), times=8)
    assert run.rate() == 3 * M


def test_without_capture_everything_offered_counts_and_grows_in_bounded_steps():
    run = Run(leaf("video"))
    nothing = CaptureHealth(False, reason="no clsact")
    decision = run.tick(seen("video", 15 * M, blind=True, sent=3 * M), capture=nothing)
    assert run.rate() == 6 * M
    assert "no clsact" in decision.held
    run.tick(seen("video", 15 * M, blind=True, sent=6 * M), capture=nothing)
    # Who rises twice in a window gets a tenth more than it needs.
    assert run.rate() == pytest.approx(1.1 * 12 * M)
    run.tick(seen("video", 15 * M, blind=True, sent=13 * M), capture=nothing)
    assert run.rate() == pytest.approx(1.1 * 16_500_000)


def test_an_untrusted_capture_freezes_the_feedback_and_keeps_the_known_mixture():
    run = Run(leaf("video", sla=MIXED))
    run.tick(seen("video", 1 * M, tcp=3 * M, backlog=30_000), times=20)
    rate = run.rate()
    lossy = CaptureHealth(True, captured=900, capture_drops=100)
    slow = seen("video", 1 * M, tcp=3 * M, backlog=30_000, delay=view(0.4))
    decision = run.tick(slow, capture=lossy, times=20)
    assert run.state.classes["video"].integral == 0
    assert run.rate() == rate
    assert "10% of the frames lost by the capture" in decision.held
    # Counters go on: the offered rate trebles, a quarter of it still counts as inelastic.
    run.tick(seen("video", 6 * M, tcp=18 * M), capture=lossy)
    assert run.rate() == pytest.approx(1.1 * 1.1 * 6 * M, rel=0.02)


def test_the_throughput_target_is_a_need_of_a_class_that_has_the_traffic_for_it():
    run = Run(leaf("video", guarantee=1 * M, sla=MIXED))
    run.tick(seen("video", 0, tcp=0.5 * M))
    assert run.rate() == 1 * M
    run.tick(seen("video", 0, tcp=2 * M))
    assert run.rate() == 2_200_000
    # With a backlog it would take more than it gets.
    decision = run.tick(seen("video", 0, tcp=2 * M, backlog=30_000))
    assert decision.needs == {"video": 4_400_000}
    assert run.rate() == pytest.approx(1.1 * 4_400_000)
    assert "4.4mbit for the throughput target" in run.changes()[-1].reason


def test_a_backlog_of_inelastic_traffic_is_drained():
    run = Run(leaf("video"))
    run.tick(seen("video", 4 * M, backlog=50_000))
    # 400 kbit are queued, 200 kbit of them may be: the other 200 kbit are to go within 250 ms.
    assert run.rate() == 4_400_000 + 800_000
    assert "800kbit to drain the backlog" in run.changes()[0].reason


def test_feedback_grows_while_a_target_is_missed_and_only_as_far_as_allowed():
    run = Run(leaf("video"))
    late = seen("video", 2.9 * M, delay=view(0.2), backlog=1000)
    run.tick(late, times=60)
    most = 1.1 * 3_190_000 * 2.0138
    assert 3_190_000 < run.rate() <= most
    assert "feedback x" in run.changes()[-1].reason
    run.tick(late, times=400)
    assert run.rate() <= most
    assert run.state.classes["video"].integral <= 0.7


def test_feedback_falls_slowly_and_stands_still_inside_the_dead_band():
    run = Run(leaf("video"))
    run.tick(seen("video", 2.9 * M, delay=view(0.2), backlog=1000), times=80)
    grown = run.state.classes["video"].integral
    run.tick(seen("video", 2.9 * M, delay=view(0.0375)), times=20)
    assert run.state.classes["video"].integral == grown
    run.tick(seen("video", 2.9 * M, delay=view(0.01)), times=20)
    assert grown - 5 * 0.05 <= run.state.classes["video"].integral < grown


def test_no_wind_up_while_the_link_does_not_give_what_is_needed():
    run = Run(leaf("video"), leaf("bulk", Tier.STANDARD, guarantee=10 * M, sla=Sla()))
    run.tick(seen("video", 15 * M, sent=10 * M, drops=10, delay=view(0.2)), seen("bulk", 0, tcp=10 * M), times=40)
    assert run.rate() == 10 * M
    assert run.state.classes["video"].integral < 0.01


def test_delay_that_no_rate_would_mend_winds_nothing_up():
    run = Run(leaf("video"))
    run.tick(seen("video", 0.1 * M, delay=view(0.2)), times=40)
    assert run.state.classes["video"].integral == 0


def test_few_samples_raise_but_do_not_lower():
    few = view(0.001, count=20)
    run = Run(leaf("video", guarantee=1 * M))
    run.tick(seen("video", 8 * M))
    assert run.rate() == 8_800_000
    decision = run.tick(seen("video", 2 * M, delay=few), times=160)
    assert run.rate() == 8_800_000
    assert decision.held == "too few samples to lower video"
    run.tick(seen("video", 2 * M), times=160)
    assert run.rate() <= 2.2 * M * 1.12


def test_the_conservative_bound_stands_in_for_few_samples():
    run = Run(leaf("video"))
    decision = run.tick(seen("video", 2.9 * M, delay=view(0.001, count=20, largest=0.09)))
    assert "p95" not in decision.held
    run.tick(seen("video", 2.9 * M, delay=view(0.001, count=20, largest=0.09), backlog=1000), times=40)
    assert run.rate() > 3 * M


def test_a_class_that_fell_silent_is_let_down_without_samples():
    run = Run(leaf("video", guarantee=1 * M))
    run.tick(seen("video", 8 * M))
    run.tick(seen("video", 0, delay=DelayView(0, 5.0, {}, {}, 0.0)), times=300)
    assert run.rate() <= 1.1 * M


def test_a_rate_falls_when_the_need_was_lower_for_a_window_and_then_straight_to_it():
    run = Run(leaf("video", guarantee=1 * M))
    run.tick(seen("video", 10 * M))
    # The peak counts for a window, and then the need has to be lower for one.
    run.tick(seen("video", 2 * M), times=119)
    assert run.rate() == 11 * M
    run.tick(seen("video", 2 * M), times=2)
    assert run.rate() == pytest.approx(2.2 * M, abs=8)
    assert [change.reason for change in run.changes()[1:]] == ["need fell to 2.2mbit"]


def test_a_peak_within_the_window_holds_the_rate_for_another():
    run = Run(leaf("video", guarantee=1 * M))
    for _ in range(8):
        run.tick(seen("video", 10 * M))
        run.tick(seen("video", 2 * M), times=110)
    assert run.rate() == 11 * M
    assert len(run.changes()) == 1


def test_stale_counters_hold_and_then_bring_the_static_allocation_back():
    run = Run(leaf("video"))
    run.tick(seen("video", 10 * M))
    decision = run.tick(fresh=False, times=39)
    assert run.rate() == 11 * M
    assert decision.held == "no fresh counters for 9.75s"
    assert not decision.changes
    decision = run.tick(fresh=False)
    assert decision.held == "stale"
    assert decision.allocation == run.setup.static()
    (change,) = decision.changes
    assert change.after == run.setup.static()["video"]
    assert "static allocation" in change.reason
    assert run.tick(fresh=False).changes == ()
    run.tick(seen("video", 10 * M))
    assert run.rate() == 11 * M


def test_a_missing_class_is_left_alone():
    run = Run(leaf("video"), leaf("other"))
    run.tick(seen("video", 5 * M), seen("other", 5 * M))
    decision = run.tick(seen("video", 5 * M), times=200)
    assert "other" not in decision.needs
    assert decision.allocation["other"].rate == 5_500_000


def test_an_infeasible_delay_says_which_link_would_do():
    voice = leaf("voice", Tier.SPECIAL, guarantee=400_000, limit=1 * M, sla=Sla((DelayTarget(0.99, 0.005),)))
    run = Run(voice, bandwidth=2 * M)
    decision = run.tick(seen("voice", 0.1 * M, envelope={0.002: 214}, delay=view(0.007, percentile=0.99)))
    (short,) = decision.shortfalls
    # One full frame on the wire and its own must pass within 5 ms less the bursts.
    assert short.capacity == pytest.approx((1514 + 214) * 8 / 0.004, rel=0.01)
    assert decision.held == "delay target of voice infeasible at any rate of this 2mbit link"
    run.tick(seen("voice", 0.1 * M, envelope={0.002: 214}, delay=view(0.007, percentile=0.99)), times=100)
    assert run.rate("voice") == 400_000


def test_of_two_that_do_not_fit_the_smaller_need_is_met_whole_and_keeps_its_place():
    run = Run(leaf("a"), leaf("b"), leaf("bulk", Tier.STANDARD, guarantee=1 * M, sla=Sla()))
    decision = run.tick(seen("a", 12 * M), seen("b", 10 * M))
    assert (run.rate("a"), run.rate("b")) == (8 * M, 11 * M)
    assert [(short.path, short.need, short.granted) for short in decision.shortfalls] == [("a", 12 * M, 9 * M)]
    assert {change.path: change.bound for change in decision.changes} == {"a": "peers", "b": "none"}
    # The other one's is the smaller now, but not by so much that the two would change places.
    run.tick(seen("a", 12 * M), seen("b", 13 * M), times=200)
    assert run.rate("b") >= 14_300_000
    # What is queued by the one that is given up lasts as long as it may wait: what passes is in time.
    assert run.state.classes["a"].grant.queue * 8 / run.rate("a") < 0.05


def test_overload_names_every_class_that_falls_short():
    run = Run(leaf("a", Tier.SPECIAL), leaf("b"), leaf("c", Tier.STANDARD, guarantee=2 * M, sla=Sla()))
    decision = run.tick(seen("a", 10 * M), seen("b", 10 * M), seen("c", 0, tcp=1 * M))
    assert (run.rate("a"), run.rate("b"), run.rate("c")) == (11 * M, 7 * M, 2 * M)
    (short,) = decision.shortfalls
    # Headroom is nobody's need, and of its floor of 2 Mbit/s c uses 1: 10 + 10 + 1 are wanted of 20.
    assert (short.path, short.need) == ("b", 10 * M)
    assert (short.granted, short.capacity) == pytest.approx((9 * M, 21 * M), abs=16), "whole bytes a second"
    assert (short.target, short.bound) == ("delay-p95", "link")
    assert decision.given_up == ("delay-p95 of b", "held: a")
    assert {change.path: change.bound for change in decision.changes} == {"a": "none", "b": "tier"}


def bulk(**given):
    return leaf("bulk", Tier.STANDARD, guarantee=12 * M, floor=2 * M, sla=Sla(), **given)


def hungry(got):
    return seen("bulk", 0, tcp=got, backlog=100_000)


def greedy(got):
    """A class that was promised little and borrows."""
    return seen("web", 0, tcp=got, backlog=100_000)


def web():
    return leaf("web", Tier.STANDARD, guarantee=1 * M, sla=Sla())


def test_a_yielding_class_at_its_guarantee_by_borrowing_is_left_at_its_floor():
    run = Run(leaf("video"), bulk())
    run.tick(seen("video", 2 * M), hungry(13 * M), times=200)
    assert run.rate("bulk") == 2 * M


def test_a_yielding_class_that_is_harmed_is_raised_late_slowly_and_never_past_its_guarantee():
    run = Run(leaf("video"), bulk(), web())
    run.tick(seen("video", 2 * M), hungry(4 * M), greedy(12 * M), times=11)
    assert run.rate("bulk") == 2 * M
    run.tick(seen("video", 2 * M), hungry(4 * M), greedy(12 * M), times=400)
    assert run.rate("bulk") == 12 * M
    at = [number * TICK for number, each in enumerate(run.decisions) if "bulk" in {one.path for one in each.changes}]
    # A rate below what it has by borrowing would change nothing; then a quarter of the guarantee at a time.
    assert [change.after.rate for change in run.changes() if change.path == "bulk"] == [7 * M, 10 * M, 12 * M]
    assert at == [3.0, 6.0, 9.0]
    assert "short of the guarantee of 12mbit" in next(one for one in run.changes() if one.path == "bulk").reason


def test_it_is_not_raised_without_demand_or_while_a_higher_tier_misses_its_sla():
    run = Run(leaf("video"), bulk(), web())
    run.tick(seen("video", 2 * M), seen("bulk", 0, tcp=4 * M), greedy(12 * M), times=80)
    assert run.rate("bulk") == 2 * M
    run.tick(seen("video", 2 * M, delay=view(0.08)), hungry(4 * M), greedy(12 * M), times=80)
    assert run.rate("bulk") == 2 * M


def test_it_is_not_raised_where_the_others_have_no_more_than_they_need():
    run = Run(leaf("video"), bulk(), leaf("web", Tier.STANDARD, guarantee=3 * M, sla=Sla()))
    run.tick(seen("video", 12 * M), hungry(5 * M), greedy(3 * M), times=200)
    assert run.rate("bulk") == 2 * M


@pytest.mark.parametrize(("wait", "raised"), [(0.01, 7 * M), (0.03125, 6 * M), (0.038, 2 * M)])
def test_it_is_raised_by_no_more_than_the_others_can_lose_without_being_late(wait, raised):
    """Of 50 ms 37.5 are wanted: at 31.25 a sixth of 12 Mbit/s can be spared, at 38 nothing, and a step is 3."""
    late = Sla((DelayTarget(0.95, 0.05),))
    run = Run(leaf("video"), bulk(), leaf("web", guarantee=1 * M, sla=late), tuning=Tuning(restore_first=0.25))
    borrowed = seen("web", 0, tcp=12 * M, backlog=50_000, delay=view(wait))
    run.tick(seen("video", 2 * M), hungry(4 * M), borrowed, times=16)
    assert run.rate("bulk") == pytest.approx(raised, abs=8)


def crowd(drops):
    """Many flows that came for what they get: 100 packets, of which 5 may be late."""
    one = seen("web", 0, tcp=12 * M, delay=view(0.01))
    return replace(one, sent_packets=100 - drops, dropped_packets=drops)


def borrower():
    """Its queue keeps itself short, and does not tell whether its TCP is greedy."""
    return replace(leaf("web", guarantee=1 * M, sla=Sla((DelayTarget(0.95, 0.05),))), memory=True)


def rises(run):
    """When bulk's rate moved, and to what in Mbit/s."""
    found = ((number, one) for number, each in enumerate(run.decisions) for one in each.changes if one.path == "bulk")
    return [(number * TICK, one.after.rate / M) for number, one in found]


def test_a_rise_after_which_a_class_above_drops_is_taken_back_and_the_next_is_smaller_and_later():
    run = Run(leaf("video"), bulk(), borrower())
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=20)
    assert rises(run) == [(3.0, 4.375), (4.5, 5.125)]
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(30))
    assert rises(run)[2:] == [(5.0, 4.375)]
    assert "web dropped more than may be late as soon as it rose" in run.decisions[-1].changes[0].reason
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=82)
    assert rises(run)[3:] == [(25.0, 4.75)]
    # Again, and four times as late.
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(30))
    assert rises(run)[4:] == [(25.75, 4.375)]
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=319)
    assert rises(run)[5:] == []
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0))
    assert rises(run)[5:] == [(105.75, 4.75)]


@pytest.mark.parametrize("drops", [[2] * 6, [9, 0, 0, 0, 0, 0]])
def test_a_rise_is_not_taken_back_for_half_of_what_may_be_late_nor_for_a_single_burst(drops):
    run = Run(leaf("video"), bulk(), borrower())
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=13)
    for each in drops:
        run.tick(seen("video", 2 * M), hungry(4 * M), crowd(each))
    assert rises(run)[:2] == [(3.0, 4.375), (4.5, 5.125)]


def test_where_those_above_drop_in_any_case_it_rises_by_a_quarter_and_stays():
    run = Run(leaf("video"), bulk(), borrower())
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(20), times=25)
    assert rises(run) == [(3.0, 7), (6.0, 10)]


def test_one_that_was_taken_back_by_chance_costs_20_seconds():
    run = Run(leaf("video"), bulk(), borrower())
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=20)
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(30))
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=108)
    assert rises(run)[3:] == [(25.0, 4.75), (26.5, 5.5), (28.0, 7), (29.5, 10), (31.0, 12)]


def test_where_those_above_drop_on_it_falls_further_and_to_its_floor_only_where_that_helps():
    run = Run(leaf("video"), bulk(), borrower())
    dropped = 0
    for _ in range(2400):
        over = run.rate("bulk") > 9 * M
        dropped += over
        run.tick(seen("video", 2 * M), hungry(run.rate("bulk")), crowd(30 if over else 0))
    assert run.rate("bulk") > 6 * M
    assert dropped <= 12, "of ten minutes no more than three seconds"
    run = Run(leaf("video"), bulk(), borrower())
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=20)
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(30), times=60)
    falls = [rate for _, rate in rises(run)[2:]]
    assert falls[:3] == pytest.approx([4.375, 3.28125, 2.4609375], rel=1e-5)
    assert falls[3] == 2, "at the floor they drop as well"
    assert falls[4:6] == [7, 10], "so that it is not to blame"


@pytest.mark.parametrize("spent", [False, True])
def test_what_is_taken_back_falls_whatever_the_budget_and_the_dead_band(spent):
    run = Run(leaf("video"), bulk(), borrower())
    bulks = replace(run.state.classes["bulk"], restored=9 * M)
    run.state = replace(run.state, classes={**run.state.classes, "bulk": bulks})
    run.tick(seen("video", 2 * M), hungry(9 * M), crowd(0), times=13)
    assert rises(run)[-1] == (3.0, 9.375)
    run.tuning = Tuning(changes_per_minute=1 if spent else 60)
    run.tick(seen("video", 2 * M), hungry(9 * M), crowd(30))
    assert rises(run)[-1] == (3.25, 9)
    assert "taken back" in run.decisions[-1].changes[0].reason


def test_drops_that_are_seen_late_count_and_nothing_rises_with_the_budget_spent():
    run = Run(leaf("video"), bulk(), borrower())
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=13)
    run.now += 5
    late = Observation(5.25, {"video": seen("video", 2 * M), "bulk": hungry(4 * M), "web": crowd(30)}, HEALTHY)
    run.now += TICK
    run.state, decision = step(run.setup, run.state, late, now=run.now, tuning=run.tuning)
    assert [change.after.rate for change in decision.changes if change.path == "bulk"] == [2 * M]
    run = Run(leaf("video"), bulk(), borrower(), tuning=Tuning(changes_per_minute=1))
    run.tick(seen("video", 5 * M), hungry(4 * M), crowd(0), times=200)
    assert run.state.classes["bulk"].restored == 2 * M


def test_a_class_with_a_target_for_loss_alone_is_not_harmed_for_long():
    run = Run(leaf("video"), bulk(), leaf("web", guarantee=1 * M, sla=Sla((), 0.005)))
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=13)
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(3))
    assert rises(run) == [(3.0, 4.375), (3.25, 2)]


def test_what_was_taken_back_is_forgotten_once_it_can_do_without():
    run = Run(leaf("video"), bulk(), borrower())
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=13)
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(30))
    assert rises(run)[1:] == [(3.25, 2)]
    run.tick(seen("video", 2 * M), hungry(15 * M), crowd(0), times=90)
    run.tick(seen("video", 2 * M), hungry(4 * M), crowd(0), times=24)
    assert [rate for _, rate in rises(run)[2:]] == [4.375, 5.125]


def test_it_yields_at_once_and_starts_over():
    run = Run(leaf("video"), bulk(), web())
    run.tick(seen("video", 2 * M), hungry(4 * M), greedy(12 * M), times=400)
    decision = run.tick(seen("video", 14 * M), hungry(4 * M), greedy(1 * M))
    assert run.rate("video") == pytest.approx(15.4 * M)
    assert run.rate("bulk") == pytest.approx(3.6 * M, abs=8)
    fall = next(change for change in decision.changes if change.path == "bulk")
    assert (fall.bound, fall.reason) == ("tier", "yields to video")
    run.tick(seen("video", 2 * M), hungry(4 * M), greedy(12 * M), times=8)
    assert run.rate("bulk") <= 3.6 * M


def test_it_goes_back_to_its_floor_when_borrowing_gives_it_more():
    run = Run(leaf("video"), bulk(), web())
    run.tick(seen("video", 2 * M), hungry(4 * M), greedy(12 * M), times=400)
    before = len(run.changes())
    run.tick(seen("video", 2 * M), hungry(17 * M), greedy(1 * M), times=200)
    assert run.rate("bulk") == 2 * M
    (fall,) = (change for change in run.changes()[before:] if change.path == "bulk")
    assert "by borrowing" in fall.reason


def test_the_budget_never_blocks_a_class_in_violation():
    run = Run(leaf("video"), leaf("other"), bulk(), tuning=Tuning(changes_per_minute=1))
    run.tick(seen("video", 5 * M), seen("other", 1 * M), hungry(4 * M))
    assert run.rate() == 5_500_000
    decision = run.tick(seen("video", 5 * M), seen("other", 4 * M), hungry(4 * M))
    assert run.rate("other") == 3 * M
    assert decision.held == "changes a minute used up"
    run.tick(seen("video", 5 * M), seen("other", 4 * M, drops=50), hungry(4 * M))
    assert run.rate("other") >= 4_400_000


def test_the_queue_follows_the_rate_and_the_target():
    other = leaf("other", guarantee=9 * M, sla=Sla())
    run = Run(leaf("video", sla=Sla((P95,))), other)
    run.tick(seen("video", 10 * M))
    usable = 0.05 - 2 * 1514 * 8 / (20 * M) - 0.001
    assert run.state.classes["video"].grant.queue == int(11 * M * usable / 8)
    # A class that may lose nothing gets a quarter more.
    run = Run(leaf("video"), other)
    run.tick(seen("video", 10 * M))
    assert run.state.classes["video"].grant.queue == int(1.25 * 11 * M * usable / 8)


def test_a_queue_is_as_long_as_what_the_others_leave_could_serve_in_time():
    video, peer = leaf("video", sla=Sla((P95,))), leaf("peer", guarantee=2 * M, sla=Sla())
    usable = 0.05 - 3 * 1514 * 8 / (20 * M) - 0.001
    # Of a lower tier counts what it is granted, whatever it borrows; of the others what they use, if that is more.
    for used, counts in ((1 * M, 2 * M), (9 * M, 9 * M)):
        run = Run(video, peer, bulk(), leaf("voice", Tier.SPECIAL, guarantee=1 * M))
        decision = run.tick(seen("video", 2 * M), seen("peer", 0, tcp=used), hungry(13 * M), seen("voice", 0.5 * M))
        assert run.state.classes["video"].grant.queue == int((20 * M - counts - 2 * M - 1 * M) * usable / 8)
        # Its rate of 3 Mbit/s would take far longer than the 50 ms that were promised.
        (reason,) = (change.reason for change in decision.changes if change.path == "video")
        left = f"{(17 * M - counts) / M:g}mbit"
        assert f"{format_duration(round(usable, 4))} at the {left} that the others leave it" in reason


def test_a_queue_that_no_capture_can_tell_from_tcp_s_is_what_the_rate_alone_could_serve_in_time():
    run = Run(leaf("video", sla=Sla((P95,))))
    run.tick(seen("video", 10 * M, blind=True, sent=10 * M), capture=CaptureHealth(False), times=4)
    usable = 0.05 - 1514 * 8 / (20 * M) - 0.001
    assert run.state.classes["video"].grant.queue == pytest.approx(run.rate() * usable / 8, rel=0.25)


def test_a_limit_of_memory_is_not_tight_whatever_is_in_the_queue():
    run = Run(replace(leaf("video", sla=MIXED), memory=True), leaf("other", guarantee=9 * M, sla=Sla()))
    run.tick(seen("video", 1 * M, tcp=3 * M), times=8)
    usable = 0.1 - 2 * 1514 * 8 / (20 * M) - 0.001
    # Twice the bytes of what the link could serve in time, as the kernel counts memory.
    assert run.state.classes["video"].grant.queue == int(2 * 11 * M * usable / 8)
    reasons = [change.reason for change in run.changes() if change.path == "video"]
    assert f"{format_duration(round(usable, 4))} at the 11mbit that the others leave it" in reasons[0]


def test_the_queue_of_tcp_is_what_its_rate_alone_could_serve_in_time():
    run = Run(leaf("video", sla=MIXED))
    run.tick(seen("video", 1 * M, tcp=3 * M), times=8)
    usable = 0.1 - 1514 * 8 / (20 * M) - 0.001
    assert run.rate() == 4_400_000
    assert run.state.classes["video"].grant.queue == pytest.approx(0.75 * 4_400_000 * usable / 8, rel=0.1)
    assert run.changes()[-1].reason.endswith("at its rate")
    run.tick(seen("video", 1 * M, tcp=14 * M, backlog=40_000), times=40)
    assert run.state.classes["video"].grant.queue == pytest.approx(4_400_000 * usable / 8, rel=0.1)


def visitors(mbit, **shown):
    """Many who ask for little each, beside some UDP."""
    return seen("video", 0.1 * M, tcp=(mbit - 0.1) * M, **shown)


def visited():
    return Run(leaf("video", sla=Sla((P95,))), leaf("bulk", Tier.STANDARD, guarantee=12 * M, floor=1 * M, sla=Sla()))


USABLE = 0.05 - 1514 * 8 / (20 * M) - 0.001


SHORT = int(0.75 * 3 * M * USABLE / 8)
"""Bytes of a queue for greedy TCP at 3 Mbit/s."""


def paced(run):
    """Whether the queue is one for what the others leave."""
    return run.state.classes["video"].grant.queue > 3 * SHORT


def test_tcp_that_leaves_its_queue_mostly_empty_has_one_for_what_the_others_leave():
    run = visited()
    run.tick(visitors(1), hungry(12 * M), times=20)
    assert run.state.classes["video"].grant.queue == pytest.approx(SHORT, rel=0.1)
    run.tick(visitors(1), hungry(12 * M), times=5)
    assert run.state.classes["video"].grant.queue == pytest.approx((20 - 1) * M * USABLE / 8, rel=0.25)
    assert run.decisions[-1].changes == ()
    assert "at the 19mbit that the others leave it, and its TCP comes at a pace of its own" in run.changes()[-1].reason
    run.tick(visitors(8, backlog=60_000), hungry(11 * M), times=2)
    assert paced(run), "a burst is no sign of greed"
    run.tick(visitors(8, backlog=3_000), hungry(11 * M), times=300)
    assert paced(run)
    assert run.rate() <= 3 * M, "it asks for no rate: what it borrows is not taken from its neighbours"
    assert run.rate("bulk") == 1 * M, "nor is bulk given back what it would lack"


def test_tcp_that_fills_its_queue_is_greedy_for_twice_as_long_each_time():
    run = visited()
    run.tick(visitors(1), hungry(12 * M), times=30)
    for minutes in (1, 2):
        run.tick(visitors(10, backlog=80_000), hungry(5 * M), times=24)
        run.tick(visitors(1), hungry(12 * M), times=4)
        assert not paced(run)
        run.tick(visitors(1), hungry(12 * M), times=minutes * 240 - 30)
        assert not paced(run)
        run.tick(visitors(1), hungry(12 * M), times=60)
        assert paced(run)


def test_tcp_that_takes_all_that_is_left_keeps_its_queue_and_gives_back_what_a_yielding_class_was_promised():
    run = visited()
    run.tick(visitors(1), hungry(12 * M), times=30)
    run.tick(visitors(14), hungry(5 * M), times=60)
    assert rises(run) == []
    run.tick(visitors(18.5, backlog=2_000), hungry(1 * M), times=60)
    assert [rate for _, rate in rises(run)[:3]] == [1.375, 2.125, 3.625]
    assert paced(run)


def test_tcp_that_was_greedy_from_the_start_is_so_for_a_window():
    run = visited()
    run.tick(visitors(10, backlog=80_000), hungry(5 * M), times=12)
    run.tick(visitors(1), hungry(12 * M), times=50)
    assert not paced(run)
    run.tick(visitors(1), hungry(12 * M), times=20)
    assert paced(run)


def test_a_neighbour_that_takes_more_for_some_seconds_makes_no_greed():
    run = Run(leaf("video", sla=Sla((P95,))), leaf("peer", sla=Sla((P95,))))
    run.tick(visitors(9, backlog=3_000), seen("peer", 3 * M), times=60)
    assert paced(run)
    run.tick(visitors(9, backlog=3_000), seen("peer", 9.5 * M), times=20)
    run.tick(visitors(9, backlog=3_000), seen("peer", 3 * M), times=60)
    assert paced(run)


def test_a_queue_that_keeps_itself_short_does_not_tell_greedy_tcp():
    aqm = Bounds((1 * M, 20 * M), (20 * M, 20 * M), (3000, 10**6), (1000, 5000))
    for short in ({"memory": True}, {"bounds": aqm}):
        run = Run(replace(leaf("video"), **short))
        run.tick(visitors(8), times=100)
        assert not run.state.classes["video"].pace.greedy_until < run.now


def test_the_queue_of_tcp_is_never_cut_below_the_backlog_and_none_is_moved_a_little():
    run = Run(leaf("video", sla=Sla((P95,))))
    run.tick(seen("video", 10 * M))
    run.tick(seen("video", 1 * M, tcp=2 * M, backlog=60_000), times=400)
    assert run.state.classes["video"].grant.queue >= 60_000
    run.tick(seen("video", 1 * M, tcp=2 * M, backlog=40_000))
    assert run.state.classes["video"].grant.queue == 40_000
    run.tick(seen("video", 1 * M, tcp=2 * M, backlog=37_000))
    assert run.state.classes["video"].grant.queue == 40_000


def test_the_queue_stays_in_its_bounds_and_where_no_delay_was_promised():
    run = Run(leaf("video", queue=(30_000, 40_000)), leaf("bulk", Tier.STANDARD, guarantee=2 * M, sla=Sla()))
    run.tick(seen("video", 0.1 * M, tcp=1 * M), seen("bulk", 0, tcp=15 * M))
    assert run.state.classes["video"].grant.queue == 30_000
    assert run.state.classes["bulk"].grant.queue == 18_750
    run.tick(seen("video", 14 * M), seen("bulk", 0, tcp=5 * M), times=100)
    assert run.state.classes["video"].grant.queue == 40_000
