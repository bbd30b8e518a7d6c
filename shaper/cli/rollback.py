"""`shaper rollback`: back to what was before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, asker, devices_option, held, message_option, one_device, order
from shaper.cli.common import counted, folder_of, json_option, open_kernel, print_json, state_option
from shaper.kernel.protocol import Kernel
from shaper.run import confirm as keeping
from shaper.run.confirm import KernelWay
from shaper.run.standing import policy_of
from shaper.run.state import (
    DeviceState,
    boot_id,
    both_directions,
    known_devices,
    storied_devices,
    waiting_devices,
)
from shaper.run.static import to_static
from shaper.run.together import together
from shaper.run.waiting import read_waiting


@click.command()
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), required=False)
@click.option(
    "--unconfirmed",
    is_flag=True,
    help="Only what was not confirmed, also before a reboot: the last confirmed policy comes up.",
)
@click.option(
    "--static",
    is_flag=True,
    help="Only what a controller moved: the policy stays, with its static allocation. Not under a running shaper.",
)
@devices_option
@message_option
@state_option
@json_option
def rollback(
    number: int | None,
    unconfirmed: bool,
    static: bool,
    devices: tuple[str, ...],
    message: str,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Go back: from a change that waits to what was before it, else to the previous policy, or to that of change N.

    The policy comes back with its static allocation. Rolling back twice goes forth again.
    """
    if unconfirmed and number is not None:
        raise click.UsageError("--unconfirmed goes back to the last confirmed policy, not to a change N")
    if static and (unconfirmed or number is not None):
        raise click.UsageError("--static stays with the policy in force: it takes neither N nor --unconfirmed")
    results: list[dict[str, Any]] = []
    with open_kernel() as kernel:
        for device in _devices(folder, devices, number, unconfirmed=unconfirmed, static=static):
            sides = both_directions(folder_of(folder), device)
            answer = None
            if not static and (not unconfirmed or any(map(read_waiting, sides))):
                answer = ask(sides[0], "rollback", number=number, **asker(message))
            if answer is not None:
                told = [answer["told"]]
            elif static:
                told = _to_static(kernel, sides, message)
            elif unconfirmed:
                told = _confirmed_comes_up(kernel, sides, message)
            else:
                told = _back(kernel, sides, number, message)
            results.append({"device": device, "told": told})
            if not as_json:
                for words in told:
                    click.echo(f"{device}: {words}")
    if as_json:
        print_json({"schema": 1, "exit": 0, "interfaces": results})
    elif unconfirmed and not any(one["told"] for one in results):
        click.echo("nothing waits for a confirmation")
    elif static and not results:
        click.echo("nothing to put back: nothing of the shaper's is here")


def _devices(
    folder: Path | None, devices: tuple[str, ...], number: int | None, *, unconfirmed: bool, static: bool
) -> tuple[str, ...]:
    known = devices
    if static:
        return known or known_devices(folder_of(folder))
    if not known and unconfirmed:
        return storied_devices(folder_of(folder))
    if not known and number is None:
        known = waiting_devices(folder_of(folder))
    return known or (one_device(folder, devices)[0].spot,)


def _back(kernel: Kernel, sides: Sequence[DeviceState], number: int | None, message: str) -> list[str]:
    waited = any(map(read_waiting, sides))
    with held(kernel, sides, message) as told:
        if waited and number is None and not any(map(read_waiting, sides)):
            return list(told)  # its time was over: putting things right was the rolling back
        who = order(message)
        with together(kernel, _changed(sides), at=who.at, reason="the other direction could not be rolled back"):
            if number is None and (back := _lapsed(kernel, sides, message)):
                return [*told, *back]
            ways = [(side, KernelWay(kernel, side)) for side in sides]
            return [*told, keeping.rollback_both(ways, number, now=CLOCK.boot(), order=who)]


def _to_static(kernel: Kernel, sides: Sequence[DeviceState], message: str) -> list[str]:
    with held(kernel, sides, message) as told:
        steps = [to_static(kernel, side, order(message), now=CLOCK.boot()) for side in sides]
    moved = sum(one for one in steps if one is not None)
    if moved:
        return [*told, f"the static allocation is back, {counted(range(moved))}"]
    stands = "the static allocation stands" if steps != [None, None] else "nothing of the shaper's is here"
    return [*told, f"nothing to put back: {stands}"]


def _changed(sides: Sequence[DeviceState]) -> list[DeviceState]:
    """Those that were ever changed: a rollback changes no other."""
    return [side for side in sides if side.has("changes.log")]


def _lapsed(kernel: Kernel, sides: Sequence[DeviceState], message: str) -> list[str]:
    """Every direction whose change waits, rolled back."""
    return [
        keeping.rollback(kernel, side, None, now=CLOCK.boot(), order=order(message), way=KernelWay(kernel, side))
        for side in sides
        if read_waiting(side) is not None
    ]


def _confirmed_comes_up(kernel: Kernel, sides: Sequence[DeviceState], message: str) -> list[str]:
    with (
        held(kernel, sides, message) as told,
        together(kernel, _changed(sides), at=CLOCK.wall(), reason="the other direction could not be rolled back"),
    ):
        words = [*told, *_lapsed(kernel, sides, message)]
        for side in sides:
            record = side.record()
            if words and record is not None and record.boot != boot_id():
                KernelWay(kernel, side).to_policy(
                    policy_of(record),
                    what="rollback",
                    order=order(message or "the last confirmed policy, after a reboot"),
                    of=record.change,
                    confirmation="",
                    structure=record.structure,
                )
                words.append(f"the policy of change {record.change} is in force")
        return words
