"""The search for AIMD's settings, on the simulator: every setting of the grid, on the seeds that are for tuning."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "controllers"))

from aimd import Aimd

from shaper import control
from shaper.cli.simulate import compiled
from shaper.lab.figures import figures
from shaper.lab.offered import from_scenario
from shaper.lab.scenario import read_scenario
from shaper.lab.simulator import Simulation
from shaper.lab.stage import laid_out, the_interface

SCENARIOS = Path(__file__).resolve().parents[2] / "policies" / "scenarios"


def search(grid: Mapping[str, Any], settings: Mapping[str, float]) -> Iterator[str]:
    """A line for each setting, and the best by violation-seconds, then by changes."""
    found = []
    for up, down in product(grid["increase"], grid["decrease"]):
        one = {**settings, "increase": up, "decrease": down}
        scenario = SCENARIOS / f"{grid['scenario']}.yaml"
        results = [simulated(scenario, one, seed) for seed in grid["seeds"]]
        missed, changes = (sum(each) for each in zip(*results, strict=True))
        found.append((missed, changes, up, down))
        yield f"increase {up:<5} decrease {down:<5} {missed:4} violation-seconds {changes:5} changes"
    missed, _, up, down = min(found)
    yield f"the best: increase {up}, decrease {down}, with {missed} violation-seconds"


def simulated(path: Path, settings: Mapping[str, float], seed: int) -> tuple[int, int]:
    """(violation-seconds, changes) of AIMD on the flat structure."""
    scenario = read_scenario(path)
    interface = the_interface(path.parent / scenario.policy)
    offered = from_scenario(laid_out(interface, scenario, name=path, seed=seed))
    own, control.step = control.step, Aimd(**settings).step
    try:
        trial = Simulation(compiled(interface, structure=False), offered, mode="controlled").run()
    finally:
        control.step = own
    result = figures(interface, trial)
    return sum(one["violation_seconds"] for one in result["classes"].values()), result["changes"]
