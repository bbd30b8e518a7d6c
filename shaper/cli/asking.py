"""What the commands that change things share: who asks, on which devices, through a running shaper or by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from shaper.cli.common import device_option, folder_of
from shaper.errors import UnavailableError
from shaper.history.codec import encode
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Direction
from shaper.run.changes import Order
from shaper.run.clock import SystemClock
from shaper.run.confirm import tidy
from shaper.run.state import DeviceState, both_directions, known_devices, storied_devices, waiting_devices
from shaper.run.waiting import Waiting, read_waiting
from shaper.run.who import caller
from shaper.units import UnitError, parse_duration

message_option = click.option("-m", "--message", default="", metavar="TEXT", help="Why, for the history.")
devices_option = device_option("Only this device")
standing_option = click.option(
    "--interface",
    "-i",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only the interface that the policy in force calls so (repeatable).",
)
CLOCK = SystemClock()


def duration(text: str) -> float:
    """A duration such as `120s` in seconds; a type of click's."""
    try:
        seconds = parse_duration(text)
    except UnitError as error:
        raise click.BadParameter(f"{error.message}; {error.hint}") from error
    if not 0 < seconds <= 86400:
        raise click.BadParameter(f"{text!r} is not between nothing and a day")
    return seconds


def order(why: str) -> Order:
    """Whoever runs this command, now."""
    return Order(caller(), CLOCK.wall(), why)


def asker(why: str) -> dict[str, Any]:
    """The same for a running shaper."""
    return {"who": encode(caller()), "why": why}


@contextlib.contextmanager
def held(kernel: Kernel, sides: Sequence[DeviceState], why: str = "") -> Iterator[tuple[str, ...]]:
    """The device of these directions locked, and what killed commands left put right; what that was, in words."""
    with sides[0].lock():
        now = CLOCK.boot()
        told = [(side, words) for side in sides for words in tidy(kernel, side, now=now, order=order(why))]
        yield tuple(words if side.direction is Direction.EGRESS else f"ingress: {words}" for side, words in told)


Waits = list[tuple[DeviceState, Waiting]]


def waiting_on(folder: Path | None, ident: str, devices: Sequence[str]) -> dict[str, Waits]:
    """The devices whose change waits by this id, "" for the only one, with the directions that do.

    Raises UnavailableError, UsageError.
    """
    found: dict[str, Waits] = {}
    for device in devices or waiting_devices(folder_of(folder)):
        for state in both_directions(folder_of(folder), device):
            waiting = read_waiting(state)
            if waiting is not None and ident in ("", waiting.id):
                found.setdefault(device, []).append((state, waiting))
    if not found:
        raise UnavailableError(
            "nothing waits for a confirmation" + (f" by the id {ident}" if ident else ""),
            hint="see `shaper history`: it may have been rolled back",
        )
    idents = sorted({waiting.id for waits in found.values() for _, waiting in waits})
    if len(idents) > 1:
        raise click.UsageError(f"several changes wait: name one of {', '.join(idents)}")
    return found


def called(folder: Path | None, names: Sequence[str], devices: Sequence[str]) -> tuple[str, ...]:
    """The devices that were named, and those of the interfaces that were named. Raises UsageError for unknown ones."""
    standing: dict[str, str] = {}
    for device in known_devices(folder_of(folder)) if names else ():
        for side in both_directions(folder_of(folder), device):
            if record := side.latest():
                standing[record.interface] = device
    for name in names:
        if name not in standing:
            known = ", ".join(sorted(standing)) or "none"
            raise click.UsageError(f"no policy in force has an interface {name!r}; there is {known}")
    return tuple(dict.fromkeys((*devices, *(standing[name] for name in names))))


def one_device(folder: Path | None, devices: Sequence[str]) -> tuple[DeviceState, ...]:
    """The device that was named, or the only one that was ever changed: the directions of it that were.

    Raises UnavailableError, UsageError.
    """
    known = devices or storied_devices(folder_of(folder))
    if not known:
        raise UnavailableError("nothing was ever changed here", hint="apply a policy first, or name the --state DIR")
    if len(known) > 1:
        raise click.UsageError(f"several devices have a history: name one with --device: {', '.join(known)}")
    return storied(folder, known[0])


def storied(folder: Path | None, device: str) -> tuple[DeviceState, ...]:
    """The directions of a device that were ever changed, or what goes out."""
    sides = both_directions(folder_of(folder), device)
    return tuple(side for side in sides if side.has("changes.log")) or sides[:1]
