"""`shaper report`: how much of a period every agreement held."""

from __future__ import annotations

from pathlib import Path

import click

from shaper.cli.asking import CLOCK, devices_option
from shaper.cli.common import DURATION, folder_of, json_option, print_json, state_option
from shaper.errors import Exit, UnavailableError
from shaper.history.store import History
from shaper.report.attainment import Account, account_json, account_view
from shaper.report.render import console
from shaper.run.observe import SLA_WINDOW
from shaper.run.state import DeviceState, both_directions, storied_devices
from shaper.sla.attainment import attainment


def _span(_: click.Context, __: click.Parameter, seconds: float) -> float:
    """What is kept of a duration in seconds."""
    if not 1 <= seconds <= 30 * 86400:
        raise click.BadParameter("it is not between a second and the 30 days that are kept")
    return seconds


@click.command()
@devices_option
@click.option(
    "--last",
    type=DURATION,
    default="1h",
    show_default=True,
    callback=_span,
    metavar="TIME",
    help="Such as 90s, 1h, 7d.",
)
@state_option
@json_option
def report(devices: tuple[str, ...], last: float, folder: Path | None, as_json: bool) -> int:
    """Tell how much of the last hour each SLA held, from what `run` recorded once a second. Changes nothing.

    Every second is judged by the window that ended in it (5 s, or back to 100 packets), as `status` does. Seconds
    without traffic count as neither; those that nobody measured lower what is known. Of those missed `capacity` are
    such in which the link was too small for what was asked. The interval is by batch means, since seconds beside each
    other are alike. Exit code 3 where an SLA was missed, 4 where one was never judged.
    """
    until = CLOCK.wall()
    known = devices or storied_devices(folder_of(folder))
    sides = [side for device in known for side in both_directions(folder_of(folder), device) if side.has("history.db")]
    if not sides:
        raise UnavailableError("nothing was recorded here", hint="start `shaper run`, or name the --state DIR")
    accounts = [account for side in sides if (account := _account(side, until - last, until)).classes]
    found = [one for account in accounts for one in account.classes.values()]
    code = Exit.NO_DATA if not found or any(one.ratio is None and one.no_data for one in found) else Exit.OK
    if any(one.missed for one in found):
        code = Exit.SLA_MISSED
    if as_json:
        print_json({"schema": 1, "exit": int(code), "interfaces": [account_json(each) for each in accounts]})
        return code
    for each in accounts:
        account_view(each, out=console())
    if not accounts:
        click.echo("no class with an SLA was observed in that time")
    return code


def _account(side: DeviceState, since: float, until: float) -> Account:
    with History(side.history) as history:
        looks = history.looks(device=side.device, since=since, until=until)
        short = history.shortages_in(device=side.device, since=since - SLA_WINDOW, until=until)
    seconds = max(1, int(until) - int(since))
    found = {
        path: attainment(each, seconds=seconds, shortages=[one for one in short if one.path == path], window=SLA_WINDOW)
        for path, each in sorted(looks.items())
    }
    return Account(side.title, since, until, found)
