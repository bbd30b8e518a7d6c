"""`shaper apply`: make the kernel hold what the policy says, or what a saved plan says."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.asking import CLOCK, asker, duration, held, message_option, order
from shaper.cli.common import (
    by_device,
    chosen,
    counted,
    folder_of,
    interface_option,
    json_option,
    open_kernel,
    placed_here,
    policy_argument,
    print_json,
    read_placed,
    state_of,
    state_option,
)
from shaper.cli.instant import unattended
from shaper.cli.plan import handle_names, leaving_json, no_longer, no_longer_shaped, prepare_all, prepared_json
from shaper.errors import UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Direction, Interface, Policy, place_text
from shaper.report.render import console, plan_view
from shaper.run import changes, watchdog
from shaper.run.apply import undisturbed
from shaper.run.confirm import condition, confirmed_policy, refuse_while_waiting
from shaper.run.saved import SavedPlan, check_kernel, check_unmoved, interface_to_json, read_saved
from shaper.run.state import DeviceState, boot_id, both_directions, waiting_devices
from shaper.run.together import together
from shaper.run.waiting import read_waiting


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is wanted beside the policy: a confirmation by `ident` within `seconds`, or a running shaper's judgement."""

    message: str
    ident: str = ""
    seconds: float = 0.0
    judge: bool = False

    def asked(self) -> dict[str, Any] | None:
        """For a running shaper."""
        return {"id": self.ident, "seconds": self.seconds, "judge": self.judge} if self.ident else None


