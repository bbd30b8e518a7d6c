"""`shaper plan`: what an apply would do. Changes nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from shaper.cli.common import (
    chosen,
    interface_option,
    json_option,
    open_kernel,
    policy_argument,
    print_json,
    state_of,
    state_option,
    worst,
)
from shaper.errors import Exit, ShaperError
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, Policy
from shaper.policy import read_policy
from shaper.report.as_json import plan_json
from shaper.report.render import console, plan_view
from shaper.run.apply import Prepared, prepare


@click.command()
@policy_argument
@interface_option
@state_option
@json_option
def plan(policy_file: Path, names: tuple[str, ...], folder: Path | None, as_json: bool) -> int:
    """Show the steps that `apply` would take. Exit code 2 when there are any."""
    policy = read_policy(policy_file)
    with open_kernel() as kernel:
        prepared = prepare_all(kernel, policy, chosen(policy, names), folder=folder)
    changes = any(one.plan.steps for one in prepared)
    code = Exit.CHANGES if changes else Exit.OK
    if as_json:
        print_json({"schema": 1, "exit": int(code), "interfaces": [prepared_json(one) for one in prepared]})
        return code
    for one in prepared:
        plan_view(one.plan, names=handle_names(one), notes=one.program.notes, out=console())
    return code


def prepare_all(
    kernel: Kernel, policy: Policy, interfaces: Sequence[Interface], *, folder: Path | None
) -> tuple[Prepared, ...]:
    """Every interface, planned. Of several failures the one whose exit code wins is raised."""
    prepared, errors = [], []
    for interface in interfaces:
        try:
            prepared.append(prepare(kernel, state_of(folder, interface), policy, interface))
        except ShaperError as error:
            errors.append(error)
    if errors:
        raise worst(errors)
    return tuple(prepared)


def handle_names(prepared: Prepared) -> dict[int, str]:
    """Class handle -> path, for people."""
    return {handle: path for path, handle in prepared.program.handles.items()}


def prepared_json(prepared: Prepared) -> dict[str, object]:
    """One interface's plan as JSON."""
    return {
        "interface": prepared.program.interface.name,
        "device": prepared.program.interface.device,
        "notes": list(prepared.program.notes),
        **plan_json(prepared.plan, names=handle_names(prepared)),
    }
