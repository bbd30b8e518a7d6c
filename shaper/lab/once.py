"""One scenario once, under one policy and controller: `python -m shaper.lab.once`; what it showed goes to a file.

`scripts/bench control` and `shaper simulate --exact` stand on this. The kernel is the one that it runs on.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from shaper.errors import Exit
from shaper.lab.figures import figures
from shaper.lab.fingerprint import fingerprint
from shaper.lab.scenario import read_scenario
from shaper.lab.stage import folder_prefix, guarded, laid_out, require_tools, sweep, the_interface
from shaper.lab.trial import SHAPER, run_trial
from shaper.model.policy import Direction


def run_once(
    policy: Path,
    scenario: Path,
    *,
    mode: str,
    seconds: float | None = None,
    seed: int | None = None,
    command: Sequence[str] = SHAPER,
) -> dict[str, Any]:
    """Runs it on this kernel's queues, in throwaway namespaces. Raises ShaperError; nothing is left behind."""
    interface = the_interface(policy)
    traffic = laid_out(interface, read_scenario(scenario), name=scenario, seconds=seconds, seed=seed)
    sweep()
    with tempfile.TemporaryDirectory(prefix=folder_prefix(os.getpid())) as folder:
        trial = run_trial(
            mode,
            policy=policy,
            device=interface.device,
            traffic=traffic,
            folder=Path(folder),
            incoming=interface.direction is Direction.INGRESS,
            command=command,
        )
    on = fingerprint()
    link = [list(step) for step in traffic.narrow.rates] if traffic.narrow else None
    moved = {"link_bit_s": link, "link_carried_bit": list(trial.carried)}
    return {**figures(interface, trial), **moved, "fingerprint": asdict(on) if on else None}


@click.command("once")
@click.option("--policy", type=click.Path(path_type=Path), required=True)
@click.option("--scenario", type=click.Path(path_type=Path), required=True)
@click.option("--mode", default="controlled", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Another sample.  [default: the scenario's own]")
@click.option("--seconds", type=click.FloatRange(min=5), help="Length.  [default: the scenario's own]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the result goes.")
@click.argument("command", nargs=-1)
def once(
    policy: Path,
    scenario: Path,
    mode: str,
    seed: int | None,
    seconds: float | None,
    out: Path,
    command: tuple[str, ...],
) -> int:
    """Runs COMMAND (after --; the shaper itself without one) as the shaper of one scenario."""
    require_tools()
    shaper = (sys.executable, *command) if command else SHAPER
    result = run_once(policy, scenario, mode=mode, seconds=seconds, seed=seed, command=shaper)
    out.write_text(json.dumps(result))
    return Exit.OK


if __name__ == "__main__":
    sys.exit(guarded(once, "once"))
