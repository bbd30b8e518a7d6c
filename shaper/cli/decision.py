"""`shaper explain decision`: why the controller moved rates, from the journal of a device. Changes nothing."""

from __future__ import annotations

from pathlib import Path

import click

from shaper.cli.asking import CLOCK, called, devices_option, one_device, standing_option
from shaper.cli.common import DURATION, json_option, print_json, state_option
from shaper.errors import Exit, UnavailableError
from shaper.history.records import JournalLine
from shaper.history.store import History
from shaper.model.policy import Direction
from shaper.report.decision import decision_json, decision_view, explained
from shaper.report.render import console
from shaper.run.state import DeviceState

_BEFORE = 2.0
"""Seconds before a decision of which one was recorded, to count from."""


@click.command()
@click.argument("which", metavar="[N|last|CLASS]", default="last")
@standing_option
@devices_option
@click.option(
    "--direction", type=click.Choice([way.value for way in Direction]), help="Where both have a journal: which one."
)
@click.option("--after", type=DURATION, default="10s", show_default=True, help="How far to look for what came of it.")
@state_option
@json_option
def decision(
    which: str,
    names: tuple[str, ...],
    devices: tuple[str, ...],
    direction: str | None,
    after: float,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Say what the controller saw, what each class wanted, what bound it, what was done, and what came of it.

    Of decision N of the journal, of the last one, or of the last that moved CLASS. Works while `shaper run` is up and
    without it. Exit code 4 where nothing was decided yet.
    """
    sides = [side for side in one_device(folder, called(folder, names, devices)) if side.history.exists()]
    side = next((side for side in sides if direction in (None, side.direction.value)), None)
    if side is None:
        return _nothing(as_json=as_json)
    with History(side.history, busy=1.0) as history:
        line = _line(history, side, which)
        if line is None:
            return _nothing(as_json=as_json)
        until = line.at + after
        rows = history.observations(device=side.device, since=line.at - _BEFORE, until=until)
        later = history.numbers(device=side.device, since=line.at, until=until)
    found = explained(line, rows, place=side.title, seconds=after, later=later)
    if as_json:
        print_json({"schema": 1, "exit": 0, **decision_json(found)})
    else:
        decision_view(found, now=CLOCK.wall(), out=console())
    return 0


def _line(history: History, side: DeviceState, which: str) -> JournalLine | None:
    """Raises UnavailableError for what the journal does not have; None where it has nothing at all."""
    last = history.decision(device=side.device)
    if last is None or which == "last":
        return last
    if which.isdecimal():
        found, numbers = history.decision(device=side.device, number=int(which)), history.numbers(device=side.device)
        if found is None:
            raise UnavailableError(
                f"{side.title} has no decision {which}; it has {numbers[0]} to {numbers[-1]}",
                hint="older ones are gone after 30 days",
            )
        return found
    found = history.decision(device=side.device, moved=which)
    if found is None:
        known = ", ".join(last.decision.allocation)
        there = "was never moved" if which in last.decision.allocation else f"is no class of it: there are {known}"
        raise UnavailableError(
            f"{which} of {side.title} {there}", hint="`shaper explain decision last` says what each class wanted"
        )
    return found


def _nothing(*, as_json: bool) -> int:
    if as_json:
        print_json({"schema": 1, "exit": int(Exit.NO_DATA), "number": None})
    else:
        click.echo("nothing was decided yet: decisions are made while `shaper run` is up")
    return Exit.NO_DATA
