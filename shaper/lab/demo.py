"""`scripts/demo`: the same traffic three times on real kernel queues, and what became of the SLAs each time."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from shaper.errors import Exit, ShaperError, UnavailableError
from shaper.lab import namespaces
from shaper.lab.criteria import failed
from shaper.lab.fingerprint import fingerprint
from shaper.lab.processes import is_alive
from shaper.lab.result import MODES, as_json
from shaper.lab.scenario import lay_out, read_scenario
from shaper.lab.show import Progress, closing_lines, final_table, opening_lines, progress
from shaper.lab.signals import Interrupted, interruptible
from shaper.lab.trial import SHAPER, Trial, run_trial
from shaper.model.policy import Direction, Interface
from shaper.policy import read_policy
from shaper.report.render import console, problems

_HERE = Path(__file__).resolve().parents[2]
POLICY = _HERE / "policies" / "demo.yaml"
SCENARIO = _HERE / "policies" / "scenarios" / "demo.yaml"
SHORTEST = 9
_TOOLS = {"ip": "iproute2", "tc": "iproute2", "ethtool": "ethtool", "iperf3": "iperf3"}


def require_tools() -> None:
    """Raises UnavailableError that names the packages of the commands that are missing."""
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise UnavailableError(
            f"missing: {', '.join(missing)}", hint=f"as root: apt-get install {' '.join(missing)}, or run scripts/demo"
        )


def the_interface(policy: Path) -> Interface:
    """The one interface of the demo's policy. Raises ShaperError for another number."""
    interfaces = read_policy(policy).interfaces
    if len(interfaces) != 1:
        raise ShaperError(
            f"{policy} has {len(interfaces)} interfaces", hint="the demo shapes exactly one, in one direction"
        )
    return interfaces[0]


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
) -> dict[str, Any]:
    """Runs the scenario once in each mode and returns the object of `--json`; `seed` in place of the scenario's own.

    With `discard_decisions` the controlled run makes its decisions and carries none out: the proof that it is the
    controller that holds the SLAs. Raises ShaperError; whatever happens, nothing is left behind.
    """
    interface = the_interface(policy)
    traffic = lay_out(read_scenario(scenario), seconds=seconds, seed=seed)
    unknown = {*traffic.classes.values(), *(run.name for run in traffic.tcp)} - {one.path for one in interface.leaves()}
    if unknown:
        raise ShaperError(f"{scenario} has traffic for {', '.join(sorted(unknown))}, which {policy} does not know")
    if traffic.wan and interface.direction is Direction.INGRESS:
        raise ShaperError(
            f"{scenario} has a WAN behind the link, which what comes in by it has crossed already",
            hint="take `wan` out of the scenario, or shape what goes out",
        )
    _sweep()
    trials: list[Trial] = []
    for number, mode in enumerate(modes, 1):
        if show:
            show.begin(mode, number, len(modes))
        with tempfile.TemporaryDirectory(prefix=_prefix(os.getpid())) as folder:
            trials.append(
                run_trial(
                    mode,
                    policy=policy,
                    device=interface.device,
                    traffic=traffic,
                    folder=Path(folder),
                    incoming=interface.direction is Direction.INGRESS,
                    options=["--dry-run"] if discard_decisions and mode == "controlled" else [],
                    command=command,
                    **({"watch": show.watch} if show else {}),
                )
            )
    return as_json(interface, trials, seconds=seconds, wan=traffic.wan, fingerprint=fingerprint())


def _prefix(pid: int | str) -> str:
    return f"{namespaces.PREFIX}-{pid}-"


def _sweep(*, own: bool = False) -> None:
    """Removes what demos that were killed without a word left behind, and what is our own."""
    namespaces.sweep(own=own)
    for folder in Path(tempfile.gettempdir()).glob(_prefix("*") + "*"):
        pid = folder.name.split("-")[2]
        if pid.isdigit() and (not is_alive(int(pid)) or (own and int(pid) == os.getpid())):
            shutil.rmtree(folder, ignore_errors=True)


@click.command("demo", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seconds", type=click.IntRange(min=SHORTEST), default=60, show_default=True, help="Length of each of the runs."
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Another sample of the same traffic.  [default: the scenario's own]"
)
@click.option("--json", "json_", is_flag=True, help="Print the result as one JSON object.")
@click.option("--check", is_flag=True, help="Exit with 1 when the result does not show what it must.")
@click.option("--policy", type=click.Path(path_type=Path), default=POLICY, help="Policy file with one interface.")
@click.option("--scenario", type=click.Path(path_type=Path), default=SCENARIO, help="Scenario file: the traffic.")
def demo(seconds: int, seed: int | None, json_: bool, check: bool, policy: Path, scenario: Path) -> int:
    """The same traffic three times on real kernel queues: static tc, tiers only, and the shaper in full.

    `scripts/demo --virtual-time` runs it in the lab's kernel, with the same figures each time.
    """
    require_tools()
    out, err = console(sys.stdout), console(sys.stderr)
    paths = [leaf.path for leaf in the_interface(policy).leaves()]
    with progress(err, seconds=seconds, paths=paths) as show:
        result = run_demo(seconds=seconds, seed=seed, policy=policy.absolute(), scenario=scenario, show=show)
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


def main() -> int:
    """Runs the command; its exit code: 0 done, 1 failed, 64 usage, 65, 69, 77, or 128 + the signal that ended it."""
    with interruptible():
        try:
            return int(demo.main(prog_name="scripts/demo", standalone_mode=False) or Exit.OK)
        except Interrupted as signal:
            _sweep(own=True)  # the signal may have come between the end of a block and its cleaning up
            return signal.exit
        except click.UsageError as error:
            error.show()
            return Exit.USAGE
        except ShaperError as error:
            problems(error.problems(), out=console(sys.stderr))
            return int(error.exit)


if __name__ == "__main__":
    sys.exit(main())
