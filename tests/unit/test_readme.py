"""What the README shows is so: its policy is accepted, its commands exist, nothing is left to fill in."""

from __future__ import annotations

import re
from pathlib import Path

import click

from shaper.cli.entry import cli
from shaper.policy import parse_policy

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_policy_is_accepted() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    policy = parse_policy(text, source="README.md")
    assert {leaf.path for leaf in policy.interfaces[0].leaves()} >= {"voice", "video", "office/web", "backup"}


def test_the_policy_of_a_router_is_accepted() -> None:
    (text,) = re.findall(r"### On a router that masquerades\n.*?```\n(.*?)```", README, re.DOTALL)
    (interface,) = parse_policy(f"version: 1\n{text}", source="README.md").interfaces
    assert [match.where.line for match in interface.classes[1].matches if match.where] == [7, 7]  # as it is explained


def test_the_classes_that_police_and_mark_are_accepted() -> None:
    (classes,) = re.findall(r"### Policing and marking\n\n```\n(.*?)```", README, re.DOTALL)
    head = "version: 1\ninterfaces: {wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}}\npolicies:\n  p:\n"
    rest = "      rest: {default: true}\n"
    classes = classes.replace("video:\n", "video:\n        match: [{dscp: af42}]\n")
    (interface,) = parse_policy(f"{head}    classes:\n{classes}{rest}", source="README.md").interfaces
    treated = {leaf.path for leaf in interface.leaves() if leaf.police or leaf.marking}
    assert treated == {"video", "guests", "scavenger"}


def test_the_probe_of_a_class_is_accepted() -> None:
    (cls,) = re.findall(r"sends by its device and so through the class's queue:\n\n```\n(.*?)```", README, re.DOTALL)
    head = "version: 1\ninterfaces: {wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}}\npolicies:\n  p:\n"
    text = f"{head}    classes:\n{cls}      rest: {{default: true}}\n"
    (interface,) = parse_policy(text, source="README.md").interfaces
    (probe,) = [leaf.probe for leaf in interface.leaves() if leaf.probe]
    assert (probe.to, probe.dscp, probe.interval) == ("192.0.2.10", 46, 0.2)


def test_the_link_that_moves_is_accepted() -> None:
    (text,) = re.findall(r"### A link that moves\n.*?```\n(.*?)```", README, re.DOTALL)
    rest = "policies: {branch-office: {classes: {rest: {default: true}}}}\n"
    there, back = parse_policy(f"version: 1\n{text}{rest}", source="README.md").interfaces
    assert there.moving is not None
    assert back.moving is not None
    assert (there.moving.least, there.bandwidth, there.moving.most) == (5_000_000, 20_000_000, 25_000_000)
    assert (back.moving.least, back.bandwidth, back.moving.most) == (10_000_000, 60_000_000, 60_000_000)


def test_every_command_that_it_names_is_there() -> None:
    named = set(re.findall(r"^(?:sudo )?shaper ([a-z]+(?:-[a-z]+)*)", README, re.MULTILINE))
    assert named >= {"doctor", "check", "plan", "run", "status", "clear"}
    assert named <= set(cli.list_commands(click.Context(cli)))


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"^@[A-Z]+@$", README, re.MULTILINE)
