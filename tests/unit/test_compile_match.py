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

from shaper.compile.classifier import classifier, lookup_classifier
from shaper.errors import PolicyError, UnavailableError, Where
from shaper.model.match import Masked, Match, Packet, PortRange, Prefix, Rule, Rules, classify
from shaper.model.policy import Interface
from shaper.policy import parse_policy
from shaper.tree import Insn

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
def test_extended_bpf_knows_the_device_that_a_packet_came_in_by(random: Random) -> None:
    devices = {"feed-peer": 7, "q0": 3}
    frames = []
    for _ in range(20):
        frame, name = frame_samples.frame(random), random.choice((None, "feed-peer", "q0", "feed"))
        frames.append((frame.packet._replace(iif=name), replace(skb_of(frame), came_in=devices.get(name or "", 0))))
    packets = [packet for packet, _ in frames]
    rules = accepted(policy_samples.classes(random, packets, fields=["iif", *random.sample(policy_samples.FIELDS, 4)]))
    classids = {path: number for number, path in enumerate({rule.path for rule in rules.ordered} | {"rest"}, 1)}
    with_tables = lookup_classifier(rules, classids, devices=devices)
    program = classifier(rules, classids, devices=devices)
    for packet, skb in frames:
        gone = packet._replace(iif=packet.iif if packet.iif in devices else None)
        expected = classids[classify(rules, gone)]
        assert run(program, skb) == run(with_tables.program, skb, with_tables.tables) == expected, (rules, packet)


def test_a_device_without_a_number_is_not_that_of_packets_that_were_made_here() -> None:
    rules = Rules((Rule((Match(iif=("lan0",)),), "a"),), "rest")
    program = classifier(rules, {"a": 1, "rest": 2}, devices={"lan0": 0})
    assert run(program, Skb(bytes(60), 14, 0x0806)) == 2


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


def taken(program: tuple[Insn, ...], skb: Skb) -> int:
    """How many instructions the packet takes."""
    counted = 0

    class Counting(tuple[Insn, ...]):
        def __getitem__(self, at: Any) -> Any:
            nonlocal counted
            counted += 1
            return super().__getitem__(at)

    run(Counting(program), skb)
    return counted


@given(randoms, st.sampled_from((17, 40, 300, 1500)), st.sampled_from((24, 32)))
def test_a_long_list_of_addresses_is_halved_and_means_the_same(random: Random, count: int, length: int) -> None:
    networks = sorted(random.sample(range(0, 1 << 24, 2), count))
    prefixes = tuple(Prefix(4, network << 8, length) for network in networks)
    rules = Rules((Rule((Match(dst=prefixes),), "listed"),), "rest")
    program = classifier(rules, {"listed": 1, "rest": 2})
    check(program)
    for network in (networks[0], networks[-1], *random.sample(networks, 10)):
        for address in ((network << 8) + step for step in (-1, 0, 1, 255, 256)):
            packet = Packet(0x0800, 17, 1, address, 2, 3, 0)
            header = struct.pack("!BBHHHBBHII", 0x45, 0, 28, 0, 0, 64, 17, 0, 1, address & 0xFFFFFFFF)
            skb = Skb(bytes(14) + header + bytes(8), 14, 0x0800)
            if 0 <= address < 1 << 32:
                assert run(program, skb) == (1 if classify(rules, packet) == "listed" else 2)
                assert taken(program, skb) < 100
