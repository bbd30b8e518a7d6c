"""The one target of all of CAKE's tins: whose delay shortens it, and who has to agree before it comes back."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.control import ClassSetup, LinkSetup, Setup, Tuning, initial, resume, step
from shaper.history.codec import decode, encode
from shaper.model.decision import Bounds, Grant
from shaper.model.observation import CaptureHealth, ClassObservation, DelayView, Observation
from shaper.model.policy import Tier
from shaper.model.sla import DelayTarget, Sla

M = 10**6
TICK = 0.25
LINK = 40 * M
COMPILED = 5_000
HEALTHY = CaptureHealth(True, captured=1000)
TUNING = Tuning()
HELD = int(TUNING.window / TICK)
AIM = TUNING.setpoint * 0.05
"""Seconds of the 50 ms that the delays are led to."""


def tin(path, *, threshold=LINK, promised=True, target=(1_024, COMPILED)):
    sla = Sla((DelayTarget(0.95, 0.05),)) if promised else Sla()
    bounds = Bounds((threshold, threshold), (LINK, LINK), (0, 0), target)
    return ClassSetup(path, Tier.STANDARD, 1.0, 0, 0, LINK, sla, bounds, Grant(threshold, LINK, 0, target[1]))


def seen(p95, *, count=1000, tcp=True, drops=0, rate=8 * M):
    """A tick in which a class sent at `rate`, with the delay's 95th percentile in seconds; a function of its path."""
    size = int(rate * TICK / 8)
    delay = DelayView(count, 0.2, {0.95: p95}, {}, p95)
    return lambda path: ClassObservation(
        path, TICK, size, size // 1250, drops, 30_000, rate, 0.0 if tcp else rate, {}, delay
    )


LATE, FAIR, GOOD = seen(0.4), seen(AIM), seen(0.3 * AIM)
FEW = seen(0.4, count=20, tcp=False, rate=100_000)


class Run:
    """Ticks of two tins and more, with the clock kept. After each of them all have the same."""

    def __init__(self, *tins, tuning=TUNING):
        self.setup = Setup(LinkSetup(LINK), tins or (tin("web"), tin("voice")), tins=True)
        self.state, self.now, self.tuning = initial(self.setup), 0.0, tuning
        self.targets, self.moves, self.decision = [COMPILED], [], None

    @property
    def target(self):
        (found,) = {memory.grant.target for memory in self.state.classes.values()}
        return found

    def tick(self, *ones, times=1, capture=HEALTHY):
        for _ in range(times):
            self.now += TICK
            classes = {cls.path: one(cls.path) for cls, one in zip(self.setup.classes, ones, strict=False) if one}
            observation = Observation(TICK, classes, capture)
            self.state, self.decision = step(self.setup, self.state, observation, now=self.now, tuning=self.tuning)
            self.targets.append(self.target)
            if self.decision.changes:
                self.moves.append(self.decision.changes)
        return self.target


def test_the_one_that_is_late_shortens_it_for_all_and_is_named():
    run = Run()
    assert run.tick(LATE, GOOD) == COMPILED // 2 // 128 * 128
    web, voice = run.moves[0]
    assert (web.path, voice.path) == ("web", "voice")
    assert web.reason == "AQM target 2.43ms: p95 400ms over 50ms, and TCP in it"
    assert voice.reason == "AQM target 2.43ms: CAKE has one for all its tins, and web asks for the shortest"
    assert {change.before.target for change in run.moves[0]} == {COMPILED}
    assert run.decision.wants["web"].missed == "p95 400ms over 50ms"


def test_rates_and_queues_stay_and_nothing_is_called_short():
    run = Run()
    run.tick(LATE, seen(0.4, tcp=False), times=200)
    static = run.setup.static()
    assert all(
        (grant.rate, grant.ceil, grant.queue) == (static[path].rate, static[path].ceil, 0)
        for path, grant in run.decision.allocation.items()
    )
    assert run.decision.shortfalls == ()


def test_two_that_are_late_get_what_the_later_one_needs():
    run = Run()
    assert run.tick(seen(1.25 * AIM), seen(1.5 * AIM)) == int(COMPILED / 1.5) // 128 * 128


def test_it_comes_back_once_all_are_well_inside_for_a_window():
    run = Run()
    run.tick(LATE, GOOD, times=8)
    least = run.target
    run.tick(GOOD, FAIR, times=3 * HELD)
    assert run.target == least, "voice would not have more"
    run.tick(GOOD, GOOD, times=HELD)
    assert run.target == least
    run.tick(GOOD, GOOD, times=2)
    assert least < run.target <= least * math.exp(TUNING.aqm_raise)
    assert run.moves[-1][0].reason.endswith("the delay has been well inside")
    run.tick(GOOD, GOOD, times=8 * HELD)
    assert run.target == COMPILED


