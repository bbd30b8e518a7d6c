"""The usual slips in YAML: each is said where it is, in words that name it, with its mend."""

from __future__ import annotations

import pytest

from shaper.errors import PolicyError, Problem
from shaper.policy import parse_policy
from shaper.policy.kinds import Kind

GOOD = """\
version: 1
interfaces:
  wan:
    device: eth1
    bandwidth: {egress: 20mbit}
    policy: p   # a comment: with a colon
policies:
  p:
    classes:
      rest: {default: true}
"""

SLIPS = [
    ("a tab before a key", "    device", "\tdevice", (4, 1), "there is a tab", "put blanks in its place"),
    ("a tab after a colon", "policy: p", "policy:\tp", (6, 12), "there is a tab", "put blanks in its place"),
    ("no colon after a key", "  wan:", "  wan", (3, 6), "there is no colon after the key", "write `wan:`"),
    ("no colon before a value", "device: eth1", "device eth1", (4, 11), "there is no colon", "write `device: eth1`"),
    ("no blank after a colon", "device: eth1", "device:eth1", (4, 8), "there is no blank", "write `device: eth1`"),
    ("an equals sign", "device: eth1", "device = eth1", (4, 7), "not after =", "write `device: eth1`"),
    ("too far in", "    policy: p", "     policy: p", (6, 6), "indented by 5 blanks, line 5 above it by 4", "alike"),
    ("too far out", "    bandwidth", "   bandwidth", (5, 4), "indented by 3 blanks, line 4 above it by 4", "alike"),
    ("among others' keys", "    bandwidth", "  bandwidth", (6, 5), "indented by 4 blanks, line 5 above", "alike"),
    ("a double quote", "eth1", '"eth1', (4, 13), "the quote that opens here is never closed", "close it"),
    ("a single quote", "eth1", "'eth1", (4, 13), "the quote that opens here is never closed", "close it"),
    ("text after a quote", "eth1", '"eth"1', (4, 18), "more after the end of a value", "quote"),
    ("a brace", "20mbit}", "20mbit", (5, 16), "'{' that opens here is not closed", "close it with '}'"),
    ("a bracket", "{default", "{match: [{dscp: ef}, default", (10, 47), "'}' closes what '[' opened", "write ']'"),
    ("one brace more", "20mbit}", "20mbit}}", (5, 32), "'}' closes what was never opened", "take it out"),
    ("no comma", "{default", "{share: 5% default", (10, 31), "does not end in a comma", "put a comma"),
    ("two colons", "eth1", "a: b", (4, 14), "a second colon", "in quotes"),
    ("an at sign", "eth1", "@eth1", (4, 13), "cannot begin with '@'", "in quotes"),
    ("a percent sign", "eth1", "%eth1", (4, 13), "cannot begin with '%'", "in quotes"),
    ("a star", "eth1", "*", (4, 13), "begins an alias", "in quotes"),
    ("an escape", "eth1", '"eth\\d"', (4, 18), "mean nothing in double quotes", "backslash twice"),
    ("an item", "    policy", "    - policy", (6, 5), "an item of a list", "take the dash out"),
    ("an address", "{default", "{match: [{dst: ::1}], default", (10, 28), "begins with a colon", '"::1"'),
]


def only_problem(text: str) -> Problem:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, source="p.yaml")
    (problem,) = caught.value.problems()
    return problem


@pytest.mark.parametrize(("good", "slip", "place", "message", "hint"), [row[1:] for row in SLIPS], ids=lambda _: "")
def test_a_slip_is_said_where_it_is(good: str, slip: str, place: tuple[int, int], message: str, hint: str) -> None:
    assert GOOD.count(good) == 1
    problem = only_problem(GOOD.replace(good, slip))
    assert problem.kind == Kind.YAML_SYNTAX
    assert problem.where is not None
    assert (problem.where.line, problem.where.column) == place
    assert message in problem.message
    assert hint in problem.hint


def test_without_a_slip_it_is_a_policy() -> None:
    assert parse_policy(GOOD, source="p.yaml").interfaces


def test_a_key_inside_braces_with_no_blank_after_its_colon() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(GOOD.replace("{egress: 20mbit}", "{egress:20mbit}"), source="p.yaml")
    (problem,) = caught.value.problems()
    assert problem.message == "unknown key 'egress:20mbit'"
    assert problem.hint.startswith("is there no blank after the colon? ")


def test_what_is_not_known_better_is_said_in_the_parser_s_words() -> None:
    problem = only_problem("a: &a &b c")
    assert problem.message.startswith("this is not YAML: ")
