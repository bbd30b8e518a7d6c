"""`shaper clear`: remove what is ours, and only that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, asker, held, message_option, order
from shaper.cli.common import (
    by_device,
    chosen,
    counted,
    device_option,
    folder_of,
    interface_option,
    json_option,
    open_kernel,
    print_json,
    read_placed,
    state_option,
)
from shaper.kernel.protocol import Kernel
from shaper.model.device import split_spot
from shaper.model.policy import Direction
from shaper.plan.steps import Plan
from shaper.report.as_json import plan_json
from shaper.report.render import console, plan_view
from shaper.run import changes
from shaper.run.confirm import refuse_while_waiting
from shaper.run.state import DeviceState, both_directions, known_devices
from shaper.run.together import together
from shaper.run.waiting import read_waiting


@click.command()
@click.argument("policy_file", metavar="[POLICY]", type=click.Path(path_type=Path), required=False)
@interface_option
@device_option("This device, whatever policy it had")
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
            sides = both_directions(folder_of(folder), device)
            answer = ask(sides[0], "clear", **asker(message))
            if answer is not None:
                results.extend(_result(device, plan) for plan in answer)
                if not as_json:
                    steps = [step for plan in answer for step in plan["steps"]]
                    click.echo(f"{device}: the running shaper cleared it: {counted(steps)}")
                continue
            plans = _clear_here(kernel, sides, message)
            results.extend(
                _result(device, plan_json(plan)) for _, plan in plans or ((sides[0], Plan(sides[0].device)),)
            )
            if as_json:
                continue
            for side, plan in plans:
                plan_view(plan, names={}, notes=(), out=console(), done=True, place=side.title)
            if not plans:
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
    return tuple(by_device(chosen(policy, names)))


def _result(device: str, plan: dict[str, Any]) -> dict[str, Any]:
    direction = Direction.EGRESS if plan["device"] == split_spot(device)[1] else Direction.INGRESS
    return {**plan, "device": device, "direction": direction.value}


def _clear_here(kernel: Kernel, sides: tuple[DeviceState, ...], message: str) -> list[tuple[DeviceState, Plan]]:
    """What comes in is let go of first. Only what there was to do."""
    if not any(side.record() or side.pending() or read_waiting(side) or side.let_go() for side in sides):
        return []
    with held(kernel, sides, message):
        for side in sides:
            refuse_while_waiting(side, now=CLOCK.boot())
        who, held_ones = order(message), [one for one in reversed(sides) if one.record() or one.let_go()]
        with together(kernel, held_ones, at=who.at, reason="the other direction could not be cleared"):
            plans = [(side, changes.clear(kernel, side, order=who)) for side in held_ones]
    return [(side, plan) for side, plan in plans if plan.steps]
