"""`shaper plan`: what an apply would do. Changes nothing at all."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import click

from shaper.api.client import ask
from shaper.api.wire import RemoteError, lending
from shaper.cli.common import (
    by_device,
    chosen,
    folder_of,
    interface_option,
    json_option,
    open_kernel,
    policy_argument,
    print_json,
    state_of,
    state_option,
    worst,
)
from shaper.cli.instant import at_option, instant_of, scheduled
from shaper.errors import Exit, ShaperError
from shaper.history.codec import encode
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, Policy
from shaper.plan.steps import Plan
from shaper.policy import read_policy
from shaper.report.as_json import plan_json
from shaper.report.render import console, plan_view
from shaper.run.answers import Lending
from shaper.run.apply import plan_clear
from shaper.run.before import unfinished
from shaper.run.calendar import outlook
from shaper.run.place import placed
from shaper.run.prepare import Known, Prepared, adds_hook, prepare
from shaper.run.saved import save
from shaper.run.snapshot import SnapshotKernel, live_to_json, read_capabilities, read_devices
from shaper.run.state import DeviceState, both_directions

_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@policy_argument
@interface_option
@click.option("-o", "--output", type=_file, help="Also write the plan here, for `shaper apply FILE`.")
@click.option("--capabilities", type=_file, metavar="CAPS", help="A kernel in a file, as `doctor --json` prints it.")
@click.option("--against", type=_file, metavar="TREE", help="Devices in a file, as `plan --json` prints them.")
@at_option
@state_option
@json_option
def plan(
    policy_file: Path,
    names: tuple[str, ...],
    output: Path | None,
    capabilities: Path | None,
    against: Path | None,
    at: datetime | None,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Show the steps that `apply` would take, and what each costs the traffic. Exit code 2 when there are any.

    With --capabilities and --against no kernel is asked: the files stand for the machine that they came from.
    With --at the numbers are those that the policy's schedule has then.
    """
    if at is not None and output is not None:
        raise click.UsageError("a plan for another time cannot be saved: `apply` carries out what holds when it is run")
    policy = read_policy(policy_file)
    then = instant_of(at, policy)
    with _machine(capabilities, against, folder) as (kernel, known):
        policy = placed(policy, kernel)
        interfaces = chosen(policy, names)
        wanted = [(policy, one.at(then)) for one in interfaces]
        if isinstance(kernel, SnapshotKernel):
            prepared = prepare_all(kernel, wanted, known=known)
            leaving = kernel.leaving(interfaces)
        else:
            prepared = prepare_all(kernel, wanted, known=known, running=functools.partial(_running, folder))
            leaving = [(side, plan_clear(kernel, side)) for side in no_longer_shaped(interfaces, folder=folder)]
        if output is not None:
            save(output, kernel, policy, prepared, [side.key for side, _ in leaving])
    changes = any(plan.steps for plan in (*(one.plan for one in prepared), *(plan for _, plan in leaving)))
    code = Exit.CHANGES if changes else Exit.OK
    if as_json:
        found = [*(prepared_json(one, then) for one in prepared), *(leaving_json(side, plan) for side, plan in leaving)]
        print_json({"schema": 1, "exit": int(code), "interfaces": found})
        return code
    for one in prepared:
        notes = (*one.program.notes, *scheduled(one.program.interface, then))
        plan_view(one.plan, names=handle_names(one), notes=notes, out=console(), place=one.program.interface.place)
    for side, plan in leaving:
        plan_view(plan, names={}, notes=(no_longer(side),), out=console(), place=side.title)
    return code


def no_longer_shaped(interfaces: Sequence[Interface], *, folder: Path | None) -> list[DeviceState]:
    """The directions of the interfaces' devices that carry what is ours and are in the policy no more."""
    wanted = {interface.key for interface in interfaces}
    sides = [side for device in by_device(interfaces) for side in both_directions(folder_of(folder), device)]
    return [side for side in sides if side.key not in wanted and side.record() is not None]


@contextlib.contextmanager
def _machine(
    capabilities: Path | None, against: Path | None, folder: Path | None
) -> Iterator[tuple[Kernel, Callable[[Interface], Known]]]:
    """What is planned against: this machine, or the one that the files show."""
    if (capabilities is None) != (against is None):
        raise click.UsageError("--capabilities and --against stand for a machine together: give both, or neither")
    if capabilities is not None and against is not None:
        there = SnapshotKernel(read_capabilities(capabilities), read_devices(against))
        yield there, lambda interface: there.device(interface.key)
        return
    with open_kernel() as kernel:
        yield kernel, lambda interface: state_of(folder, interface)


def _running(folder: Path | None, interface: Interface) -> Lending | None:
    """How the shaper that runs on the interface's device prepares its direction, None without one."""
    try:
        answer = ask(DeviceState(folder_of(folder), interface.spot), "lending")
    except RemoteError:  # it is of a version that does not say
        return None
    sides = (lending(one) for one in answer or ())
    return next((side for side in sides if side.direction is interface.direction), None)


def prepare_all(
    kernel: Kernel,
    wanted: Sequence[tuple[Policy, Interface]],
    *,
    known: Callable[[Interface], Known],
    running: Callable[[Interface], Lending | None] = lambda _: None,
) -> tuple[Prepared, ...]:
    """Every interface, planned as what is `running` there would do it. Of several failures the one whose exit code wins
    is raised.
    """
    prepared: list[Prepared] = []
    errors: list[ShaperError] = []
    hooked: set[str] = set()
    for policy, interface in wanted:
        try:
            hook_comes, first = interface.spot in hooked, _same(prepared, interface)
            state = known(interface)
            before = unfinished(state) if isinstance(state, DeviceState) else None
            runs = running(interface)
            one = prepare(
                kernel,
                state,
                policy,
                interface,
                structure=runs is None or runs.structure,
                hooked=hook_comes,
                before=before,
                first=first,
                lender=runs,
            )
            prepared.append(one)
        except ShaperError as error:
            errors.append(error)
        else:
            if adds_hook(prepared[-1].plan):
                hooked.add(interface.spot)
    if errors:
        raise worst(errors)
    return tuple(prepared)


def _same(prepared: Sequence[Prepared], interface: Interface) -> list[Prepared]:
    """Those in the interface's network namespace."""
    return [one for one in prepared if one.program.interface.netns == interface.netns]


def handle_names(prepared: Prepared) -> dict[int, str]:
    """Class handle -> path, for people."""
    return {handle: path for path, handle in prepared.program.handles.items()}


def prepared_json(prepared: Prepared, at: float) -> dict[str, object]:
    """One interface's plan as JSON; `at` is the instant (Unix time, s) of its numbers."""
    interface = prepared.program.interface
    return {
        "interface": interface.name,
        **plan_json(prepared.plan, names=handle_names(prepared)),
        "device": interface.spot,
        "direction": interface.direction.value,
        "notes": list(prepared.program.notes),
        "schedule": encode(outlook(interface, at)),
        "live": live_to_json(prepared),
    }


def no_longer(side: DeviceState) -> str:
    """Why a direction is let go of."""
    return f"the policy no longer shapes the {side.direction} of {side.spot}"


def leaving_json(side: DeviceState, plan: Plan) -> dict[str, object]:
    """The plan of a direction that is in the policy no more."""
    return {
        "interface": None,
        **plan_json(plan),
        "device": side.spot,
        "direction": side.direction.value,
        "notes": [no_longer(side)],
    }
