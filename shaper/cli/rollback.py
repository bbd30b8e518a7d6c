"""`shaper rollback`: back to what was before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, asker, devices_option, held, message_option, one_device, order
from shaper.cli.common import folder_of, json_option, open_kernel, print_json, state_option
from shaper.kernel.protocol import Kernel
from shaper.run import confirm as keeping
from shaper.run.confirm import KernelWay
from shaper.run.standing import policy_of
from shaper.run.state import DeviceState, boot_id, storied_devices, waiting_devices
from shaper.run.waiting import read_waiting


@click.command()
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), required=False)
@click.option(
    "--unconfirmed",
    is_flag=True,
    help="Only what was not confirmed, also before a reboot: the last confirmed policy comes up.",
)
@devices_option
@message_option
@state_option
@json_option
def rollback(
    number: int | None, unconfirmed: bool, devices: tuple[str, ...], message: str, folder: Path | None, as_json: bool
) -> None:
    """Go back: from a change that waits to what was before it, else to the previous policy, or to that of change N.

    The policy comes back with its static allocation. Rolling back twice goes forth again.
    """
    if unconfirmed and number is not None:
        raise click.UsageError("--unconfirmed goes back to the last confirmed policy, not to a change N")
    results: list[dict[str, Any]] = []
    with open_kernel() as kernel:
        for state in _states(folder, devices, number, unconfirmed=unconfirmed):
            answer = None
            if not unconfirmed or read_waiting(state) is not None:
                answer = ask(state, "rollback", number=number, **asker(message))
            if answer is not None:
                told = [answer["told"]]
            elif unconfirmed:
                told = _confirmed_comes_up(kernel, state, message)
            else:
                told = _back(kernel, state, number, message)
            results.append({"device": state.device, "told": told})
            if not as_json:
                for words in told:
                    click.echo(f"{state.device}: {words}")
    if as_json:
        print_json({"schema": 1, "exit": 0, "interfaces": results})
    elif unconfirmed and not any(one["told"] for one in results):
        click.echo("nothing waits for a confirmation")


def _states(
    folder: Path | None, devices: tuple[str, ...], number: int | None, *, unconfirmed: bool
) -> tuple[DeviceState, ...]:
    known = devices
    if not known and unconfirmed:
        known = storied_devices(folder_of(folder))
    elif not known and number is None:
        known = waiting_devices(folder_of(folder))
    if not known and unconfirmed:
        return ()
    if not known:
        return (one_device(folder, devices),)
    return tuple(DeviceState(folder_of(folder), device) for device in known)


def _back(kernel: Kernel, state: DeviceState, number: int | None, message: str) -> list[str]:
    waited = read_waiting(state) is not None
    with held(kernel, state, message) as told:
        if waited and number is None and read_waiting(state) is None:
            return list(told)  # its time was over: putting things right was the rolling back
        way = KernelWay(kernel, state)
        return [*told, keeping.rollback(kernel, state, number, now=CLOCK.boot(), order=order(message), way=way)]


def _confirmed_comes_up(kernel: Kernel, state: DeviceState, message: str) -> list[str]:
    with held(kernel, state, message) as told:
        way = KernelWay(kernel, state)
        words = list(told)
        if read_waiting(state) is not None:
            words.append(keeping.rollback(kernel, state, None, now=CLOCK.boot(), order=order(message), way=way))
        record = state.record()
        if words and record is not None and record.boot != boot_id():
            way.to_policy(
                policy_of(record),
                what="rollback",
                order=order(message or "the last confirmed policy, after a reboot"),
                of=record.change,
                confirmation="",
                structure=record.structure,
            )
            words.append(f"the policy of change {record.change} is in force")
        return words
