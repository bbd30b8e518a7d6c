"""`shaper freeze` and `shaper thaw`: the kill switch. The controller measures and judges on, and moves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, asker, called, devices_option, message_option, order, standing_option
from shaper.cli.common import DURATION, folder_of, json_option, print_json, state_option
from shaper.errors import ShaperError, UnavailableError
from shaper.history.codec import encode
from shaper.report.words import clean, frozen_text
from shaper.run import freezing
from shaper.run.changes import Order
from shaper.run.state import DeviceState, both_directions, frozen_devices, known_devices


@click.command()
@standing_option
@devices_option
@message_option
@click.option("--for", "seconds", type=DURATION, default=None, metavar="TIME", help="Thaw by itself after this time.")
@state_option
@json_option
def freeze(
    names: tuple[str, ...],
    devices: tuple[str, ...],
    message: str,
    seconds: float | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Hold the controller still, on every device or those named: it measures, judges and journals, and moves nothing.

    Needs no answer from a running shaper, and outlives it and the next boot. Only feedback is held: a schedule, an
    apply by hand and the mending of what others changed go on.
    """
    if seconds is not None and seconds <= 0:
        raise click.UsageError("--for must be more than nothing")
    found: list[dict[str, Any]] = []
    for device in _devices(folder, called(folder, names, devices)):
        sides = both_directions(folder_of(folder), device)
        who = order(message)
        made = freezing.freeze(sides[0], who, seconds=seconds)  # first of all: a shaper that hangs sees it, too
        try:
            answer = ask(sides[0], "freeze", seconds=seconds, **asker(message))
            unnoted = _noted(sides, "freeze", who) if answer is None else answer["unnoted"]
        except ShaperError as error:
            unnoted = error.message
        found.append({"device": device, "freeze": encode(made), "unnoted": unnoted})
        if not as_json:
            click.echo(clean(f"{device}: {frozen_text(made)}"))
            _tell(device, unnoted)
    if as_json:
        print_json({"schema": 1, "exit": 0, "frozen": found})


@click.command()
@standing_option
@devices_option
@message_option
@state_option
@json_option
def thaw(names: tuple[str, ...], devices: tuple[str, ...], message: str, folder: Path | None, as_json: bool) -> None:
    """Let the controller move again what `freeze` held; it begins from what the kernel has."""
    found: list[dict[str, Any]] = []
    for device in _devices(folder, called(folder, names, devices)):
        sides = both_directions(folder_of(folder), device)
        try:
            answer, unnoted = ask(sides[0], "thaw", **asker(message)), ""
        except ShaperError as error:
            answer, unnoted = None, error.message
        if answer is None:
            was = freezing.thaw(sides[0], at=CLOCK.wall())
            unnoted = unnoted or (_noted(sides, "thaw", order(message)) if was else "")
            answer = {"was_frozen": was, "unnoted": unnoted}
        found.append({"device": device, **answer})
        if not as_json:
            click.echo(f"{device}: {'thawed' if answer['was_frozen'] else 'it was not frozen'}")
            _tell(device, answer["unnoted"])
    if as_json:
        print_json({"schema": 1, "exit": 0, "thawed": found})


def _devices(folder: Path | None, devices: tuple[str, ...]) -> tuple[str, ...]:
    """Those named, else all that hold something of ours, or are frozen. Raises UnavailableError."""
    root = folder_of(folder)
    devices = devices or tuple(dict.fromkeys((*known_devices(root), *frozen_devices(root))))
    if not devices:
        raise UnavailableError("nothing of the shaper's is here", hint="name a --device, or the --state DIR")
    return devices


def _noted(sides: tuple[DeviceState, ...], what: str, who: Order) -> str:
    """A line in the history where no shaper runs; why there is none, "" where there is."""
    try:
        with sides[0].lock():
            return freezing.noted(sides, what, who)
    except ShaperError as error:
        return error.message


def _tell(device: str, unnoted: str) -> None:
    if unnoted:
        click.echo(f"{device}: it holds, but not in the history: {unnoted}", err=True)
