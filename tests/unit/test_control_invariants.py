"""Whatever is observed, in whatever order: bounds hold, sums hold, and the same input gives the same decision."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shaper.control import ClassSetup, LinkSetup, ParentSetup, Setup, Tuning, initial, step
from shaper.control.rails import fits
from shaper.model.decision import Bounds, Grant
from shaper.model.observation import CaptureHealth, ClassObservation, DelayView, Observation
from shaper.model.policy import Tier
from shaper.model.sla import DelayTarget, Sla

slas = st.builds(
    Sla,
    st.lists(st.builds(DelayTarget, st.sampled_from((0.5, 0.95, 0.99)), st.floats(0.0005, 1)), max_size=2).map(tuple),
    st.none() | st.floats(0, 0.05),
    st.none() | st.integers(8_000, 30_000_000),
)


@st.composite
def setups(draw):
    """Up to four leaves, perhaps under one parent; floors fit, static starts at the floors or above."""
    count = draw(st.integers(1, 4))
    bandwidth = draw(st.integers(100, 4_000)) * 10_000
    classes = []
    for index in range(count):
        floor = draw(st.integers(0, bandwidth // count // 8)) * 8
        limit = draw(st.integers(floor // 8, bandwidth // 8)) * 8
        guarantee = draw(st.integers(floor // 8, limit // 8)) * 8
        low = draw(st.integers(1_500, 20_000))
        target = draw(st.sampled_from(((0, 0), (1_024, 4_992), (3_072, 3_072), (1_024, 102_400))))
        bounds = Bounds((floor, limit), (floor, limit), (low, low + draw(st.integers(0, 500_000))), target)
        classes.append(
            ClassSetup(
                f"c{index}",
                draw(st.sampled_from(Tier)),
                draw(st.floats(0.05, 10)),
                guarantee,
                floor,
                limit,
                draw(slas),
                bounds,
                Grant(floor, limit, low, target[1]),
            )
        )
    inside = [cls for cls in classes if draw(st.booleans())]
    spare = draw(st.integers(0, bandwidth))
    parents = [ParentSetup("p", sum(cls.floor for cls in inside) + spare, tuple(cls.path for cls in inside))]
    return Setup(LinkSetup(bandwidth), tuple(classes), tuple(parents))


def tick(setup, dice):
    """One tick: each class with traffic of any kind, or not seen at all. `dice` is a seeded Random."""
    seconds = dice.choice((0.25, 0.5, 1.0))
    classes = {}
    for cls in setup.classes:
        if dice.random() < 0.1:
            continue
        offered = dice.choice((0.0, 0.01, 0.3, 1.0, 3.0)) * setup.link.bandwidth * dice.random()
        inelastic = dice.choice((None, 0.0, dice.random(), 1.0))
        inelastic = None if inelastic is None else inelastic * offered
        sent = int(min(offered, setup.link.bandwidth) * seconds / 8 * dice.random())
        size = int((inelastic or 0) * seconds / 8)
        largest = dice.choice((0.001, 0.05, 3.0)) * dice.random()
        quantiles = {0.5: largest / 3, 0.95: largest / 2, 0.99: largest}
        classes[cls.path] = ClassObservation(
            cls.path,
            seconds,
            sent,
            sent // 1000,
            dice.choice((0, 0, 1, 300)),
            dice.choice((0, 0, 3_000, 200_000)),
            offered,
            inelastic,
            {} if inelastic is None else {0.002: size // 10, 0.02: size // 3, seconds: size},
            dice.choice((None, DelayView(dice.choice((0, 50, 500)), 1.0, quantiles, {}, largest))),
        )
    capture = dice.choice((CaptureHealth(True, 1000), CaptureHealth(True, 900, 100), CaptureHealth(False)))
    return Observation(seconds, classes, capture, fresh=dice.random() > 0.1)


def play(setup, observations, tuning):
    state, now, decisions = initial(setup), 100.0, []
    for observation in observations:
        now += observation.seconds
        state, decision = step(setup, state, observation, now=now, tuning=tuning)
        # Ticks are seconds apart and the window is longer: where there was TCP once, there is.
        inelastic = {path: one.share is not None and one.elastic_at is None for path, one in state.classes.items()}
        decisions.append((decision, inelastic))
    return state, decisions


@given(setups(), st.integers(0, 2**32), st.sampled_from((2, 60)))
def test_bounds_sums_and_replay(setup, seed, budget):
    dice = Random(seed)
    observations = [tick(setup, dice) for _ in range(6)]
    tuning = Tuning(changes_per_minute=budget, stale=1.0)
    state, decisions = play(setup, observations, tuning)
    present = setup.static()
    for observation, (decision, inelastic) in zip(observations, decisions, strict=True):
        rates = {path: grant.rate for path, grant in decision.allocation.items()}
        assert set(rates) == {cls.path for cls in setup.classes}
        assert fits(setup, rates)
        for cls in setup.classes:
            grant = decision.allocation[cls.path]
            assert cls.floor <= grant.rate <= cls.limit
            assert grant.rate % 8 == 0
            assert grant.rate <= grant.ceil <= cls.limit
            assert cls.bounds.queue[0] <= grant.queue <= cls.bounds.queue[1]
            assert cls.bounds.target[0] <= grant.target <= cls.bounds.target[1]
            if observation.fresh and grant.queue < present[cls.path].queue and not inelastic[cls.path]:
                assert grant.queue >= min(present[cls.path].queue, observation.classes[cls.path].backlog_bytes)
        # The changes, and nothing else, lead from one allocation to the next, and each says why.
        changed = {change.path: change for change in decision.changes}
        for path, grant in decision.allocation.items():
            assert (path in changed) == (grant != present[path])
        for change in decision.changes:
            assert (change.before, change.after) == (present[change.path], decision.allocation[change.path])
            assert change.reason
            assert change.bound
        for shortfall in decision.shortfalls:
            assert shortfall.need > 0
            assert shortfall.capacity > 0
        present = decision.allocation
    again = play(setup, observations, tuning)
    assert again == (state, decisions)
