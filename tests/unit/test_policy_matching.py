"""What is reported as shadowed or as never matching takes no packet: nothing is ever blamed wrongly."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import frame_samples
import policy_samples
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaper.errors import PolicyError
from shaper.model.match import Match, Packet, PortRange, Prefix, Rule, network_control_matches
from shaper.model.policy import rules_below
from shaper.policy import parse_policy
from shaper.policy.claims import Claims
from shaper.policy.draft import Draft, Drafter
from shaper.policy.groups import Groups
from shaper.policy.kinds import Kind
from shaper.policy.matching import matching_problems
from shaper.policy.reader import Document, read
from shaper.policy.regions import (
    ABSENT,
    Ranges,
    TooManyBoxesError,
    boxes_of,
    common,
    contains,
    points,
    ranges,
    without,
)
from shaper.policy.text import path_text
from shaper.policy.validate import validate

randoms = st.integers(0, 2**32).map(Random)


def drafted(written: dict[str, Any]) -> tuple[Document, list[Draft]]:
    """The classes of a policy, whether it would be accepted or not."""
    document, problems = read(policy_samples.text_of(written), source="random.yaml")
    assert document is not None and not problems
    spec, lost, problems = validate(document)
    assert not problems
    drafter = Drafter(document, lost, Groups({}, document, lost))
    classes = spec.policies["p"].classes.items()
    return document, [drafter.draft(name, cls, ("policies", "p", "classes", name)) for name, cls in classes]


def takers(tops: list[Draft], packet: Packet) -> Match | None:
    """The match of the document by which a packet finds its class."""
    if any(match.holds(packet) for match in network_control_matches()):
        return None
    rules = (rule for top in tops for rule in rules_below(top))
    return next((rule.all_of[-1] for rule in rules if rule.holds(packet)), None)


@given(randoms)
def test_a_match_that_is_reported_takes_no_packet(random: Random) -> None:
    frames = [frame_samples.frame(random) for _ in range(40)]
    fields = random.sample(policy_samples.FIELDS, 3)  # few, so that rules stand in each other's way
    written = policy_samples.classes(random, [frame.packet for frame in frames[:4]], fields=fields)
    document, tops = drafted(written)
    kinds = (Kind.SHADOWED_MATCH, Kind.NEVER_MATCHES)
    blamed = {problem.path for problem in matching_problems(tops, document) if problem.kind in kinds}
    places = {
        id(match): path_text(loc)
        for top in tops
        for cls in top.walk()
        for match, loc in zip(cls.matches, cls.match_locs, strict=True)
    }
    for frame in frames:
        taker = takers(tops, frame.packet)
        assert taker is None or places[id(taker)] not in blamed, (written, frame.packet)


@given(randoms)
def test_boxes_hold_what_the_match_takes_and_nothing_else(random: Random) -> None:
    frames = [frame_samples.frame(random) for _ in range(20)]
    written = {"a": {"match": [policy_samples.match(random, frames[0].packet)]}, "rest": {"default": True}}
    (match,) = drafted(written)[1][0].matches
    try:
        boxes = boxes_of((match,))
    except TooManyBoxesError:
        return
    for frame in frames:
        point = box_of(frame.packet, match)
        inside = any(contains(box, point) for box in boxes)
        assert inside == match.holds(frame.packet), (written, frame.packet)


def box_of(packet: Packet, match: Match) -> dict[str, tuple[tuple[int, int], ...]]:
    """The packet as a box of one point, on every axis that there is."""
    point: dict[str, int] = {"inner": int(packet.inner is not None)}
    for inside, held in (("", packet), ("inner.", packet.inner or Packet(ABSENT))):
        version = {0x0800: 0, 0x86DD: 1 << 32}.get(held.ethertype, 0)
        for name in ("sport", "dport", "tos", "tcp_flags", "length", "vlan", "pcp", "src_mac", "dst_mac", "protocol"):
            value = getattr(held, name)
            point[inside + name] = ABSENT if value is None else value
        for name in ("src", "dst"):
            value = getattr(held, name)
            point[inside + name] = ABSENT if value is None else value + version
        own = {(1, 0x0800): 0, (58, 0x86DD): 256}.get((held.protocol or 0, held.ethertype))
        point[f"{inside}icmp"] = ABSENT if own is None or held.icmp_type is None else own + held.icmp_type
        point[f"{inside}ethertype"] = held.ethertype
    for mask in {masked.mask for masked in marks(match)}:
        point[f"mark&{mask:x}"] = packet.mark & mask
    return {axis: ((value, value),) for axis, value in point.items()}


def marks(match: Match) -> list[Any]:
    return [*match.mark, *(masked for part in match.parts() for masked in marks(part))]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{src: 10.0.0.0/8}", "{src: 10.1.0.0/16}"),
        ("{src: [10.0.0.0/9, 10.128.0.0/9]}", "{src: 10.0.0.0/8, dst: 10.0.0.0/8}"),
        ("{dport: 1000-1999}", "{dport: [1000, 1500-1999]}"),
        ("{dport: [1000-1499, 1500-1999]}", "{dport: 1200-1700}"),
        ("{net: 192.0.2.0/24}", "{dst: 192.0.2.7}"),
        ("{port: 53}", "{proto: udp, sport: domain}"),
        ("{tos: 0xb8/0xfc}", "{dscp: ef, ecn: ce}"),
        ("{not: {proto: tcp}}", "{proto: udp}"),
        ("{not: {proto: tcp}}", "{icmp-type: echo-request}"),
        ("{family: ipv4}", "{src: 10.0.0.0/8, proto: gre}"),
        ("{proto: tcp}", "{tcp-flags: {set: syn, unset: ack}}"),
        ("{inner: {src: 10.0.0.0/8}}", "{proto: gre, inner: {src: 10.1.0.0/16, dscp: ef}}"),
        ("{any: [{dscp: ef}, {dscp: cs5}]}", "{dscp: [ef, cs5], proto: udp}"),
        ("{vlan: 100-199}", "{vlan: 150, pcp: 5}"),
        ("{length: 0-128}", "{length: 64-100, proto: tcp}"),
        ("{mac: '02:00:5e:10:00:01'}", "{src-mac: '02:00:5e:10:00:01'}"),
    ],
)
def test_what_is_contained_is_shadowed_and_the_other_way_round_is_not(first: str, second: str) -> None:
    assert problems_of(first, second) == ["shadowed-match"]
    assert problems_of(second, first) == []


def problems_of(*matches: str) -> list[str]:
    classes = "".join(f"      c{number}: {{match: [{match}]}}\n" for number, match in enumerate(matches))
    interface = "wan: {device: eth1, bandwidth: {egress: 10gbit}, policy: p}"
    text = f"version: 1\ninterfaces: {{{interface}}}\npolicies:\n  p:\n    classes:\n{classes}"
    text += "      rest: {default: true}"
    try:
        parse_policy(text, source="policy.yaml")
    except PolicyError as error:
        return [problem.kind for problem in error.problems()]
    return []


small = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=6).map(
    lambda pairs: ranges((first, first + size) for first, size in pairs)
)


@given(small, small)
def test_ranges_are_sets(one: Ranges, two: Ranges) -> None:
    left, right = ({value for first, last in held for value in range(first, last + 1)} for held in (one, two))
    assert common(one, two) == points(left & right)
    assert without(one, two) == points(left - right)


def test_long_lists_of_addresses_are_compared_in_seconds() -> None:
    first, second = (tuple(Prefix(4, number << 8 | side, 32) for number in range(10_000)) for side in (1, 2))
    claims = Claims()
    claims.add(Rule((Match(src=first, dst=second),), "a"))
    began = time.process_time()
    assert not claims.takers(Rule((Match(src=second, dst=first),), "b"), lambda *_: True)
    assert claims.takers(Rule((Match(src=first, dst=second, dscp=(46,)),), "b"), lambda *_: True)
    assert time.process_time() - began < 4


def test_ten_thousand_rules_are_compared_in_seconds() -> None:
    claims = Claims()
    rules = [
        Rule((Match(dst=(Prefix(4, 0x0A000000 | number, 32),), dport=(PortRange(80, 90),)),), f"c{number}")
        for number in range(10_000)
    ]
    began = time.process_time()
    for rule in rules:
        assert not claims.takers(rule, lambda *_: True)
        claims.add(rule)
    assert claims.takers(Rule(rules[7].all_of, "again"), lambda *_: True) == [rules[7]]
    assert time.process_time() - began < 8
