"""`shaper adopt` and `shaper release`: whose a tree is, changed; the tree itself stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, asker, held, message_option, order
from shaper.cli.common import (
    counted,
    device_name,
    folder_of,
    json_option,
    open_kernel,
    policy_argument,
    print_json,
    read_placed,
    state_option,
)
from shaper.cli.completion import device_names
from shaper.cli.plan import handle_names, prepared_json
from shaper.errors import Exit, UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Direction, Interface, Policy
from shaper.plan.steps import Plan
from shaper.report.as_json import plan_json
from shaper.report.render import console, plan_view
from shaper.run import apply, changes
from shaper.run.adopt import adoption, standing_for
from shaper.run.confirm import refuse_while_waiting
from shaper.run.ours import polices
from shaper.run.prepare import Prepared, adds_hook, prepare
from shaper.run.state import DeviceState, Record, both_directions
from shaper.run.together import together
from shaper.tree import Handle, handle, handle_text

_HANDLE = re.compile(r"([0-9a-fA-F]{1,4}):([0-9a-fA-F]{1,4})")
_device = click.argument("device", metavar="DEVICE", type=device_name, shell_complete=device_names)
_dry_run = click.option("--dry-run", is_flag=True, help="Only show it. Exit code 2 when there is something to do.")


class _Pair(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Such as `office.web=1:10`."""

    name = "class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Handle]:
        path, _, number = str(value).rpartition("=")
        found = _HANDLE.fullmatch(number)
        if not path or found is None:
            self.fail(f"{value!r} is not NAME=HANDLE, such as voice=1:10", param, ctx)
        return path, handle(int(found[1], 16), int(found[2], 16))


