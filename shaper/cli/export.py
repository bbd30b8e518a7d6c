"""`shaper export tc`: the equal tc commands as a shell script."""

from __future__ import annotations

from pathlib import Path

import click

from shaper.cli.common import chosen, interface_option, json_option, open_kernel, policy_argument, print_json
from shaper.compile import compile_interface
from shaper.policy import read_policy
from shaper.report.tc_script import rounded, script
from shaper.tree import Capabilities, LinkFacts

_USUAL = Capabilities(
    "a usual kernel",
    frozenset({"htb", "bfifo", "pfifo", "fq_codel", "clsact"}),
    frozenset({"bpf", "flower"}),
    frozenset({"mirred"}),
    frozenset({"ifb"}),
)
_MTU, _HEADER = 1500, 14


@click.group()
def export() -> None:
    """Write what a policy comes to in another tool's words."""


@export.command(name="tc")
@policy_argument
@interface_option
@click.option(
    "--here", is_flag=True, help="For this machine's kernel and devices; else for a usual kernel and Ethernet."
)
@json_option
def tc_(policy_file: Path, names: tuple[str, ...], here: bool, as_json: bool) -> None:
    """The tc commands that make what `apply` makes, as a shell script. Nothing is changed, and no kernel is needed."""
    policy = read_policy(policy_file)
    trees, notes = [], []
    for interface in chosen(policy, names):
        capabilities, link = _USUAL, _ethernet(interface.device)
        if here:
            with open_kernel() as kernel:
                capabilities, link = kernel.capabilities(), kernel.link(interface.device)
        program = compile_interface(interface, capabilities, link)
        trees.append(program.tree)
        notes += [f"{interface.device}: {note}" for note in (*program.notes, *rounded(program.tree))]
    text = script(trees, notes)
    if as_json:
        print_json({"schema": 1, "exit": 0, "script": text, "notes": notes})
    else:
        click.echo(text, nl=False)


def _ethernet(device: str) -> LinkFacts:
    return LinkFacts(device, 1, _MTU, _HEADER, _MTU + _HEADER, up=True)
