"""The whole match language: what the kernel's program answers is what the reference answers, field by field."""

from __future__ import annotations

import struct
from dataclasses import replace
from random import Random
from typing import Any

import frame_samples
import policy_samples
import pytest
from bpf_machine import Skb, check, run
from frame_samples import Frame
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile.classifier import classifier
from shaper.errors import PolicyError, UnavailableError, Where
from shaper.model.match import Masked, Match, Packet, PortRange, Rule, Rules, classify
from shaper.model.policy import Interface
from shaper.policy import parse_policy

randoms = st.integers(0, 2**32).map(Random)


def skb_of(frame: Frame, *, network: int | None = None) -> Skb:
    """As the kernel holds it; the network header is behind the tags, or behind the first where nobody looked."""
    kind = int.from_bytes(frame.data[12:14], "big")
    start = 14 + 4 * frame.tags if network is None else network
    return Skb(frame.data, start, kind, mark=frame.mark, tag=frame.beside)


def accepted(written: dict[str, Any], **more: str) -> Rules:
    """The rules of a policy, without the matches at which it has problems."""
    return accepted_interface(written, **more).rules()


def accepted_interface(written: dict[str, Any], **more: str) -> Interface:
    """The interface of such a policy."""
    while True:
        try:
            policy = parse_policy(policy_samples.text_of(written, **more), source="random.yaml")
        except PolicyError as error:
            assert [policy_samples.without(written, problem.path) for problem in error.problems()].count(True)
            written = policy_samples.swept(written)
        else:
            return policy.interfaces[0]


@given(randoms)
def test_the_program_classifies_as_the_reference(random: Random) -> None:
    frames = [frame_samples.frame(random) for _ in range(20)]
    rules = accepted(policy_samples.classes(random, [frame.packet for frame in frames]))
    classids = {path: number for number, path in enumerate({rule.path for rule in rules.ordered} | {"rest"}, 1)}
    program = classifier(rules, classids)
    check(program)
    for frame in frames:
        expected = classids[classify(rules, frame.packet)]
        assert run(program, skb_of(frame)) == expected, (rules, frame)
        assert run(program, skb_of(frame, network=14)) == expected or not frame.tags


@given(randoms)
def test_each_field_alone_tells_packets_apart(random: Random) -> None:
    frames = [frame_samples.frame(random) for _ in range(20)]
    field = random.choice(policy_samples.FIELDS)
    written = policy_samples.classes(random, [frame.packet for frame in frames], fields=[field])
    rules = accepted(written)
    classids = {path: number for number, path in enumerate({rule.path for rule in rules.ordered} | {"rest"}, 1)}
    program = classifier(rules, classids)
    for frame in frames:
        assert run(program, skb_of(frame)) == classids[classify(rules, frame.packet)], (rules, frame)


EVERYTHING = Match(
    dscp=(46,), tcp_flags=(Masked(2, 2),), length=(PortRange(0, 100),), vlan=(PortRange(1, 9),), pcp=(1,),
    sport=(PortRange(1, 1),), dport=(PortRange(2, 2),),
)  # fmt: skip


def test_every_field_at_once_outside_and_inside_of_a_tunnel() -> None:
    inside = replace(EVERYTHING, vlan=(), pcp=())
    program = classifier(Rules((Rule((EVERYTHING, Match(inner=inside)), "a"),), "rest"), {"a": 1, "rest": 2})
    check(program)


@pytest.mark.parametrize(
    ("match", "word"), [(Match(iif=("eth2",)), "device"), (Match(none_of=(Match(cgroup=("/a",)),)), "cgroup")]
)
def test_what_classic_bpf_cannot_see_is_refused_at_its_line(match: Match, word: str) -> None:
    place = Where("office.yaml", 7, 9)
    with pytest.raises(UnavailableError, match=word) as caught:
        classifier(Rules((Rule((replace(match, where=place),), "a"),), "rest"), {"a": 1, "rest": 2})
    assert caught.value.where == place
    assert "nft" in caught.value.hint


@pytest.mark.parametrize(
    ("total", "following", "length"), [(0, 6, 65535), (0, 59, 40), (1, 6, 41), (65495, 6, 65535), (65535, 6, 65535)]
)
def test_lengths_that_ipv6_cannot_say(total: int, following: int, length: int) -> None:
    header = struct.pack("!IHBB", 6 << 28, total, following, 64) + bytes(32) + bytes(20)
    for number in (length - 1, length, length + 1):
        rules = Rules((Rule((Match(length=(PortRange(number, number),)),), "a"),), "rest")
        answer = run(classifier(rules, {"a": 1, "rest": 2}), Skb(header, 0, 0x86DD))
        packet = Packet(0x86DD, following, 0, 0, dscp=0, ecn=0, length=length)
        assert answer == (1 if number == length else 2)
        assert classify(rules, packet) == ("a" if number == length else "rest")


def test_a_super_packet_too_large_for_ipv4_counts_as_the_longest() -> None:
    header = struct.pack("!BBHHHBBHII", 0x45, 0, 0, 7, 0, 64, 50, 0, 1, 2)
    rules = Rules((Rule((Match(length=(PortRange(65535, 65535),)),), "a"),), "rest")
    assert run(classifier(rules, {"a": 1, "rest": 2}), Skb(header, 0, 0x0800)) == 1


def test_only_ethernet_has_addresses_and_tags() -> None:
    data = bytes(12) + struct.pack("!HHH", 0x8100, 0x2005, 0x0806) + bytes(40)
    rules = Rules((Rule((Match(mac=(0,)),), "a"), Rule((Match(vlan=(PortRange(5, 5),)),), "a")), "rest")
    program = classifier(rules, {"a": 1, "rest": 2})
    assert run(program, Skb(data, 14, 0x8100)) == 1
    assert run(program, Skb(data, 14, 0x8100, hardware_type=65534)) == 2
