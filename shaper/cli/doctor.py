"""`shaper doctor`: what this kernel and machine can do, and what is done instead of what is missing."""

from __future__ import annotations

from pathlib import Path

import click

from shaper.cli.common import folder_of, json_option, open_kernel, print_json, state_option
from shaper.errors import Exit, ShaperError
from shaper.kernel.protocol import Kernel, within
from shaper.report.render import console, doctor_view
from shaper.run.doctor import Finding, examine
from shaper.run.snapshot import capabilities_to_json
from shaper.tree import Capabilities


@click.command()
@click.option("--netns", default="", metavar="NAME", help="As this network namespace sees it.")
@state_option
@json_option
def doctor(netns: str, folder: Path | None, as_json: bool) -> int:
    """List what this machine can do. Exit code 69 when something is missing that nothing can stand in for."""
    with open_kernel() as whole:
        kernel = within(whole, netns)
        rows = examine(kernel, folder_of(folder), netns=netns)
        have = _capabilities(kernel)
    code = Exit.UNAVAILABLE if any(row.finding is Finding.NEEDED for row in rows) else Exit.OK
    if as_json:
        print_json(
            {
                "schema": 1,
                "exit": int(code),
                "capabilities": capabilities_to_json(have) if have else None,
                "findings": [
                    {"name": row.name, "state": row.finding.value, "detail": row.detail, "instead": row.instead}
                    for row in rows
                ],
            }
        )
    else:
        doctor_view([(row.name, row.finding.value, row.detail, row.instead) for row in rows], out=console())
    return code


def _capabilities(kernel: Kernel) -> Capabilities | None:
    """None where the kernel may not be asked; the findings say so."""
    try:
        return kernel.capabilities()
    except ShaperError:
        return None
