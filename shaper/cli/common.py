"""What the commands share: options, the choice of interfaces, rendering of failures."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from shaper.cli.completion import device_names, interface_names
from shaper.errors import Exit, PolicyError, ShaperError
from shaper.kernel.netlink import NetlinkKernel
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, Policy
from shaper.policy import read_policy
from shaper.policy.fields import is_device
from shaper.report.as_json import problems_json
from shaper.report.render import console, problems
from shaper.run.place import placed
from shaper.run.state import DeviceState, default_folder
from shaper.tree import Capabilities
from shaper.units import UnitError, parse_duration

Command = TypeVar("Command", bound=Callable[..., Any])


class _Duration(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Such as `30s`, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(str(value))
        except UnitError as error:
            self.fail(f"{error} ({error.hint})", param, ctx)


class Number(click.FloatRange):
    """A number between bounds. What is none, or has no end, is outside of them: nan compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not math.isfinite(found := super().convert(value, param, ctx)):
            self.fail(f"{value!r} is no number to go by", param, ctx)
        return found


class _Folder(click.Path):
    """A folder by its name; an empty one would be wherever the command happens to run."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("an empty name is no folder; write one such as /var/lib/shaper", param, ctx)
        return super().convert(value, param, ctx)


DURATION = _Duration()
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
state_option = click.option(
    "--state",
    "folder",
    type=_Folder(file_okay=False, path_type=Path),
    default=None,
    help="Where state lives [default: /var/lib/shaper, or under $XDG_STATE_HOME without root].",
)
interface_option = click.option(
    "--interface",
    "-i",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this interface of the policy (repeatable).",
    shell_complete=interface_names,
)
policy_argument = click.argument("policy_file", metavar="POLICY", type=click.Path(path_type=Path))


@contextlib.contextmanager
def open_kernel(known: Capabilities | None = None) -> Iterator[Kernel]:
    """The kernel of the network namespace that the command runs in; what it can do is probed if not `known`."""
    kernel = NetlinkKernel(known=known)
    try:
        yield kernel
    finally:
        kernel.close()


def device_name(text: str) -> str:
    """A type of click's: a device, or one behind the name of its network namespace.

    It names a folder of the state, too, where `eth0/../eth0` would hold eth0's record.
    """
    netns, slash, device = text.partition("/")
    if not is_device(device if slash else netns) or netns in ("", ".", "..") or not text.isprintable():
        raise click.BadParameter(f"{text!r} cannot be a network device; write it as `ip link` shows it")
    return text


def device_option(words: str) -> Callable[[Command], Command]:
    """`--device`, any number of times, as the tuple `devices`; `words` is its help."""
    return click.option(
        "--device",
        "-d",
        "devices",
        multiple=True,
        type=device_name,
        help=f"{words} (repeatable).",
        shell_complete=device_names,
    )


def folder_of(folder: Path | None) -> Path:
    """The state folder that was named, or the usual one."""
    return (folder or default_folder()).absolute()


def read_placed(policy_file: Path) -> Policy:
    """The policy in a file, with the present names of its devices. Raises PolicyError, UnavailableError."""
    return placed_here(read_policy(policy_file))


def placed_here(policy: Policy) -> Policy:
    """The policy with the present names of its devices. Raises UnavailableError."""
    with open_kernel() as kernel:
        return placed(policy, kernel)


def chosen(policy: Policy, names: Sequence[str]) -> tuple[Interface, ...]:
    """The policy's interfaces, or those named. Raises UsageError for a name it does not have."""
    known = {interface.name for interface in policy.interfaces}
    for name in names:
        if name not in known:
            raise click.UsageError(f"{policy.source} has no interface {name!r}; it has {', '.join(sorted(known))}")
    return tuple(interface for interface in policy.interfaces if not names or interface.name in names)


def by_device(interfaces: Sequence[Interface]) -> dict[str, list[Interface]]:
    """The interfaces of each device, named with its network namespace: one for each direction that is shaped."""
    grouped: dict[str, list[Interface]] = {}
    for interface in interfaces:
        grouped.setdefault(interface.spot, []).append(interface)
    return grouped


def counted(steps: Sequence[object]) -> str:
    """`1 step`, `2 steps`."""
    return f"{len(steps)} step{'' if len(steps) == 1 else 's'}"


def state_of(folder: Path | None, interface: Interface) -> DeviceState:
    """The state folder of one direction of an interface."""
    return DeviceState(folder_of(folder), interface.spot, interface.direction)


def print_json(data: object) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


def fail(error: ShaperError, *, as_json: bool, in_lines: bool = False) -> int:
    """Says what went wrong and gives the exit code; `in_lines` where every object is one line."""
    if as_json:
        data = {"schema": 1, "exit": int(error.exit), **problems_json(error.problems())}
        try:
            click.echo(json.dumps(data, indent=None if in_lines else 2, allow_nan=False))
        except OSError:  # nobody reads it, or there is no room for it; the exit code still says it
            mute()
    else:
        problems(error.problems(), out=console(sys.stderr), summary=isinstance(error, PolicyError))
    return int(error.exit)


def mute() -> None:
    """Standard output leads nowhere from now on: what is still in its buffer must not fail at the end again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def worst(errors: Sequence[ShaperError]) -> ShaperError:
    """Of several failures the one whose exit code wins: 77, then 69, then 65, then the first."""
    order = (Exit.NOT_PERMITTED, Exit.UNAVAILABLE, Exit.POLICY)
    return min(errors, key=lambda error: order.index(error.exit) if error.exit in order else len(order))