@click.command()
@_device
@policy_argument
@click.option(
    "--class",
    "pairs",
    type=_Pair(),
    multiple=True,
    metavar="NAME=HANDLE",
    help="This class of the policy is that class of the tree (repeatable); the rest by place and rates.",
)
@_dry_run
@message_option
@state_option
@json_option
def adopt(
    device: str,
    policy_file: Path,
    pairs: tuple[tuple[str, Handle], ...],
    dry_run: bool,
    message: str,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Take over the HTB tree on DEVICE, whoever made it, and change it to POLICY without rebuilding it.

    Its root, its classes and its queues keep their numbers. Each class of POLICY becomes the class at the same place of
    the tree that is most like it; see --dry-run first. What would have to be rebuilt is refused. Rolled back by nothing
    but `release`: it goes back to no policy of ours.
    """
    policy = read_placed(policy_file)
    sides = both_directions(folder_of(folder), device)
    with open_kernel() as kernel, held(kernel, sides, message) as told:
        for side in sides:
            refuse_while_waiting(side, now=CLOCK.boot())
        who = order(message)
        planned = _planned(kernel, sides, policy, dict(pairs), now=who.at)
        if not dry_run:
            with together(
                kernel, [side for side, _ in planned], at=who.at, reason="the other direction could not be taken over"
            ):
                planned = [(side, changes.make(kernel, side, one, what="adopt", order=who)) for side, one in planned]
    code = Exit.CHANGES if dry_run and any(one.plan.steps for _, one in planned) else Exit.OK
    if as_json:
        found = [
            {**prepared_json(one, who.at), "change": one.after.change, "classes": _classes(one)} for _, one in planned
        ]
        print_json({"schema": 1, "exit": int(code), "dry_run": dry_run, "interfaces": found})
        return code
    for words in told:
        click.echo(f"{device}: {words}", err=True)
    for side, one in planned:
        for path, number in _classes(one).items():
            click.echo(f"{side.title}: {path} " + (f"takes over class {number}" if number else "is new"))
        plan_view(
            one.plan,
            names=handle_names(one),
            notes=one.program.notes,
            out=console(),
            done=not dry_run,
            place=side.title,
        )
        if not dry_run:
            click.echo(f"{side.title}: ours from now on; `shaper release {device}` lets go of it")
    return code


def _classes(prepared: Prepared) -> dict[str, str]:
    return {path: handle_text(number) if number else "" for path, number in standing_for(prepared)}


def _planned(
    kernel: Kernel, sides: tuple[DeviceState, ...], policy: Policy, named: dict[str, Handle], *, now: float
) -> list[tuple[DeviceState, Prepared]]:
    """The directions that the policy shapes: what goes out is taken over; so is what comes in, where it has a tree."""
    wanted = {one.key: one.at(now) for one in policy.interfaces}
    planned: list[tuple[DeviceState, Prepared]] = []
    both = [(side, interface) for side in sides if (interface := wanted.get(side.key)) is not None]
    for side, interface in both:
        first = [one for _, one in planned]
        if planned and not _has_a_tree(kernel, side, interface):
            hooked = any(adds_hook(one.plan) for one in first)
            planned.append((side, prepare(kernel, side, policy, interface, hooked=hooked, first=first)))
        else:
            later = (one for other, one in both[len(planned) + 1 :] if _has_a_tree(kernel, other, one))
            one = adoption(kernel, side, policy, interface, named=named, first=first, then=next(later, None))
            planned.append((side, one))
    if not planned:
        device = sides[0].spot
        raise UnavailableError(
            f"{policy.source} has no interface on {device}",
            hint=f"it has {', '.join(dict.fromkeys(one.spot for one in policy.interfaces))}",
        )
    return planned


def _has_a_tree(kernel: Kernel, side: DeviceState, interface: Interface) -> bool:
    """Whether a direction has something that `adopt` could take over."""
    held = apply.read(kernel, side)
    return any(map(polices, held.filters)) if interface.policed else held.root() is not None


@click.command()
@_device
@_dry_run
@message_option
@state_option
@json_option
def release(device: str, dry_run: bool, message: str, folder: Path | None, as_json: bool) -> int:
    """Let go of DEVICE: its tree stays in the kernel as it is, and nothing of the shaper's watches it any more.

    What only measures goes. A running `shaper run` puts its static allocation there and ends for this device.
    `shaper adopt` takes it back; what removes it is said.
    """
    sides = both_directions(folder_of(folder), device)
    removals = [words for side in sides if (record := side.record()) for words in _removal(side, record)]
    answer = None if dry_run else ask(sides[0], "release", **asker(message))
    found: list[dict[str, Any]] = list(answer or ())
    plans: list[tuple[DeviceState, Plan]] = []
    if answer is None:
        with open_kernel() as kernel:
            if not any(side.known() for side in sides):
                raise UnavailableError(f"nothing on {device} is ours", hint="see `shaper status` for what is")
            plans = _released(kernel, sides, message, dry_run=dry_run)
        found = [plan_json(plan) for _, plan in plans]
    code = Exit.CHANGES if dry_run and found else Exit.OK
    if as_json:
        print_json({"schema": 1, "exit": int(code), "dry_run": dry_run, "interfaces": found})
        return code
    for side, plan in plans:
        plan_view(plan, names={}, notes=(), out=console(), done=not dry_run, place=side.title)
    if answer is not None:
        steps = [step for plan in answer for step in plan["steps"]]
        click.echo(f"{device}: the running shaper let go of it: {counted(steps)}")
    if not dry_run:
        click.echo(
            f"{device}: not ours any more; its tree stays: `shaper adopt {device} POLICY` takes it back, "
            f"`{'; '.join(removals)}` removes it"
        )
        if any(side.let_go() for side in sides):
            click.echo(f"{device}: offloads stay as they were set: `shaper clear --device {device}` puts them back")
    return code


def _removal(side: DeviceState, record: Record) -> Iterator[str]:
    """The commands that remove what a release leaves."""
    inside = f" -n {side.netns}" if side.netns else ""
    if record.direction is Direction.EGRESS:
        yield f"tc{inside} qdisc del dev {side.device} root"
        return
    yield f"tc{inside} qdisc del dev {side.device} clsact"
    if not record.policed:
        yield f"ip{inside} link del {side.shaped}"


def _released(
    kernel: Kernel, sides: tuple[DeviceState, ...], message: str, *, dry_run: bool
) -> list[tuple[DeviceState, Plan]]:
    with held(kernel, sides, message):
        for side in sides:
            refuse_while_waiting(side, now=CLOCK.boot())
        ours = [side for side in sides if side.record()]
        if dry_run:
            return [(side, apply.plan_release(kernel, side)[0]) for side in ours]
        who = order(message)
        with together(kernel, ours, at=who.at, reason="the other direction could not be let go of"):
            return [(side, changes.release(kernel, side, order=who)) for side in ours]
