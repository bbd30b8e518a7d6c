"""Controllers against each other: scenarios x controllers x seeds, paired, on real queues in virtual time.

One result file for each scenario, controller and seed: what is there is not run again. The table is made of all that
are there; so is a plot of each run with --plots. Seeds 1 to 99 are for tuning and are never reported.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from _judging import Results, table

from shaper.errors import ShaperError
from shaper.lab.once import run_once
from shaper.lab.scenario import read_scenario
from shaper.lab.virtual import run_virtually

ROOT = Path(__file__).resolve().parents[2]
CONTROLLERS = Path(__file__).parent / "controllers"
SCENARIOS = ROOT / "policies" / "scenarios"
QUICK = {"scenario": ["vbr-step"], "controller": ["badly-sized", "ours"], "seeds": 1, "seconds": 12.0}


@dataclass(frozen=True)
class Run:
    """One scenario under one controller with one seed; `seconds` in place of the scenario's own."""

    scenario: str
    name: str
    entry: Mapping[str, Any]
    seed: int
    seconds: float | None
    real: bool
    peaks: Mapping[str, str]
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / f"{self.scenario}.{self.name}.{self.seed}.json"

    @property
    def there(self) -> bool:
        """Whether its file is, and of the controller as it is written now."""
        return self.file.exists() and json.loads(self.file.read_text())["entry"] == self.entry

    def form(self) -> Path | None:
        """The policy that the controller has in the place of the scenario's own, None where it takes that."""
        forms = self.entry.get("policies", {})
        name = forms.get(own_policy(self.scenario).stem)
        return CONTROLLERS / f"{name}.yaml" if name else None

    @property
    def possible(self) -> bool:
        """Whether the controller has a policy for the scenario at all."""
        return "policies" not in self.entry or self.form() is not None

    def policy(self) -> Path:
        """The scenario's policy as this controller has it, written beside the results."""
        document = yaml.safe_load((self.form() or own_policy(self.scenario)).read_text())
        if aqm := self.entry.get("aqm"):
            document["defaults"] = {"aqm": aqm}
        for interface in document["interfaces"].values():
            if backend := self.entry.get("backend"):
                interface["backend"] = backend
        if self.entry.get("sized") == "peaks":
            for policy in document["policies"].values():
                size(policy["classes"], self.peaks)
        text = yaml.safe_dump(document, sort_keys=False)
        path = self.folder / "policies" / f"{self.scenario}.{hashlib.sha256(text.encode()).hexdigest()[:8]}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def carry_out(self) -> None:
        """Runs it and leaves its file. Raises ShaperError."""
        scenario = SCENARIOS / f"{self.scenario}.yaml"
        command: list[str] = []
        if {"law", "structure", "autorate"} & self.entry.keys():
            where = CONTROLLERS / "as_shaper.py"
            shown = where if self.real else Path("/run/checkout") / where.relative_to(ROOT)
            command = [str(shown), json.dumps(self.entry)]
        if self.real:
            found = run_once(
                self.policy(),
                scenario,
                mode=self.entry["mode"],
                seconds=self.seconds,
                seed=self.seed,
                **({"command": (sys.executable, *command)} if command else {}),
            )
        else:
            found = run_virtually(
                self.policy(), scenario, mode=self.entry["mode"], seed=self.seed, seconds=self.seconds, command=command
            )
        found |= {"scenario": self.scenario, "controller": self.name, "seed": self.seed, "entry": dict(self.entry)}
        scratch = self.file.with_suffix(f".{os.getpid()}.part")
        scratch.write_text(json.dumps(found))
        scratch.replace(self.file)


def own_policy(scenario: str) -> Path:
    """The policy that a scenario names."""
    path = SCENARIOS / f"{scenario}.yaml"
    return (path.parent / read_scenario(path).policy).resolve()


def size(classes: Mapping[str, Any], peaks: Mapping[str, str], above: str = "") -> None:
    """Writes the guarantees of the table into a policy's classes."""
    for name, cls in classes.items():
        path = f"{above}{name}"
        if "classes" in cls:
            size(cls["classes"], peaks, f"{path}/")
        elif path in peaks:
            cls["guarantee"] = peaks[path]
            cls.pop("adapt", None)


