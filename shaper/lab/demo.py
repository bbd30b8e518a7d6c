"""`scripts/demo`: the same traffic three times on real kernel queues, and what became of the SLAs each time."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from shaper.errors import Exit
from shaper.lab.criteria import failed
from shaper.lab.fingerprint import fingerprint
from shaper.lab.result import MODES, as_json
from shaper.lab.scenario import read_scenario
from shaper.lab.show import Progress, closing_lines, final_table, opening_lines, progress
from shaper.lab.stage import folder_prefix, guarded, laid_out, require_tools, sweep, the_interface
from shaper.lab.trial import SHAPER, Trial, run_trial
from shaper.model.observation import Rung
from shaper.model.policy import Direction
from shaper.report.render import console

_HERE = Path(__file__).resolve().parents[2]
POLICY = _HERE / "policies" / "demo.yaml"
SCENARIO = _HERE / "policies" / "scenarios" / "demo.yaml"
SHORTEST = 9


def run_demo(
    *,
    seconds: int = 60,
    seed: int | None = None,
    policy: Path = POLICY,
    scenario: Path = SCENARIO,
    discard_decisions: bool = False,
    show: Progress | None = None,
    modes: Sequence[str] = MODES,
    command: Sequence[str] = SHAPER,
    measure: str = "auto",
) -> dict[str, Any]:
    """Runs the scenario once in each mode and returns the object of `--json`; `seed` in place of the scenario's own.

    With `discard_decisions` the controlled run makes its decisions and carries none out: the proof that it is the
    controller that holds the SLAs. `measure` is as for `shaper run`. Raises ShaperError; whatever happens, nothing is
    left behind.
    """
    interface = the_interface(policy)
    traffic = laid_out(interface, read_scenario(scenario), name=scenario, seconds=seconds, seed=seed)
    sweep()
    trials: list[Trial] = []
    for number, mode in enumerate(modes, 1):
        if show:
            show.begin(mode, number, len(modes))
        with tempfile.TemporaryDirectory(prefix=folder_prefix(os.getpid())) as folder:
            trials.append(
                run_trial(
                    mode,
                    policy=policy,
                    device=interface.device,
                    traffic=traffic,
                    folder=Path(folder),
                    incoming=interface.direction is Direction.INGRESS,
                    options=[
                        f"--measure={measure}",
                        *(["--dry-run"] if discard_decisions and mode == "controlled" else []),
                    ],
                    command=command,
                    **({"watch": show.watch} if show else {}),
                )
            )
    return as_json(interface, trials, seconds=seconds, wan=traffic.wan, fingerprint=fingerprint())


@click.command("demo", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seconds", type=click.IntRange(min=SHORTEST), default=60, show_default=True, help="Length of each of the runs."
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Another sample of the same traffic.  [default: the scenario's own]"
)
@click.option("--json", "json_", is_flag=True, help="Print the result as one JSON object.")
@click.option("--check", is_flag=True, help="Exit with 1 when the result does not show what it must.")
@click.option(
    "--measure",
    type=click.Choice(["auto", *(one.value for one in Rung)]),
    default="auto",
    help="By what the shaper measures, as for `shaper run`.",
)
@click.option("--policy", type=click.Path(path_type=Path), default=POLICY, help="Policy file with one interface.")
@click.option("--scenario", type=click.Path(path_type=Path), default=SCENARIO, help="Scenario file: the traffic.")
def demo(seconds: int, seed: int | None, json_: bool, check: bool, measure: str, policy: Path, scenario: Path) -> int:
    """The same traffic three times on real kernel queues: static tc, tiers only, and the shaper in full.

    `scripts/demo --virtual-time` runs it in the lab's kernel, with the same figures each time.
    """
    require_tools()
    out, err = console(sys.stdout), console(sys.stderr)
    paths = [leaf.path for leaf in the_interface(policy).leaves()]
    with progress(err, seconds=seconds, paths=paths) as show:
        result = run_demo(
            seconds=seconds, seed=seed, policy=policy.absolute(), scenario=scenario, show=show, measure=measure
        )
    if json_:
        click.echo(json.dumps(result, indent=2, allow_nan=False))
    else:
        for line in opening_lines(result):
            out.print(line, soft_wrap=True)
        out.print(final_table(result))
        for line in closing_lines(result):
            out.print(line, soft_wrap=True)
    failures = failed(result) if check else []
    for failure in failures:
        err.print(f"not shown: {failure}", soft_wrap=True)
    return Exit.FAILED if failures else Exit.OK


if __name__ == "__main__":
    sys.exit(guarded(demo, "scripts/demo"))
