"""`shaper apply`: make the kernel hold what the policy says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from shaper.api.client import ask
from shaper.cli.common import (
    chosen,
    counted,
    interface_option,
    json_option,
    open_kernel,
    policy_argument,
    print_json,
    state_of,
    state_option,
)
from shaper.cli.plan import handle_names, prepare_all, prepared_json
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, Policy
from shaper.policy import read_policy
from shaper.report.render import console, plan_view
from shaper.run.apply import apply as carry_out
from shaper.run.apply import recover, undisturbed, undo


@click.command()
@policy_argument
@interface_option
@state_option
@json_option
def apply(policy_file: Path, names: tuple[str, ...], folder: Path | None, as_json: bool) -> None:
    """Apply a policy. A second apply sends nothing. Goes through a running `shaper run` where there is one."""
    policy = read_policy(policy_file)
    answers: list[dict[str, Any]] = []
    quiet: list[Interface] = []
    for interface in chosen(policy, names):
        answer = ask(
            state_of(folder, interface), "apply", source=policy.source, text=policy.text, files=dict(policy.files)
        )
        if answer is None:
            quiet.append(interface)
        else:
            answers.extend(answer)
    if not as_json:
        for answer in answers:
            click.echo(f"{answer['device']}: the running shaper took it: {counted(answer['steps'])}")
    with open_kernel() as kernel:
        answers.extend(_apply_here(kernel, policy, quiet, folder=folder, as_json=as_json))
    if as_json:
        print_json({"schema": 1, "exit": 0, "interfaces": answers})


def _apply_here(
    kernel: Kernel, policy: Policy, interfaces: list[Interface], *, folder: Path | None, as_json: bool
) -> list[dict[str, Any]]:
    """All interfaces or none."""
    with contextlib.ExitStack() as locks:
        states = [state_of(folder, interface) for interface in interfaces]
        for state in states:
            locks.enter_context(state.lock())
            if recover(kernel, state) is not None and not as_json:
                click.echo(f"{state.device}: an apply that was killed before was taken back first", err=True)
        prepared = prepare_all(kernel, policy, interfaces, folder=folder)
        with undisturbed(), contextlib.ExitStack() as undoing:
            for state, one in zip(states, prepared, strict=True):
                carry_out(kernel, state, one)
                undoing.callback(undo, kernel, state, one)
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
    return [prepared_json(one) for one in prepared]
