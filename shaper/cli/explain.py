"""`shaper explain`: why the shaper does what it does. Changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shaper.cli.asking import CLOCK
from shaper.cli.assumed import EVERYTHING, ethernet
from shaper.cli.common import chosen, interface_option, json_option, open_kernel, policy_argument, print_json
from shaper.cli.decision import decision
from shaper.cli.packet import packet_of, packet_options
from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.errors import ShaperError, UnavailableError
from shaper.kernel.protocol import within
from shaper.model.explain import explain as explain_packet
from shaper.model.policy import Interface
from shaper.policy import read_policy
from shaper.report.explain import explanation_json, explanation_view
from shaper.report.render import console


@click.group()
def explain() -> None:
    """Say why: which rule takes a packet, and what becomes of it; what the controller decided, and what came of it."""


explain.add_command(decision)


@explain.command()
@policy_argument
@interface_option
@packet_options
@json_option
def packet(policy_file: Path, names: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Which class a packet belongs to, by which rule, with which rates and queue, and which later rules it also meets.

    Works without a kernel. What is not said of the packet is assumed, and the answer says what was.
    """
    policy = read_policy(policy_file)
    asked, assumed = packet_of(options)
    answers = []
    for interface in (one.at(CLOCK.wall()) for one in chosen(policy, names)):
        program, compiled = _program(interface)
        rules = interface.rules()
        needed = _that_matter(assumed, rules.asked())
        explained = explain_packet(rules, asked)
        if as_json:
            answers.append(explanation_json(explained, interface, program, assumed=needed, by=compiled))
        else:
            explanation_view(explained, interface, program, assumed=needed, by=compiled, out=console())
    if as_json:
        print_json({"schema": 1, "exit": 0, "interfaces": answers})


def _program(interface: Interface) -> tuple[Program | None, str]:
    """The interface as compiled for this kernel and device where there are any, and for which it was."""
    capabilities, link = EVERYTHING, ethernet(interface.device)
    text = "for a kernel with everything and an Ethernet device (assumed)"
    try:
        with open_kernel() as kernel:
            capabilities = kernel.capabilities()
            here = f"for this kernel ({capabilities.kernel})"
            text = f"{here} and an Ethernet device (assumed: {interface.spot} is not here)"
            link = within(kernel, interface.netns).link(interface.device)
            text = f"{here} and {interface.spot}"
    except ShaperError:
        pass
    try:
        return compile_interface(interface, capabilities, link), text
    except UnavailableError as error:
        place = f"{error.where}: " if error.where else ""
        return None, f"not {text}: {place}{error.message}"


def _that_matter(assumed: dict[str, str], asked: dict[str, Any]) -> dict[str, str]:
    """What was assumed, without what no rule asks for; of tunnels and of matches made of others everything."""
    if {"inner", "any_of", "all_of", "none_of"} & asked.keys():
        return assumed
    return {key: value for key, value in assumed.items() if _ASKED_BY[key.removeprefix("inner ")] & asked.keys()}


_ASKED_BY = {
    "family": {"ethertypes", "src", "dst", "net", "icmp"},
    "src": {"src", "net"},
    "dst": {"dst", "net"},
    "proto": {"protocols", "sport", "dport", "port", "icmp", "tcp_flags"},
    "sport": {"sport", "port"},
    "dport": {"dport", "port"},
    "dscp": {"dscp", "tos"},
    "ecn": {"ecn", "tos"},
    "length": {"length"},
    "tcp-flags": {"tcp_flags"},
    "icmp-type": {"icmp"},
    "vlan": {"vlan"},
    "pcp": {"pcp"},
}
