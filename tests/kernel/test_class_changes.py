"""Class changes under live traffic lose nothing and turn no order about; `scripts/bench changes` is the full size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from class_changes import BACKENDS, LOADS, Outcome, changed_under
from numbered import Flow, Traffic, neighbours
from test_cli_kernel import until

from shaper.model.cake import TINS
from shaper.plan.impact import impacts
from shaper.plan.steps import Plan, Step, Verb
from shaper.tree import ROOT, CakeOptions, Qdisc

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

COUNT = 40
# Who keeps a queue filled must be as fast as it, which the lab's kernel is only where time waits for it.
ON_THE_MACHINE = [pytest.param("standing", marks=pytest.mark.timing), "overload"]
IN_THE_LAB = [pytest.param("standing", marks=pytest.mark.virtual), pytest.param("overload", marks=pytest.mark.full)]
TOP = 0x5A000000


@pytest.mark.parametrize("load", ON_THE_MACHINE)
def test_every_packet_is_accounted_for_and_in_order(netns: Lab, tmp_path: Path, load: str) -> None:
    whole(changed_under(netns, tmp_path, backend="htb", load=load, count=COUNT, seed=7))


@pytest.mark.parametrize("load", IN_THE_LAB)
@pytest.mark.parametrize("backend", BACKENDS)
def test_on_every_backend_whose_queues_are_aqms(netns: Lab, tmp_path: Path, backend: str, load: str) -> None:
    whole(changed_under(netns, tmp_path, backend=backend, load=load, count=COUNT, seed=8))


@pytest.mark.parametrize("load", LOADS)
def test_a_root_that_is_replaced_is_found_out(netns: Lab, tmp_path: Path, load: str) -> None:
    outcome = changed_under(netns, tmp_path, backend="htb", load=load, count=COUNT, seed=9, replace_root=True)
    assert outcome.roots == 1
    assert any("neither received nor counted" in problem for problem in outcome.problems()), outcome


@pytest.mark.full
@pytest.mark.parametrize(("old", "new", "lost"), [(4, 3, True), (3, 1, True), (1, 4, False), (4, 8, False)])
def test_a_change_of_cakes_tins_costs_what_the_plan_says(netns: Lab, old: int, new: int, lost: bool) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    neighbours(netns, pair)
    ways = {len(tins.names): way for way, tins in TINS.items()}
    before, after = (Qdisc(TOP, ROOT, "cake", CakeOptions(8_000_000, ways[count])) for count in (old, new))
    change = Step(Verb.CHANGE, before, after)
    kernel.send(pair.a, [Step(Verb.ADD, None, before)])
    flow = Flow(7001, dscp=46, standing=300_000)
    with Traffic(netns, pair, [flow]) as traffic:
        traffic.wait(5)
        kernel.send(pair.a, [change])
        until(lambda: lost or flow.received > 2 * flow.standing // flow.frame)
    (impact,) = impacts(Plan(pair.a, (change,)))
    assert impact.disruptive
    assert ("is lost, uncounted" in impact.reason) == lost == (flow.missing > 0)
    assert ("may overtake" in impact.reason) == (not lost) == (flow.disordered > 0)


def whole(outcome: Outcome) -> None:
    """Nothing wrong, with traffic and changes enough to find it."""
    print(outcome)
    assert not outcome.problems(), f"{outcome}"
    assert outcome.changes >= COUNT
    assert not outcome.roots
    assert all(flow.received > 20 for flow in outcome.flows.values())