@click.command()
@policy_argument
@interface_option
@click.option(
    "--confirm", "confirm_in", type=duration, metavar="TIME", help="Roll back after this time unless it is confirmed."
)
@click.option(
    "--confirm-if-sla",
    "judged_in",
    type=duration,
    metavar="TIME",
    help="Roll back after this time unless delay and loss did not get worse; needs a running `shaper run`.",
)
@message_option
@state_option
@json_option
def apply(
    policy_file: Path,
    names: tuple[str, ...],
    confirm_in: float | None,
    judged_in: float | None,
    message: str,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Apply a policy. A second apply sends nothing. Goes through a running `shaper run` where there is one.

    POLICY may be a plan that `plan -o` wrote: then exactly that is done, or nothing (75) where something moved.
    """
    if confirm_in is not None and judged_in is not None:
        raise click.UsageError("--confirm asks a person, --confirm-if-sla the measurement: give one of the two")
    saved = read_saved(policy_file)
    policy = read_placed(policy_file) if saved is None else placed_here(saved.policy)
    interfaces = chosen(policy, names or (saved.names() if saved else ()))
    seconds = confirm_in or judged_in or 0.0
    wish = _Wish(message, secrets.token_hex(3) if seconds else "", seconds, judged_in is not None)
    with open_kernel() as kernel:
        if saved is not None:
            check_kernel(kernel, saved)
        if wish.judge:
            _need_a_run(interfaces, folder)
        with _guarded(wish, interfaces, folder):
            answers, quiet = _ask(policy, interfaces, saved, wish, folder=folder, as_json=as_json)
            answers.extend(_apply_here(kernel, policy, quiet, saved=saved, wish=wish, folder=folder, as_json=as_json))
    if as_json:
        data: dict[str, Any] = {"schema": 1, "exit": 0, "interfaces": answers}
        print_json(data | ({"confirmation": wish.asked()} if wish.ident else {}))
    elif wish.ident:
        click.echo(_how_to_confirm(wish))


def _how_to_confirm(wish: _Wish) -> str:
    if wish.judge:
        return f"the measurement decides within {wish.seconds:g} s; `shaper confirm {wish.ident}` keeps it before"
    return f"rolled back in {wish.seconds:g} s unless you say: shaper confirm {wish.ident}"


def _need_a_run(interfaces: Sequence[Interface], folder: Path | None) -> None:
    for interface in interfaces:
        if ask(state_of(folder, interface), "status") is None:
            raise UnavailableError(
                f"no `shaper run` is up on {interface.spot}, so nothing measures whether the change is good",
                hint="start `shaper run`, or let a person decide with --confirm",
                where=interface.device_where,
            )


@contextlib.contextmanager
def _guarded(wish: _Wish, interfaces: Sequence[Interface], folder: Path | None) -> Iterator[None]:
    """In here the watchdog is alive. It stays for what was changed, and goes when nothing was."""
    if not wish.ident:
        yield
        return
    where, devices = folder_of(folder), list(by_device(interfaces))
    for side in _sides(where, devices):
        refuse_while_waiting(side, now=CLOCK.boot())  # before a process is started for it
    watchdog.start(where, wish.ident, devices, clock=CLOCK, pause=time.sleep)
    try:
        yield
    except BaseException:
        states = _sides(where, waiting_devices(where))
        if not any((waiting := read_waiting(state)) and waiting.id == wish.ident for state in states):
            watchdog.dismiss(where, wish.ident)
        raise


def _sides(folder: Path, devices: Sequence[str]) -> list[DeviceState]:
    return [side for device in devices for side in both_directions(folder, device)]


def _ask(
    policy: Policy,
    interfaces: Sequence[Interface],
    saved: SavedPlan | None,
    wish: _Wish,
    *,
    folder: Path | None,
    as_json: bool,
) -> tuple[list[dict[str, Any]], list[Interface]]:
    """What running shapers answered, and the interfaces that none holds."""
    answers: list[dict[str, Any]] = []
    quiet: list[Interface] = []
    for device, here in by_device(interfaces).items():
        expected = [interface_to_json(saved.expected(device, one.direction)) for one in here] if saved else None
        answer = ask(
            DeviceState(folder_of(folder), device),
            "apply",
            source=policy.source,
            text=policy.text,
            files=dict(policy.files),
            expected=expected,
            confirm=wish.asked(),
            **asker(wish.message),
        )
        if answer is None:
            quiet.extend(here)
        else:
            answers.extend(answer)
    if not as_json:
        for answer in answers:
            place = place_text(answer["device"], Direction(answer["direction"]))
            click.echo(f"{place}: the running shaper took it: {counted(answer['steps'])}")
    return answers, quiet


def _apply_here(
    kernel: Kernel,
    policy: Policy,
    interfaces: list[Interface],
    *,
    saved: SavedPlan | None,
    wish: _Wish,
    folder: Path | None,
    as_json: bool,
) -> list[dict[str, Any]]:
    """All interfaces or none, in both directions."""
    at = CLOCK.wall()
    with contextlib.ExitStack() as locks:
        wanted: list[tuple[Policy, Interface]] = []
        for device, here in by_device(interfaces).items():
            sides = both_directions(folder_of(folder), device)
            allowed, told = _allowed_here(kernel, sides, policy, locks)
            those = here if allowed is policy else [one for one in allowed.interfaces if one.spot == device]
            wanted.extend((allowed, one.at(at)) for one in those)
            if not as_json:
                for words in told:
                    click.echo(f"{device}: {words}", err=True)
        prepared = list(prepare_all(kernel, wanted, known=lambda one: state_of(folder, one)))
        leaving = no_longer_shaped([one for _, one in wanted], folder=folder)
        if saved is not None:
            saved.check_leaving([side.key for side in leaving])
            for one in prepared:
                interface = one.program.interface
                check_unmoved(one, saved.expected(interface.spot, interface.direction))
        who = order(wish.message)
        when = condition(wish.ident, wish.seconds, now=CLOCK.boot()) if wish.ident else None
        states = [state_of(folder, interface) for _, interface in wanted]
        all_of_them = together(kernel, [*states, *leaving], at=who.at, reason="another interface of the policy failed")
        with undisturbed(), all_of_them:
            for number, state in enumerate(states):
                prepared[number] = changes.make(
                    kernel, state, prepared[number], what="apply", order=who, condition=when
                )
            gone = [(side, changes.clear(kernel, side, order=who, what="apply", condition=when)) for side in leaving]
    if not as_json:
        for one in prepared:
            plan_view(
                one.plan,
                names=handle_names(one),
                notes=(*(one.program.notes if one.plan.steps else ()), *unattended(one.program.interface, at)),
                out=console(),
                done=True,
                place=one.program.interface.place,
            )
        for side, steps in gone:
            plan_view(steps, names={}, notes=(no_longer(side),), out=console(), done=True, place=side.title)
    made_json = [{**prepared_json(one, at), "change": one.after.change} for one in prepared]
    return [*made_json, *(leaving_json(side, steps) for side, steps in gone)]


def _allowed_here(
    kernel: Kernel, sides: Sequence[DeviceState], policy: Policy, locks: contextlib.ExitStack
) -> tuple[Policy, list[str]]:
    """The policy to apply: this one, but after a reboot that cut a confirmation short the last confirmed one."""
    cut_short = any((waiting := read_waiting(side)) is not None and waiting.boot != boot_id() for side in sides)
    told = list(locks.enter_context(held(kernel, sides)))
    for side in sides:
        refuse_while_waiting(side, now=CLOCK.boot())
    if not cut_short:
        return policy, told
    standing = next((side for side in sides if side.record() is not None), sides[0])
    allowed, why = confirmed_policy(standing, policy)
    return allowed, [*told, *([why] if why else [])]
