"""What every run of a scenario stands on: the tools it needs, its one interface, and that nothing is left behind."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

from shaper.errors import Exit, ShaperError, UnavailableError
from shaper.lab import namespaces
from shaper.lab.processes import is_alive
from shaper.lab.scenario import Traffic, lay_out
from shaper.lab.scenario_file import Scenario
from shaper.lab.signals import Interrupted, interruptible
from shaper.model.policy import Direction, Interface
from shaper.policy import read_policy
from shaper.report.render import console, problems

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


def laid_out(
    interface: Interface, scenario: Scenario, *, name: Path, seconds: float | None = None, seed: int | None = None
) -> Traffic:
    """The traffic of the scenario `name` for an interface. Raises ShaperError where they don't go together."""
    traffic = lay_out(scenario, seconds=seconds or scenario.seconds, seed=seed)
    if unknown := traffic.paths - {leaf.path for leaf in interface.leaves()}:
        own = os.path.normpath(name.parent / scenario.policy) if scenario.policy else ""
        raise ShaperError(
            f"{name} has traffic for {', '.join(sorted(unknown))}, which the policy {interface.policy} does not know",
            hint=f"it is for {own}" if own else "name the policy that the scenario is for",
        )
    if (traffic.wan or traffic.narrow) and interface.direction is Direction.INGRESS:
        raise ShaperError(
            f"{name} has a way behind the link, which what comes in by it has crossed already",
            hint="take `wan` and `link` out of the scenario, or shape what goes out",
        )
    return traffic


def folder_prefix(pid: int | str) -> str:
    """How the names of the temporary folders of a process begin."""
    return f"{namespaces.PREFIX}-{pid}-"


def sweep(*, own: bool = False) -> None:
    """Removes what demos that were killed without a word left behind, and what is our own."""
    namespaces.sweep(own=own)
    for folder in Path(tempfile.gettempdir()).glob(folder_prefix("*") + "*"):
        pid = folder.name.split("-")[2]
        if pid.isdigit() and (not is_alive(int(pid)) or (own and int(pid) == os.getpid())):
            shutil.rmtree(folder, ignore_errors=True)


def guarded(command: click.Command, name: str) -> int:
    """Runs a command; its exit code: 0 done, 1 failed, 64 usage, 65, 69, 77, or 128 + the signal that ended it."""
    with interruptible():
        try:
            return int(command.main(prog_name=name, standalone_mode=False) or Exit.OK)
        except Interrupted as signal:
            sweep(own=True)  # the signal may have come between the end of a block and its cleaning up
            return signal.exit
        except click.UsageError as error:
            error.show()
            return Exit.USAGE
        except ShaperError as error:
            problems(error.problems(), out=console(sys.stderr))
            return int(error.exit)
