"""From a resolved policy to what the law works on, nested classes included."""

import pytest

from shaper.control import initial, setup_from, step
from shaper.errors import Where
from shaper.model.decision import Bounds, Grant
from shaper.model.observation import CaptureHealth, ClassObservation, Observation
from shaper.model.policy import Interface, Tier, TrafficClass
from shaper.model.sla import DelayTarget, Sla

M = 10**6
HERE = Where("p.yaml", 1, 1)


def traffic_class(path, tier, guarantee, limit, **given):
    name = path.rsplit("/", maxsplit=1)[-1]
    return TrafficClass(
        name, path, HERE, tier, guarantee, given.pop("floor", guarantee), limit, given.pop("share", 1.0), **given
    )


SLA = Sla((DelayTarget(0.95, 0.05),))
OFFICE = traffic_class(
    "office",
    Tier.STANDARD,
    4 * M,
    8 * M,
    children=(
        traffic_class("office/web", Tier.STANDARD, 3 * M, 8 * M, share=0.7, sla=SLA),
        traffic_class("office/rest", Tier.STANDARD, 1 * M, 8 * M, share=0.3, default=True, sla=SLA),
    ),
)
VOICE = traffic_class("voice", Tier.SPECIAL, 2 * M, 5 * M)
INTERFACE = Interface("wan", "eth1", 20 * M, "branch", (VOICE, OFFICE), HERE, HERE)


def built():
    bounds = {leaf.path: Bounds((leaf.floor, leaf.limit), (leaf.limit,) * 2, (6000, M)) for leaf in INTERFACE.leaves()}
    static = {leaf.path: Grant(leaf.floor, leaf.limit, 30_000) for leaf in INTERFACE.leaves()}
    return setup_from(INTERFACE, bounds, static)


def test_leaves_and_parents():
    setup = built()
    assert [(cls.path, cls.tier, cls.weight) for cls in setup.classes] == [
        ("voice", Tier.SPECIAL, 1.0),
        ("office/web", Tier.STANDARD, 0.7),
        ("office/rest", Tier.STANDARD, 0.3),
    ]
    assert [(parent.path, parent.limit, parent.leaves) for parent in setup.parents] == [
        ("office", 8 * M, ("office/web", "office/rest"))
    ]
    assert setup.static()["voice"] == Grant(2 * M, 5 * M, 30_000)


def test_latency_counts_who_is_served_no_later():
    setup = built()
    frame = 1514 * 8 / (20 * M)
    voice, web, _ = setup.classes
    assert setup.latency(voice) == pytest.approx(frame + 0.001)
    assert setup.latency(web) == pytest.approx(3 * frame + 0.001)


def test_the_leaves_of_a_parent_stay_within_its_limit():
    setup = built()
    seen = {
        path: ClassObservation(path, 0.25, 100_000, 100, 0, 0, 9 * M, 9 * M) for path in ("office/web", "office/rest")
    }
    _, decision = step(setup, initial(setup), Observation(0.25, seen, CaptureHealth(True, 100)), now=1.0)
    rates = {path: grant.rate for path, grant in decision.allocation.items()}
    assert rates["voice"] == 2 * M
    # Shared by weight, 7 to 3.
    assert rates["office/web"] == pytest.approx(5.6 * M, abs=8)
    assert rates["office/rest"] == pytest.approx(2.4 * M, abs=8)
    assert {change.bound for change in decision.changes} == {"parent"}
    assert {shortfall.capacity for shortfall in decision.shortfalls} == {20 * M}
