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
from shaper.cli.plan import handle_names, prepare_all, prepared_json
from shaper.errors import UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, Policy
from shaper.report.render import console, plan_view
from shaper.run import changes, watchdog
from shaper.run.apply import undisturbed
from shaper.run.confirm import condition, confirmed_policy, refuse_while_waiting
from shaper.run.saved import SavedPlan, check_kernel, check_unmoved, interface_to_json, read_saved
from shaper.run.standing import interface_on
from shaper.run.state import DeviceState, boot_id, waiting_devices
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
                f"no `shaper run` is up on {interface.device}, so nothing measures whether the change is good",
                hint="start `shaper run`, or let a person decide with --confirm",
                where=interface.device_where,
            )


@contextlib.contextmanager
def _guarded(wish: _Wish, interfaces: Sequence[Interface], folder: Path | None) -> Iterator[None]:
    """In here the watchdog is alive. It stays for what was changed, and goes when nothing was."""
    if not wish.ident:
        yield
        return
    where, devices = folder_of(folder), [interface.device for interface in interfaces]
    for interface in interfaces:
        refuse_while_waiting(state_of(folder, interface), now=CLOCK.boot())  # before a process is started for it
    watchdog.start(where, wish.ident, devices, clock=CLOCK, pause=time.sleep)
    try:
        yield
    except BaseException:
        states = [DeviceState(where, device) for device in waiting_devices(where)]
        if not any((waiting := read_waiting(state)) and waiting.id == wish.ident for state in states):
            watchdog.dismiss(where, wish.ident)
        raise


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
    for interface in interfaces:
        answer = ask(
            state_of(folder, interface),
            "apply",
            source=policy.source,
            text=policy.text,
            files=dict(policy.files),
            expected=interface_to_json(saved.expected(interface.device)) if saved else None,
            confirm=wish.asked(),
            **asker(wish.message),
        )
        if answer is None:
            quiet.append(interface)
        else:
            answers.extend(answer)
    if not as_json:
        for answer in answers:
            click.echo(f"{answer['device']}: the running shaper took it: {counted(answer['steps'])}")
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
    """All interfaces or none."""
    with contextlib.ExitStack() as locks:
        states = [state_of(folder, interface) for interface in interfaces]
        wanted = []
        for state, interface in zip(states, interfaces, strict=True):
            allowed, told = _allowed_here(kernel, state, policy, locks)
            wanted.append((allowed, interface if allowed is policy else interface_on(allowed, state.device)))
            if not as_json:
                for words in told:
                    click.echo(f"{state.device}: {words}", err=True)
        prepared = list(prepare_all(kernel, wanted, known=lambda one: state_of(folder, one)))
        if saved is not None:
            for one in prepared:
                check_unmoved(one, saved.expected(one.program.interface.device))
        who = order(wish.message)
        with undisturbed(), contextlib.ExitStack() as undoing:
            for number, state in enumerate(states):
                when = condition(wish.ident, wish.seconds, now=CLOCK.boot()) if wish.ident else None
                made = changes.make(kernel, state, prepared[number], what="apply", order=who, condition=when)
                prepared[number] = made
                undoing.callback(
                    changes.unmake, kernel, state, made, at=who.at, reason="another interface of the policy failed"
                )
            undoing.pop_all()
    if not as_json:
        for one in prepared:
            plan_view(
                one.plan,
                names=handle_names(one),
                notes=one.program.notes if one.plan.steps else (),
                out=console(),
                done=True,
            )
    return [{**prepared_json(one), "change": one.after.change} for one in prepared]


def _allowed_here(
    kernel: Kernel, state: DeviceState, policy: Policy, locks: contextlib.ExitStack
) -> tuple[Policy, list[str]]:
    """The policy to apply: this one, but after a reboot that cut a confirmation short the last confirmed one."""
    waiting = read_waiting(state)
    cut_short = waiting is not None and waiting.boot != boot_id()
    told = list(locks.enter_context(held(kernel, state)))
    refuse_while_waiting(state, now=CLOCK.boot())
    if not cut_short:
        return policy, told
    allowed, why = confirmed_policy(state, policy)
    return allowed, [*told, *([why] if why else [])]