def wanted_runs(wanted: argparse.Namespace, baselines: Mapping[str, Any]) -> Iterator[Run]:
    """Seed by seed, so that what is there when it is stopped is paired."""
    for seed in range(wanted.first_seed, wanted.first_seed + wanted.seeds):
        for scenario in wanted.scenario:
            for name in wanted.controller:
                yield Run(
                    scenario,
                    name,
                    baselines["controllers"][name],
                    seed,
                    wanted.seconds,
                    wanted.real,
                    baselines["peaks"][scenario],
                    wanted.results,
                )


def arguments(baselines: Mapping[str, Any]) -> argparse.Namespace:
    """What is asked for; `--quick` stands for a small choice of it."""
    scenarios = [*baselines["feasible"], *baselines["others"]]
    parser = argparse.ArgumentParser(prog="scripts/bench control", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=scenarios, help="[all]")
    parser.add_argument("--controller", action="append", choices=list(baselines["controllers"]), help="[all]")
    parser.add_argument("--seeds", type=int, help="how many [10; --real: 3]")
    parser.add_argument("--first-seed", type=int, default=baselines["seeds"]["reported"], help="[%(default)s]")
    parser.add_argument("--seconds", type=float, help="length of each run [the scenario's own]")
    parser.add_argument("--real", action="store_true", help="in real time, on this machine's own kernel")
    parser.add_argument("--quick", action="store_true", help="one short scenario, two controllers, one seed")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, in virtual time only [1]")
    parser.add_argument("--results", type=Path, help="folder of the result files [.bench/control]")
    parser.add_argument("--table", action="store_true", help="run nothing: the table of what is there")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="a plot of each scenario and seed (needs matplotlib)")
    parser.add_argument("--cost", action="store_true", help="the processor's time of the law's own step, by classes")
    parser.add_argument("--grid", action="store_true", help="the search for AIMD's settings, in the simulator")
    wanted = parser.parse_args()
    if wanted.quick:
        for name, value in QUICK.items():
            if getattr(wanted, name) is None:
                setattr(wanted, name, value)
    wanted.scenario = wanted.scenario or scenarios
    wanted.controller = wanted.controller or list(baselines["controllers"])
    wanted.seeds = wanted.seeds or (3 if wanted.real else 10)
    if wanted.results is None:
        kind = "real" if wanted.real else "virtual"
        wanted.results = ROOT / ".bench" / "control" / (f"quick-{kind}" if wanted.quick else kind)
    if wanted.real:
        wanted.jobs = 1
    wanted.results.mkdir(parents=True, exist_ok=True)
    return wanted


def main() -> int:
    """0 when every run was carried out, 1 when one failed; it goes on with the others."""
    baselines = yaml.safe_load((CONTROLLERS / "baselines.yaml").read_text())
    wanted = arguments(baselines)
    if wanted.cost:
        from _steps import cost  # noqa: PLC0415 # what nobody else needs

        for line in cost():
            print(line, flush=True)
        return 0
    if wanted.grid:
        from _grid import search  # noqa: PLC0415 # what nobody else needs

        for line in search(baselines["grid"], baselines["controllers"]["aimd"]["settings"]):
            print(line, flush=True)
        return 0
    runs = [run for run in wanted_runs(wanted, baselines) if run.possible]
    failed = 0
    if not wanted.table:
        todo = [run for run in runs if not run.there]
        print(f"{len(runs)} runs, {len(runs) - len(todo)} of them are there", file=sys.stderr, flush=True)
        with concurrent.futures.ThreadPoolExecutor(wanted.jobs) as pool:
            failed = sum(pool.map(attempt, todo))
    results = Results.read([run.file for run in runs if run.there])
    for line in table(
        results, scenarios=wanted.scenario, controllers=wanted.controller, feasible=baselines["feasible"]
    ):
        print(line)
    if wanted.plots is not None:
        from _plots import draw  # noqa: PLC0415 # only where matplotlib is wanted

        draw(results, wanted.plots)
    return int(failed > 0)


def attempt(run: Run) -> bool:
    """Whether it failed; says how it went."""
    began = time.monotonic()
    try:
        run.carry_out()
    except ShaperError as error:
        print(f"{run.scenario} {run.name} seed {run.seed}: {error}", file=sys.stderr, flush=True)
        return True
    print(f"{run.scenario} {run.name} seed {run.seed}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
