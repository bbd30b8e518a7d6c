"""`shaper clear`: remove what is ours, and only that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, asker, held, message_option, order
from shaper.cli.common import (
    chosen,
    counted,
    device_name,
    folder_of,
    interface_option,
    json_option,
    open_kernel,
    print_json,
    read_placed,
    state_option,
)
from shaper.cli.completion import device_names
from shaper.kernel.protocol import Kernel
from shaper.plan.steps import Plan
from shaper.report.as_json import plan_json
from shaper.report.render import console, plan_view
from shaper.run import changes
from shaper.run.confirm import refuse_while_waiting
from shaper.run.state import DeviceState, known_devices
from shaper.run.waiting import read_waiting


@click.command()
@click.argument("policy_file", metavar="[POLICY]", type=click.Path(path_type=Path), required=False)
@interface_option
@click.option(
    "--device",
    "-d",
    "devices",
    multiple=True,
    type=device_name,
    shell_complete=device_names,
    help="This device, whatever policy it had (repeatable).",
)
@message_option
@state_option
@json_option
def clear(
    policy_file: Path | None,
    names: tuple[str, ...],
    devices: tuple[str, ...],
    message: str,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Remove what the shaper put on the interfaces of POLICY, on --device, or, with neither, everywhere."""
    wanted = _wanted(policy_file, names, devices, folder)
    results: list[dict[str, Any]] = []
    with open_kernel() as kernel:
        for device in wanted:
            state = DeviceState(folder_of(folder), device)
            answer = ask(state, "clear", **asker(message))
            if answer is not None:
                results.append({"device": device, **answer})
                if not as_json:
                    click.echo(f"{device}: the running shaper cleared it: {counted(answer['steps'])}")
                continue
            plan = _clear_here(kernel, state, message)
            results.append({"device": device, **plan_json(plan)})
            if not as_json:
                if plan.steps:
                    plan_view(plan, names={}, notes=(), out=console(), done=True)
                else:
                    click.echo(f"{device}: nothing of ours is there")
    if as_json:
        print_json({"schema": 1, "exit": 0, "interfaces": results})
    elif not wanted:
        click.echo("nothing here is ours")


def _wanted(
    policy_file: Path | None, names: tuple[str, ...], devices: tuple[str, ...], folder: Path | None
) -> tuple[str, ...]:
    if devices:
        return devices
    if policy_file is None:
        if names:
            raise click.UsageError("--interface names an interface of a POLICY; without one use --device")
        return known_devices(folder_of(folder))
    policy = read_placed(policy_file)
    return tuple(interface.device for interface in chosen(policy, names))


def _clear_here(kernel: Kernel, state: DeviceState, message: str) -> Plan:
    if state.record() is None and state.pending() is None and read_waiting(state) is None:
        return Plan(state.device)
    with held(kernel, state, message):
        refuse_while_waiting(state, now=CLOCK.boot())
        return changes.clear(kernel, state, order=order(message))
