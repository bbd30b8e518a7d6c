"""`shaper export tc`: the equal tc commands as a shell script."""

from __future__ import annotations

from pathlib import Path

import click

from shaper.cli.asking import CLOCK
from shaper.cli.assumed import EVERYTHING, ethernet
from shaper.cli.common import chosen, interface_option, json_option, open_kernel, policy_argument, print_json
from shaper.cli.instant import scheduled
from shaper.compile import compile_interface
from shaper.errors import UnavailableError
from shaper.kernel.protocol import within
from shaper.model.policy import Interface, Policy
from shaper.policy import read_policy
from shaper.report.tc_script import rounded, script
from shaper.run.place import placed
from shaper.tree import Capabilities, LinkFacts, Tree


@click.group()
def export() -> None:
    """Write what a policy comes to in another tool's words."""


@export.command(name="tc")
@policy_argument
@interface_option
@click.option(
    "--here",
    is_flag=True,
    help="For this machine's kernel and devices; else for a kernel with everything and Ethernet.",
)
@json_option
def tc_(policy_file: Path, names: tuple[str, ...], here: bool, as_json: bool) -> None:
    """The tc commands that make what `apply` makes, as a shell script. Nothing is changed, and no kernel is needed."""
    policy = read_policy(policy_file)
    trees: list[tuple[str, Tree]] = []
    notes: list[str] = []
    for interface, capabilities, link in _targets(policy, names, here=here):
        program = compile_interface(interface, capabilities, link)
        trees.append((interface.netns, program.tree))
        told = (*program.notes, *rounded(program.tree), *scheduled(interface, CLOCK.wall()))
        notes += [f"{interface.spot}: {note}" for note in told]
    text = script(trees, notes)
    if as_json:
        print_json({"schema": 1, "exit": 0, "script": text, "notes": notes})
    else:
        click.echo(text, nl=False)


def _targets(policy: Policy, names: tuple[str, ...], *, here: bool) -> list[tuple[Interface, Capabilities, LinkFacts]]:
    """Raises UnavailableError where only a machine could say which device is meant."""
    now = CLOCK.wall()
    if here:
        with open_kernel() as kernel:
            there = chosen(placed(policy, kernel), names)
            return [(one.at(now), kernel.capabilities(), within(kernel, one.netns).link(one.device)) for one in there]
    for one in chosen(policy, names):
        if one.wanted is not None and not one.wanted.name:
            why = f"{one.name}: which device the {one.wanted} is, only its machine knows"
            raise UnavailableError(why, hint="`--here` on that machine, or name the device", where=one.device_where)
    return [(one.at(now), EVERYTHING, ethernet(one.device)) for one in chosen(policy, names)]
