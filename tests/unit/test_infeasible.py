"""Where not every SLA can hold it is said at once which, by how much, on what link they would, and what is given up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from shaper import control
from shaper.cli.simulate import compiled
from shaper.lab.offered import Offered, from_scenario
from shaper.lab.scenario import read_scenario
from shaper.lab.scenario_file import UdpSpec, UdpStep, parse_moment
from shaper.lab.simulator import Simulation
from shaper.lab.stage import laid_out, the_interface
from shaper.model.decision import Decision
from shaper.model.observation import TICK
from shaper.model.policy import Interface

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policies" / "lab" / "office.yaml"
SCENARIO = ROOT / "policies" / "scenarios" / "overload.yaml"
SECONDS, STEP = 12.0, 4.0
M = 1_000_000
LINK, FLOOR = 20 * M, 1 * M
"""What is there, and what nothing takes from bulk."""


def traffic(interface: Interface, seed: int) -> Offered:
    """The overload scenario with its backup as packets that nobody holds back, for a model that knows no TCP."""
    scenario = read_scenario(SCENARIO)
    greedy = UdpStep.model_construct(at=parse_moment("0s"), rate=20 * M, size=1400)
    backup = UdpSpec.model_construct(protocol="udp", name="bulk", dscp=0, steps=(greedy,))
    scenario = scenario.model_copy(update={"flows": {**scenario.flows, "backup": backup}})
    laid = laid_out(interface, scenario, name=SCENARIO, seconds=SECONDS, seed=seed)
    offered = from_scenario(laid)
    return replace(offered, packets=list(offered.packets))


def rates(offered: Offered, since: float, until: float) -> Mapping[str, float]:
    """What came of each class then, in bit/s of layer 2."""
    sums: dict[str, float] = {}
    for at, path, size in offered.packets:
        if since * 1e9 <= at < until * 1e9:
            sums[path] = sums.get(path, 0.0) + size * 8 / (until - since)
    return sums


@pytest.fixture(scope="module", params=[1, 2])
def overload(request: pytest.FixtureRequest) -> tuple[Offered, dict[float, Decision]]:
    """What was offered, and what was decided at each tick."""
    interface = the_interface(POLICY)
    offered = traffic(interface, request.param)
    decided: dict[float, Decision] = {}
    law = control.step
    with pytest.MonkeyPatch.context() as patch:

        def step(*arguments: control.State, now: float, **more: control.Tuning) -> tuple[control.State, Decision]:
            state, decision = law(*arguments, now=now, **more)  # type: ignore[arg-type]
            decided[round(now, 6)] = decision
            return state, decision

        patch.setattr(control, "step", step)
        Simulation(compiled(interface, structure=True), offered, mode="controlled").run()
    return offered, decided


def short(decision: Decision) -> float:
    """Of all classes together, in bit/s."""
    return sum(one.need - one.granted for one in decision.shortfalls)


def test_it_is_said_within_three_ticks_and_right(overload: tuple[Offered, dict[float, Decision]]) -> None:
    """Against what came in the same time: voice's, video's and web's bits, beside the floor of bulk."""
    offered, decided = overload
    assert not any(decision.shortfalls for now, decision in decided.items() if now <= STEP)
    for ticks in (3, 4, 8):
        until = round(STEP + ticks * TICK, 6)
        came = rates(offered, STEP, until)
        lacking = came["voice"] + came["video"] + came["web"] + FLOOR - LINK
        decision = decided[until]
        assert {one.path for one in decision.shortfalls} == {"video"}
        assert short(decision) == pytest.approx(lacking, rel=0.1)
        for one in decision.shortfalls:
            assert one.need == pytest.approx(came[one.path], rel=0.1)
            assert one.capacity == pytest.approx(LINK + lacking, rel=0.1)


def test_over_the_whole_time_it_is_what_the_scenario_says(overload: tuple[Offered, dict[float, Decision]]) -> None:
    """1.5 + 12 + 10 Mbit/s, and a floor of 1, on a link of 20."""
    _, decided = overload
    stated = [decision for now, decision in decided.items() if round(STEP + 3 * TICK, 6) <= now <= SECONDS]
    assert mean(map(short, stated)) == pytest.approx(4.5 * M, rel=0.1)
    assert mean(one.capacity for decision in stated for one in decision.shortfalls) == pytest.approx(24.5 * M, rel=0.05)


def test_what_is_given_up_is_named_in_its_order(overload: tuple[Offered, dict[float, Decision]]) -> None:
    _, decided = overload
    decision = decided[round(STEP + 3 * TICK, 6)]
    assert [(one.path, one.target, one.bound) for one in decision.shortfalls] == [
        ("video", "delay-p99", "link"),
    ]
    assert decision.given_up == (
        "bulk yields its guarantee of 11.5mbit down to 1mbit",
        "delay-p99 of video: the others of the tier cost less for their share",
        "held: voice, web",
    )


@pytest.mark.parametrize(("part", "holds"), [(1.05, True), (0.95, False)])
def test_on_the_link_that_would_do_they_hold_and_on_less_they_do_not(part: float, *, holds: bool) -> None:
    """24.5 Mbit/s by the arithmetic of the scenario: what the controller then says, and what the receiver sees."""
    interface = the_interface(POLICY)
    wider = replace(interface, bandwidth=round(24.5 * M * part))
    offered = traffic(interface, 1)
    simulation = Simulation(compiled(wider, structure=True), offered, mode="controlled")
    account = simulation.run().account.classes
    judged = [second for path in ("video", "web") for second in account[path][int(STEP) + 3 :]]
    lost = sum(second.lost for second in judged) / sum(second.sent for second in judged)
    assert (lost < 0.005) is holds
