"""A state folder as a run leaves it: the journal and the seconds of a simulated run, by the shaper's own recorder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from report_samples import RUNNING

from shaper.cli.simulate import compiled
from shaper.history.store import History
from shaper.lab.offered import from_scenario
from shaper.lab.scenario import read_scenario
from shaper.lab.simulator import Simulation
from shaper.lab.stage import laid_out, the_interface

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policies" / "lab" / "office.yaml"
START = 1.7e9
"""Unix time at which the traffic begins."""


class Kept(Simulation):
    """A simulation that keeps what every class was like once a second."""

    history: History
    device = "eth1"

    def _count_second(self, number: int) -> None:
        super()._count_second(number)
        status = replace(RUNNING, classes=self._observer.statuses(self._allocation))
        self.history.observe(at=START + number + 0.001, device=self.device, status=status)


def keep(folder: Path, scenario: str, *, seconds: float, device: str = "eth1", seed: int = 1) -> Path:
    """The `history.db` in the folder after so many seconds of a scenario."""
    interface, path = the_interface(POLICY), ROOT / "policies" / "scenarios" / scenario
    traffic = laid_out(interface, read_scenario(path), name=path, seconds=seconds, seed=seed)
    simulation = Kept(compiled(interface, structure=True), from_scenario(traffic), mode="controlled")
    with History(folder / "history.db") as history:
        simulation.history, simulation.device = history, device
        simulation.run()
        for move in simulation.moves:
            history.decide(
                at=START + move.at,
                device=device,
                decision=move.decision,
                applied=True,
                read_back=move.decision.allocation,
                inputs=move.inputs,
                premise=move.premise,
            )
    return folder / "history.db"
