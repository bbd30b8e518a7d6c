"""`--at TIME`, and what is said of a policy's schedule."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from shaper.cli.asking import CLOCK
from shaper.model.policy import Interface, Policy
from shaper.report.words import schedule_text
from shaper.run.calendar import outlook


class Instant(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Such as `2026-11-23 08:00`, with an offset or by the clock of the policy's schedule."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{str(value)!r} is not a time; write it as 2026-11-23T08:00, or with an offset", param, ctx)


at_option = click.option(
    "--at", type=Instant(), metavar="TIME", help="As the policy's schedule is then, such as 2026-11-23T08:00."
)


def instant_of(at: datetime | None, policy: Policy) -> float:
    """Unix time in seconds: now where nothing was said, else by the policy's clock where no offset was."""
    if at is None:
        return CLOCK.wall()
    if at.tzinfo is None:
        at = at.replace(tzinfo=next((one.timetable.zone for one in policy.interfaces if one.timetable), UTC))
    return at.timestamp()


def scheduled(interface: Interface, at: float) -> tuple[str, ...]:
    """What of a schedule holds at an instant, and what comes next; nothing where there is none."""
    found = outlook(interface, at)
    return (schedule_text(found),) if found else ()


def unattended(interface: Interface, at: float) -> tuple[str, ...]:
    """The same for what was applied without a running shaper, which would change it in time."""
    found = outlook(interface, at)
    if found is None or not found.next_at:
        return scheduled(interface, at)
    return (
        schedule_text(found),
        f"schedule: nobody will make that change, since no `shaper run` is up on {interface.device}; "
        "start it, or apply again then",
    )
