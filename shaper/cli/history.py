"""`shaper history`: every change, who made it, when and why, and how it ended."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click

from shaper.cli.asking import devices_option, one_device, storied
from shaper.cli.common import folder_of, json_option, print_json, state_option
from shaper.errors import UnavailableError
from shaper.history.changes import ChangeLog
from shaper.history.codec import encode
from shaper.history.store import History
from shaper.model.change import Change, outcomes
from shaper.model.policy import Direction
from shaper.model.shortage import Shortage
from shaper.report.changes import change_view, changes_view
from shaper.report.render import console
from shaper.report.shortages import shortages_view
from shaper.run.state import storied_devices


@click.group(invoke_without_command=True)
@devices_option
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, help="So many of each device.")
@state_option
@json_option
@click.pass_context
def history(context: click.Context, devices: tuple[str, ...], last: int, folder: Path | None, as_json: bool) -> None:
    """List the changes of every device, the newest last."""
    if context.invoked_subcommand is not None:
        return
    known = devices or storied_devices(folder_of(folder))
    if not known:
        raise UnavailableError("nothing was ever changed here", hint="apply a policy first, or name the --state DIR")
    logs = {side.title: ChangeLog(side.folder) for device in known for side in storied(folder, device)}
    found = {device: outcomes(log.all()) for device, log in logs.items()}
    if as_json:
        listed = [_brief(change) for each in found.values() for change in each[-last:]]
        print_json({"schema": 1, "exit": 0, "changes": listed})
        return
    for device, changes in found.items():
        changes_view(changes[-last:], device=device, damaged=logs[device].damaged, out=console())


@history.command()
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@devices_option
@click.option(
    "--direction", type=click.Choice([way.value for way in Direction]), help="Where both have a history: which one."
)
@click.option("--policy", "only_policy", is_flag=True, help="Print the policy alone, as it was applied.")
@state_option
@json_option
def show(
    number: int,
    devices: tuple[str, ...],
    direction: str | None,
    only_policy: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Show change N: its steps, how the policy differs from the one before, the policy."""
    sides = one_device(folder, devices)
    log = ChangeLog(next((side for side in sides if side.direction.value == direction), sides[0]).folder)
    change = log.find(number)
    change = next(each for each in outcomes(log.all()) if each.number == number)
    text = log.text(change.sha256)
    before = log.find(change.before) if change.before else None
    diff = _diff(before, log.text(before.sha256) if before else "", change, text)
    if as_json:
        print_json({"schema": 1, "exit": 0, **encode(change), "diff": diff, "policy": text})
    elif only_policy:
        click.echo(text, nl=False)
    else:
        change_view(change, diff=diff, text=text, out=console())


@history.command()
@devices_option
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, help="So many of each device.")
@state_option
@json_option
def shortages(devices: tuple[str, ...], last: int, folder: Path | None, as_json: bool) -> None:
    """List the SLAs that could not hold: from when until when, how much was lacking, and what was given up."""
    known = devices or storied_devices(folder_of(folder))
    if not known:
        raise UnavailableError("nothing was ever changed here", hint="apply a policy first, or name the --state DIR")
    found: dict[str, tuple[Shortage, ...]] = {}
    for side in (side for device in known for side in storied(folder, device)):
        with History(side.history, busy=1.0) as store:
            found[side.title] = store.shortages_of(device=side.device, last=last)
    if as_json:
        listed = [{"place": place, **encode(one)} for place, each in found.items() for one in each]
        print_json({"schema": 1, "exit": 0, "shortages": listed})
        return
    for place, each in found.items():
        shortages_view(each, place=place, out=console())


def _diff(before: Change | None, old: str, change: Change, new: str) -> list[str]:
    names = (f"{before.source} of change {before.number}" if before else "nothing", f"{change.source or 'nothing'}")
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm="")
    return list(lines)


def _brief(change: Change) -> dict[str, Any]:
    return {key: value for key, value in encode(change).items() if key != "steps"}
