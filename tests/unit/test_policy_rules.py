"""Which rules a class tree gives: ancestors ANDed, catch-alls last in their class, exactly one default."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import PolicyError
from shaper.model.match import Packet, classify
from shaper.model.policy import Interface, TrafficClass, catch_all
from shaper.policy import parse_policy

ADDRESS = 0x0A000001  # 10.0.0.1


def interface_of(classes: str) -> Interface:
    text = f"""
version: 1
interfaces: {{wan: {{device: eth1, bandwidth: {{egress: 20mbit}}, policy: p}}}}
policies:
  p:
    classes:
{classes}
"""
    return parse_policy(text, source="policy.yaml").interfaces[0]


def packet(*, protocol: int = 6, dport: int | None = 1, dscp: int = 0, src: int = ADDRESS) -> Packet:
    return Packet(ethertype=0x0800, protocol=protocol, src=src, dst=1, sport=1, dport=dport, dscp=dscp)


@pytest.mark.parametrize(
    ("classes", "asked", "path"),
    [
        # what matches an inner class and none of its children stays in that class, made if absent
        ("a: {match: [{proto: tcp}], classes: {b: {match: [{dport: 80}]}}}", {"dport": 80}, "a/b"),
        ("a: {match: [{proto: tcp}], classes: {b: {match: [{dport: 80}]}}}", {"dport": 81}, "a/other"),
        ("a: {match: [{proto: tcp}], classes: {b: {match: [{dport: 80}]}}}", {"dport": 80, "protocol": 17}, "rest"),
        # the child without a match takes that rest, wherever it stands
        ("a: {match: [{proto: tcp}], classes: {b: {}, c: {match: [{dport: 80}]}}}", {"dport": 80}, "a/c"),
        ("a: {match: [{proto: tcp}], classes: {b: {}, c: {match: [{dport: 80}]}}}", {"dport": 81}, "a/b"),
        # also one inside a class that asks nothing itself, and after all that its cousins ask for
        (
            "a: {match: [{proto: tcp}], classes: {b: {classes: {c: {}}}, d: {match: [{dport: 80}]}}}",
            {"dport": 80},
            "a/d",
        ),
        (
            "a: {match: [{proto: tcp}], classes: {b: {classes: {c: {}}}, d: {match: [{dport: 80}]}}}",
            {"dport": 9},
            "a/b/c",
        ),
        # a class that asks nothing is only a place to share in
        ("a: {classes: {b: {match: [{dport: 80}]}}}", {"dport": 80}, "a/b"),
        ("a: {classes: {b: {match: [{dport: 80}]}}}", {"dport": 81}, "rest"),
        # every ancestor counts, each in any of its ways
        (
            "a: {match: [{dscp: ef}, {dscp: cs5}], classes: {b: {match: [{dport: 80}]}}}",
            {"dport": 80, "dscp": 40},
            "a/b",
        ),
        (
            "a: {match: [{dscp: ef}, {dscp: cs5}], classes: {b: {match: [{dport: 80}]}}}",
            {"dport": 80, "dscp": 8},
            "rest",
        ),
        # the order of the file is the order of asking
        ("a: {match: [{dport: 80}]}\n      b: {match: [{dport: 80-90}]}", {"dport": 80}, "a"),
        ("b: {match: [{dport: 80-90}, {src: 10.0.0.0/8}]}\n      a: {match: [{dport: 80-99}]}", {"dport": 80}, "b"),
        # network control is asked before anything
        ("a: {match: [{src: 10.0.0.0/8}]}", {"protocol": 89, "dport": None}, "network-control"),
    ],
)
def test_where_a_packet_goes(classes: str, asked: dict[str, int], path: str) -> None:
    interface = interface_of(f"      {classes}\n      rest: {{default: true}}")
    assert classify(interface.rules(), packet(**asked)) == path


@pytest.mark.parametrize(("dport", "path"), [(80, "a/d"), (443, "a/d"), (22, "a/s")])
def test_a_default_with_a_match_is_the_catch_all_of_its_class(dport: int, path: str) -> None:
    classes = """
      a: {match: [{proto: tcp}], classes: {d: {default: true, match: [{dport: 80}]}, s: {match: [{dport: 22}]}}}
      b: {match: [{dport: 443}]}"""
    assert classify(interface_of(classes).rules(), packet(dport=dport)) == path


def test_what_nothing_matches_goes_to_the_default_also_from_outside_its_class() -> None:
    interface = interface_of("      a: {match: [{proto: tcp}], classes: {d: {default: true}}}")
    assert classify(interface.rules(), packet(protocol=17)) == "a/d"


def test_the_implied_leaf_is_marked_and_stands_last() -> None:
    interface = interface_of(
        "      a: {tier: priority, limit: 5mbit, match: [{proto: tcp}], classes: {b: {match: [{dport: 80}]}}}\n"
        "      rest: {default: true}"
    )
    other = interface.classes[1].children[-1]
    assert (other.path, other.implied, other.guarantee, other.tier.name) == ("a/other", True, 0, "PRIORITY")
    assert other.limit == 5_000_000


def meaning(cls: TrafficClass, asked: Packet) -> str | None:
    """Where one class puts a packet, said the way the policy language says it."""
    if cls.matches and not any(match.holds(asked) for match in cls.matches):
        return None
    for child in cls.children:
        if (found := meaning(child, asked)) is not None:
            return found
    if not cls.matches:
        return None
    if not cls.children:
        return cls.path
    leaf = catch_all(cls)
    assert leaf is not None
    return leaf.path


CONDITIONS = st.sampled_from(
    [
        "{dport: 80}",
        "{dport: 22-90}",
        "{proto: tcp}",
        "{proto: udp}",
        "{dscp: ef}",
        "{src: 10.0.0.0/8}",
        "{src: 192.0.2.1}",
    ]
)


def trees(depth: int) -> st.SearchStrategy[str]:
    match = st.lists(CONDITIONS, min_size=1, max_size=2, unique=True).map(lambda items: f"match: [{', '.join(items)}]")
    leaf = match.map(lambda text: f"{{{text}}}")
    if depth == 0:
        return leaf
    below = st.lists(trees(depth - 1), min_size=1, max_size=3).map(
        lambda children: "classes: {" + ", ".join(f"c{n}: {child}" for n, child in enumerate(children)) + "}"
    )
    inner = st.one_of(below, st.tuples(match, below).map(", ".join)).map(lambda text: f"{{{text}}}")
    return st.one_of(leaf, inner)


@given(
    classes=st.lists(trees(2), min_size=1, max_size=3),
    asked=st.builds(
        packet,
        protocol=st.sampled_from([6, 17, 47]),
        dport=st.sampled_from([None, 22, 80, 443]),
        dscp=st.sampled_from([0, 46]),
        src=st.sampled_from([ADDRESS, 0xC0000201]),
    ),
)
def test_the_rules_mean_what_the_classes_say(classes: list[str], asked: Packet) -> None:
    text = "\n".join(f"      t{number}: {cls}" for number, cls in enumerate(classes))
    try:
        interface = interface_of(f"{text}\n      rest: {{default: true}}")
    except PolicyError:  # shadowed or contradicting: refused
        return
    tops = sorted(interface.classes, key=lambda cls: not cls.implied)
    expected = next((found for top in tops if (found := meaning(top, asked)) is not None), interface.default().path)
    assert classify(interface.rules(), asked) == expected
