"""`shaper watchdog`: not for people. What `apply --confirm` starts to roll back what nobody confirms."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK
from shaper.cli.common import device_name, folder_of, open_kernel, state_option
from shaper.run.watchdog import Watchdog, guarding


@click.command(hidden=True)
@click.argument("ident", metavar="ID")
@click.option("--device", "-d", "devices", multiple=True, required=True, type=device_name)
@state_option
def watchdog(ident: str, devices: tuple[str, ...], folder: Path | None) -> None:
    """Roll back what waits by ID on the devices when its time is over; end when nothing waits."""
    os.chdir("/")
    os.umask(0o027)
    with open_kernel() as kernel, guarding(folder_of(folder), ident) as wanted:
        dog = Watchdog(kernel, folder_of(folder), ident, devices, clock=CLOCK, ask=ask)
        while wanted() and (pause := dog.look()) is not None:
            time.sleep(pause)
