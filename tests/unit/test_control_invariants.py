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
    observations = [tick(setup, dice) for _ in range(12)]
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


@st.composite
def yielding(draw):
    """Up to three classes that yield, perhaps on a grid, below one that borrows what they leave."""
    bandwidth = draw(st.sampled_from((1, 20, 1_000, 10_000))) * 1_000_000
    classes = []
    for index in range(draw(st.integers(1, 3))):
        floor = 8_000 + draw(st.integers(0, bandwidth // 320)) * 8
        guarantee = floor + draw(st.integers(0, bandwidth // 32)) * 8
        bounds = Bounds((floor, bandwidth), (floor, bandwidth), (6_000, 1_000_000), (0, 0))
        grid = draw(st.sampled_from((0, 0, bandwidth // 50)))
        static = Grant(floor, bandwidth, 20_000)
        tier = draw(st.sampled_from((Tier.PRIORITY, Tier.STANDARD)))
        classes.append(
            ClassSetup(f"y{index}", tier, 1.0, guarantee, floor, bandwidth, Sla(), bounds, static, step=grid)
        )
    bounds = Bounds((8_000, bandwidth), (8_000, bandwidth), (6_000, 1_000_000), (0, 0))
    sla = draw(st.sampled_from((Sla((DelayTarget(0.95, 0.05),)), Sla((DelayTarget(0.99, 0.02),)), Sla((), 0.01))))
    grant = Grant(8_000, bandwidth, 20_000)
    classes.append(ClassSetup("above", Tier.SPECIAL, 1.0, 8_000, 8_000, bandwidth, sla, bounds, grant))
    return Setup(LinkSetup(bandwidth), tuple(classes), ())


@given(
    yielding(), st.integers(0, 2**32), st.sampled_from((3, 60)), st.sampled_from((0.05, 0.2, 1.0)), st.floats(0, 0.2)
)
def test_what_is_given_back_stays_inside_and_what_is_taken_back_falls(setup, seed, budget, seconds, drops):
    dice, tuning = Random(seed), Tuning(changes_per_minute=budget)
    state, now, present = initial(setup), 100.0, setup.static()
    for _ in range(60):
        length = seconds * dice.choice((1, 1, 1, 1, 5))
        now += length
        used = {
            path: max(grant.rate, setup.link.bandwidth * 0.02) for path, grant in present.items() if path != "above"
        }
        used["above"] = max(8_000.0, setup.link.bandwidth - sum(used.values()))
        classes = {}
        for path, rate in used.items():
            packets = max(1, int(rate * length / 10_000))
            lost = int(packets * 0.3) + 2 if path == "above" and dice.random() < drops else 0
            backlog = 0 if path == "above" else 100_000
            view = DelayView(500, 0.1, {0.95: 0.005, 0.99: 0.005}, {}, 0.005)
            sent = int(rate * length / 8)
            classes[path] = ClassObservation(path, length, sent, packets, lost, backlog, rate, 0.0, {}, view)
        observation = Observation(length, classes, CaptureHealth(True, 1000))
        state, decision = step(setup, state, observation, now=now, tuning=tuning)
        assert fits(setup, {path: grant.rate for path, grant in decision.allocation.items()})
        changed = {change.path: change for change in decision.changes}
        for cls in setup.classes:
            memory, grant = state.classes[cls.path], decision.allocation[cls.path]
            assert cls.lowest <= memory.restored <= max(cls.guarantee, cls.lowest)
            assert cls.floor <= grant.rate <= cls.limit
            if memory.trial is not None and memory.trial.undone and memory.trial.at == now:
                assert grant.rate <= max(cls.on_grid(int(memory.restored)), cls.lowest) + 8
                if grant.rate < present[cls.path].rate:
                    assert "above dropped more than may be late" in changed[cls.path].reason
        present = decision.allocation
