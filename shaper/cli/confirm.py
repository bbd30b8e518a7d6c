"""`shaper confirm` and `shaper extend`: a change that waits is kept, or waits longer. From any session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, asker, devices_option, duration, message_option, order, waiting_on
from shaper.cli.common import json_option, open_kernel, print_json, state_option
from shaper.run import confirm as keeping
from shaper.run.together import together
from shaper.units import format_duration


@click.command()
@click.argument("ident", metavar="[ID]", default="")
@devices_option
@message_option
@state_option
@json_option
def confirm(ident: str, devices: tuple[str, ...], message: str, folder: Path | None, as_json: bool) -> None:
    """Keep the change that waits for its confirmation, by its ID or as the only one. 75 once its time is over."""
    results: list[dict[str, Any]] = []
    for waits in waiting_on(folder, ident, devices).values():
        first, one = waits[0]
        if ask(first, "confirm", id=one.id, **asker(message)) is None:
            who, sides = order(message), [state for state, _ in waits]
            with first.lock(), open_kernel() as kernel, together(kernel, sides, at=who.at, reason="not confirmed"):
                for state in sides:
                    keeping.confirm(state, one.id, now=CLOCK.boot(), order=who)
        for state, waiting in waits:
            place = {"device": state.spot, "direction": state.direction.value}
            results.append({**place, "id": waiting.id, "change": waiting.change})
            if not as_json:
                click.echo(f"{state.title}: change {waiting.change} is confirmed")
    if as_json:
        print_json({"schema": 1, "exit": 0, "confirmed": results})


@click.command()
@click.argument("ident", metavar="ID")
@click.argument("seconds", metavar="TIME", type=duration)
@devices_option
@message_option
@state_option
@json_option
def extend(
    ident: str, seconds: float, devices: tuple[str, ...], message: str, folder: Path | None, as_json: bool
) -> None:
    """Give the change that waits by ID so much more TIME, such as 60s."""
    results: list[dict[str, Any]] = []
    for device, waits in waiting_on(folder, ident, devices).items():
        first, _ = waits[0]
        answer = ask(first, "extend", id=ident, seconds=seconds, **asker(message))
        if answer is None:
            with first.lock():
                now = CLOCK.boot()
                left = min(
                    keeping.extend(state, ident, seconds, now=now, order=order(message)).left(now) for state, _ in waits
                )
        else:
            left = answer["left_s"]
        results.append({"device": device, "id": ident, "left_s": left})
        if not as_json:
            click.echo(f"{device}: {format_duration(round(left))} are left")
    if as_json:
        print_json({"schema": 1, "exit": 0, "extended": results})