@pytest.mark.parametrize("quiet", [None, FEW])
def test_who_has_no_traffic_or_too_little_to_judge_is_not_waited_for(quiet):
    run = Run()
    run.tick(LATE, GOOD, times=8)
    run.tick(GOOD, quiet, times=8 * HELD)
    assert run.target == COMPILED


def test_where_nobody_has_a_delay_to_judge_any_more_it_comes_back():
    run = Run(tin("web"), tin("rest", promised=False))
    run.tick(LATE, LATE, times=8)
    run.tick(FEW, LATE, times=8 * HELD)
    assert run.target == COMPILED
    assert run.moves[-1][0].reason == "AQM target 5ms: no class has a delay that asks for a shorter one"


@pytest.mark.parametrize(
    ("one", "capture"),
    [
        (FAIR, HEALTHY),
        (seen(0.4, count=99), HEALTHY),
        (seen(0.4, drops=60), HEALTHY),  # as much is lost as may be late
        (seen(0.4, tcp=False), HEALTHY),
        (LATE, CaptureHealth(True, 900, 100)),
    ],
)
def test_what_moves_nothing(one, capture):
    run = Run(tin("web"))
    run.tick(one, capture=capture)
    run.tick(one, times=HELD, capture=capture)
    assert set(run.targets) == {COMPILED}


def test_without_a_capture_it_says_so_and_stays_where_it_is():
    run = Run()
    run.tick(LATE, GOOD, times=8)
    least = run.target
    run.tick(GOOD, GOOD, times=3 * HELD, capture=CaptureHealth(False, reason="no tap"))
    assert run.target == least
    assert run.decision.held == "capture not trusted (no tap): nothing moves"


def test_without_counters_it_is_the_static_one_in_the_end():
    run = Run()
    run.tick(LATE, GOOD, times=8)
    for _ in range(int(TUNING.stale / TICK) + 1):
        run.now += TICK
        observation = Observation(TICK, {}, HEALTHY, fresh=False)
        run.state, run.decision = step(run.setup, run.state, observation, now=run.now, tuning=TUNING)
    assert run.target == COMPILED
    assert run.decision.held == "stale"


def test_it_ends_where_the_kernel_would_take_no_less_for_the_tin():
    """CAKE keeps a frame and a half at the threshold of each tin itself, whatever the target is."""
    run = Run(tin("web", threshold=LINK // 4))
    run.tick(LATE, times=60)
    assert run.target == math.ceil(1.5 * 1514 * 8 / 10 / 128) * 128 == 1_920
    slow = Run(tin("web", threshold=LINK // 16))
    slow.tick(LATE, times=60)
    assert slow.target == COMPILED
    run.setup = run.setup.carrying(LINK // 2, base=LINK)
    assert run.setup.tins
    run.state = resume(run.state, run.setup.static())
    run.tick(LATE, times=60)
    assert run.target == math.ceil(1.5 * 1514 * 8 / 5 / 128) * 128 == 3_712


def test_a_round_trip_that_the_policy_says_stays():
    run = Run(tin("web", target=(COMPILED, COMPILED)), tin("voice", target=(COMPILED, COMPILED)))
    run.tick(LATE, LATE, times=60)
    assert set(run.targets) == {COMPILED}


def test_a_move_of_all_is_one_change_of_the_budget():
    run = Run(tuning=Tuning(changes_per_minute=2))
    run.tick(seen(1.25 * AIM), GOOD, times=100)
    assert len(run.moves) == 2
    assert run.decision.held == "changes a minute used up"
    run.tick(LATE, GOOD, times=8)
    assert len(run.moves) > 2, "one that misses its SLA is moved all the same"


def test_what_an_older_shaper_kept_is_a_setup_without_tins():
    setup = Run().setup
    assert decode(Setup, encode(setup)) == setup
    assert not decode(Setup, {key: value for key, value in encode(setup).items() if key != "tins"}).tins


TICKS = st.lists(
    st.tuples(
        *[
            st.none()
            | st.builds(
                seen,
                st.floats(0.0001, 1.0),
                count=st.sampled_from((10, 1000)),
                tcp=st.booleans(),
                drops=st.sampled_from((0, 500)),
                rate=st.integers(100_000, LINK),
            )
        ]
        * 3
    ),
    max_size=60,
)


@given(TICKS)
def test_whatever_comes_all_have_the_same_and_it_is_within_its_bounds(ticks):
    run = Run(tin("web"), tin("voice", threshold=LINK // 4), tin("rest", promised=False))
    for ones in ticks:
        run.tick(*ones)  # `target` sees to it that there is only one
    assert all(1_024 <= target <= COMPILED for target in run.targets)
    assert len(run.moves) == sum(before != after for before, after in pairwise(run.targets))
    assert all(len(changes) == 3 for changes in run.moves)


@given(st.lists(st.floats(0.0001, 1.0), min_size=2, max_size=2))
def test_it_is_as_short_as_the_latest_alone_would_have_it(delays):
    together, alone = Run(), Run(tin("web"))
    assert together.tick(*map(seen, delays)) == alone.tick(seen(max(delays)))
