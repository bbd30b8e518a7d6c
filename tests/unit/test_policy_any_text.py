"""Whatever the text: a policy or its problems, each with a place inside the text, never a traceback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shaper.errors import PolicyError
from shaper.policy import parse_policy, read_policy
from shaper.policy.kinds import Kind

pytestmark = pytest.mark.slow

POLICIES = [path.read_text() for path in sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))]
WORDS = [
    "version", "interfaces", "policies", "device", "bandwidth", "egress", "ingress", "policy", "classes", "tier",
    "guarantee", "limit", "share", "adapt", "min", "default", "match", "sla", "dscp", "proto", "src", "dst", "sport",
    "dport", "net", "port", "vlan", "pcp", "mac", "mark", "tos", "ecn", "length", "family", "ethertype", "tcp-flags",
    "icmp-type", "inner", "any", "all", "not", "file", "set", "unset", "iif", "cgroup", "syn", "0x10/0xf0",
    "delay-p99", "jitter", "mos",
    "codec", "loss", "throughput", "special", "ef", "tcp", "20mbit", "10%", "10ms", "1.5", "-1", "0x1f", "true",
    "null", "~", ".nan", "5Mbps", "10.0.0.0/8", "2001:db8::/32", "80-90", "<<", "&a", "*a", "!!str", "{", "}", "[",
    "]", ":", ": ", "-", "- ", ",", "#", "'", '"', "|", ">", "?", "---", "...", "%YAML 1.2", "\n", "\n  ", "\n    ",
    "schedule", "when", "days", "mon-fri", "from", '"22:00"', "to", '"06:00"', "zone", "UTC", "Europe/Paris",
    "include", "vars", "defaults", "match-groups", "group", "${", "$${", "}", '"${a}"', "${a}%", "a",
    "\t", "\x00", "\u2028", "\ufeff", "é", "\U0001f600", "\ud800", "9" * 400, '"\\0"', '"\\ud800"', '"\\e[31m"',
]  # fmt: skip


def check(text: str) -> None:
    try:
        policy = parse_policy(text, source="any.yaml")
    except PolicyError as error:
        problems = error.problems()
        assert problems
        lines = text.count("\n") + text.count("\r") + sum(map(text.count, "\x85\u2028\u2029")) + 1
        for problem in problems:
            assert problem.kind in set(Kind)
            assert problem.message and problem.hint
            assert (problem.path + problem.message + problem.hint).isprintable()
            assert problem.where is not None
            assert 1 <= problem.where.line <= lines
            assert 1 <= problem.where.column <= len(text) + 1
        assert list(problems) == sorted(problems, key=lambda problem: (problem.where, problem.kind, problem.message))
    else:
        for interface in policy.interfaces:
            assert interface.rules().default == interface.default().path


@given(st.text())
def test_arbitrary_text(text: str) -> None:
    check(text)


@given(st.lists(st.sampled_from(WORDS)).map("".join))
def test_arbitrary_words_of_the_language(text: str) -> None:
    check(text)


@settings(deadline=None)
@given(data=st.data())
def test_mutated_policies(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(POLICIES))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 40)))
        text = text[:start] + data.draw(st.sampled_from(["", *WORDS])) + text[end:]
    check(text)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS[:73]), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS[:50]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(data=st.data())
def test_policies_with_a_value_exchanged(data: st.DataObject) -> None:
    document = yaml.safe_load(data.draw(st.sampled_from(POLICIES)))
    for _ in range(data.draw(st.integers(1, 3))):
        node = document
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(node[key], (dict, list)) or data.draw(st.integers(0, 5)) == 0:
                node[key] = data.draw(VALUES)
                break
            node = node[key]
    check(yaml.safe_dump(document, sort_keys=False, allow_unicode=data.draw(st.booleans())))


@pytest.mark.parametrize("escape", [r"\0", r"\ud800", r"\e[31m", r"\n", r"\u202e"])
def test_escapes_reach_neither_the_resolver_nor_the_terminal(escape: str) -> None:
    for policy in POLICIES:
        for word in ("wan", "eth1", "branch-office", "voice", "special", "10%", "ef", "203.0.113.0/24", "loss"):
            check(policy.replace(word, f'"{escape}"'))


@given(st.binary())
def test_arbitrary_bytes_in_a_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with pytest.raises(PolicyError) as caught:
        read_policy(path)
    assert caught.value.problems()


@pytest.mark.parametrize("name", [".", "missing", "a\x00b"])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, name: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(tmp_path / name)
    (problem,) = caught.value.problems()
    assert (problem.kind, problem.where) == (Kind.UNREADABLE, None)


def test_a_thousand_guesses_among_a_thousand_names_take_no_time() -> None:
    wanted = "".join(
        f"  w{n}: {{device: e{n}, bandwidth: {{egress: 20mbit}}, policy: polcy{n}}}\n" for n in range(1000)
    )
    there = "".join(f"  policy{n}: {{classes: {{a: {{default: true}}}}}}\n" for n in range(1000))
    began = time.process_time()
    check(f"version: 1\ninterfaces:\n{wanted}policies:\n{there}")
    assert time.process_time() - began < 8
