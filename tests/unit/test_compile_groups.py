"""What a rule asks of a cgroup is asked of the mark, and means the same; or it is refused with its line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compile_samples import ETHERNET, FULL_KERNEL
from hypothesis import given
from hypothesis import strategies as st
from nat_samples import TRANSLATES

from shaper.compile import compile_interface
from shaper.compile.groups import groups_of
from shaper.compile.inside import marks_for
from shaper.errors import UnavailableError
from shaper.model.match import Match, Packet, Rule, Rules, classify
from shaper.model.policy import Direction, Interface
from shaper.policy import parse_policy
from shaper.tree import FORWARD, OUTPUT, POSTROUTING, BpfFilter, MarkChain, Statement

ABLE = replace(
    FULL_KERNEL, filters=FULL_KERNEL.filters | {"flower", "u32"},
    features=FULL_KERNEL.features | {"nft-ct", "nft-cgroup"},
)  # fmt: skip
TEXT = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office%s}
policies:
  office:
    classes:
      backup: {match: [%s]}
      rest: {default: true}
"""
PATHS = ("/a", "/a/b", "/a/b/c", "/ab", "/a/c", "/system.slice/x.service")
LEAVING = Statement("oifname", text="eth1")
paths = st.sampled_from(PATHS)


def office(match: str = "{cgroup: /a/b}", more: str = "") -> Interface:
    policy = parse_policy(TEXT % (more and f", {more}", match), source="office.yaml")
    return next(one for one in policy.interfaces if one.direction is Direction.EGRESS)


def marked(chains: list[MarkChain], hook: int, mark: int, group: str) -> int:
    """The mark of a packet that a socket of the group sent, behind the chain at a hook."""
    (chain,) = (one for one in chains if one.hook == hook)
    for rule in chain.rules:
        for what, number, mask, text in rule:
            if what == "mark":
                mark = mark & mask ^ number
            elif what == "cgroup":
                parts = group.split("/")
                if "/".join(parts[: number + 1]) != text or len(parts) <= number:
                    break
    return mark


def matches(depth: int = 2) -> st.SearchStrategy[Match]:
    leaf = st.builds(
        lambda groups, dscp: Match(cgroup=tuple(groups), dscp=tuple(dscp)),
        st.lists(paths, max_size=2),
        st.lists(st.sampled_from((0, 46)), max_size=1),
    )
    if not depth:
        return leaf
    below = st.lists(matches(depth - 1), max_size=2).map(tuple)
    return st.one_of(
        leaf,
        st.builds(lambda one, some, every, none: replace(one, any_of=some, all_of=every, none_of=none),
                  leaf, below, below, below),
    )  # fmt: skip


@given(st.lists(matches(), min_size=1, max_size=3), paths, st.integers(0, 2**32 - 1), st.sampled_from((0, 46)))
def test_rules_that_ask_the_mark_take_what_the_rules_take_of_a_group(
    asked: list[Match], group: str, mark: int, dscp: int
) -> None:
    rules = Rules(tuple(Rule((match,), f"c{number}") for number, match in enumerate(asked)), "rest")
    groups = groups_of(rules, 16)
    chains = list(groups.chains(LEAVING))
    packet = Packet(0x0800, 17, 1, 2, 3, 4, dscp, cgroup=group)
    sent = marked(chains, OUTPUT, mark, group) if chains else mark
    handed = marked(chains, FORWARD, mark, group) if chains else mark
    carried = groups.carried(rules)
    assert sent & ~groups.mask == mark & ~groups.mask == handed & ~groups.mask
    assert classify(carried, packet._replace(cgroup=None, mark=sent)) == classify(rules, packet)
    assert classify(carried, packet._replace(cgroup=None, mark=handed)) == classify(rules, packet._replace(cgroup=None))


def test_the_table_stands_in_the_tree_and_plan_says_what_its_bits_mean() -> None:
    program = compile_interface(office("{cgroup: [/a/b, /c]}"), ABLE, ETHERNET)
    (table,) = program.tree.tables
    assert [(chain.name, chain.hook) for chain in table.chains] == [("handing-on", FORWARD), ("sending", OUTPUT)]
    setting = [rule for chain in table.chains if chain.hook == OUTPUT for rule in chain.rules][1:]
    assert [(rule[1].text, rule[1].number, rule[2].number) for rule in setting] == [
        ("/a/b", 2, 1 << 16),
        ("/c", 1, 1 << 17),
    ]
    assert any("cgroups (/a/b, /c) are told by 0x00030000" in note for note in program.notes)
    assert all(isinstance(one, BpfFilter) for one in program.tree.filters)
    assert not program.measured and any("`cgroup`" in note for note in program.notes)


def test_beside_a_translation_the_bits_are_above_its_numbers() -> None:
    interface = office("{cgroup: /a, src: 10.0.0.0/24}")
    marks = marks_for(interface, ABLE, TRANSLATES)
    assert marks is not None and marks.numbered
    taken = marks.networks.unknown.mask | marks.ports.unknown.mask
    assert marks.groups.mask and not marks.groups.mask & taken
    assert {chain.hook for chain in marks.table().chains} == {POSTROUTING, OUTPUT, FORWARD}


@pytest.mark.parametrize(
    ("match", "more", "able", "words"),
    [
        ("{cgroup: /a}", "", replace(ABLE, features=frozenset({"nft-ct"})), "socket cgroupv2.*lacks that"),
        ("{cgroup: /a}", "classifier: flower", ABLE, "by the bpf filter alone"),
        ("{cgroup: /a}", "classifier: u32", ABLE, "by the bpf filter alone"),
        ("{cgroup: /a}", "", replace(ABLE, filters=frozenset({"flower"})), "by the bpf filter alone"),
        (
            "{cgroup: [" + ", ".join(f"/g{number}" for number in range(17)) + "]}",
            "",
            ABLE,
            "17 bits, of which there are 16",
        ),
        ("{cgroup: /a, mark: 0x10000/0x30000}", "", ABLE, "asks for 0x00030000 of the bits"),
    ],
)
def test_what_cannot_be_told_is_refused_at_its_line(match: str, more: str, able, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnavailableError, match=words) as refused:
        compile_interface(office(match, more), able, ETHERNET)
    assert refused.value.where is not None and refused.value.where.line == 7
    assert refused.value.hint


def test_what_comes_in_has_no_socket_yet() -> None:
    text = TEXT.replace("egress: 20mbit", "egress: 20mbit, ingress: 20mbit") % ("", "{cgroup: /a}")
    interfaces = parse_policy(text, source="office.yaml").interfaces
    incoming = next(one for one in interfaces if one.direction is Direction.INGRESS)
    with pytest.raises(UnavailableError, match="has no socket yet") as refused:
        compile_interface(incoming, ABLE, ETHERNET)
    assert refused.value.where is not None and refused.value.where.line == 7
