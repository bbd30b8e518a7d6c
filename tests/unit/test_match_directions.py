"""One block of matches for both directions: a packet that comes in meets what its answer would meet going out."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import frame_samples
import packet_samples
import policy_samples
from bpf_machine import run
from compile_samples import branch_office
from hypothesis import given
from hypothesis import strategies as st
from test_compile_match import accepted_interface

from shaper.compile.classifier import classifier
from shaper.model.match import NETWORK_CONTROL, Match, Packet, PortRange, Prefix, classify, network_control_matches
from shaper.model.policy import Direction, Interface

randoms = st.integers(0, 2**32).map(Random)
TCP, BFD = 6, 3784


def turned(packet: Packet) -> Packet:
    """The same on its way back."""
    return packet._replace(
        src=packet.dst,
        dst=packet.src,
        sport=packet.dport,
        dport=packet.sport,
        src_mac=packet.dst_mac,
        dst_mac=packet.src_mac,
        inner=packet.inner and turned(packet.inner),
    )


def controls(packet: Packet) -> bool:
    return any(match.holds(packet) for match in network_control_matches())


def about(random: Random, packets: list[Packet]) -> Interface:
    """The branch office with matches that some of the packets meet."""
    rules = packet_samples.rules_about(random, packets).ordered
    office = branch_office()
    classes = [
        cls if cls.implied or not cls.matches else replace(cls, matches=random.choice(rules).all_of)
        for cls in office.classes
    ]
    return replace(office, classes=tuple(classes))


@given(randoms)
def test_what_comes_in_has_the_class_of_what_goes_out(random: Random) -> None:
    packets = [packet_samples.sample(random).packet for _ in range(20)]
    office = about(random, packets)
    out, back = office.rules(), replace(office, direction=Direction.INGRESS).rules()
    assert out.default == back.default
    for packet in packets:
        if not controls(packet) and not controls(turned(packet)):
            assert classify(out, packet) == classify(back, turned(packet))


@given(randoms)
def test_that_holds_for_the_whole_match_language(random: Random) -> None:
    packets = [frame_samples.frame(random).packet for _ in range(20)]
    office = accepted_interface(policy_samples.classes(random, packets))
    out, back = office.rules(), replace(office, direction=Direction.INGRESS).rules()
    for packet in packets:
        if not controls(packet) and not controls(turned(packet)):
            assert classify(out, packet) == classify(back, turned(packet)), (out, packet)


@given(randoms)
def test_network_control_is_the_same_either_way(random: Random) -> None:
    """A routing protocol's packets go to its port in both directions: nothing of that is turned."""
    office = about(random, [packet_samples.sample(random).packet for _ in range(4)])
    back = replace(office, direction=Direction.INGRESS)
    for _ in range(10):
        packet = packet_samples.sample(random).packet
        assert (classify(office.rules(), packet) == NETWORK_CONTROL) == controls(packet)
        assert (classify(back.rules(), packet) == NETWORK_CONTROL) == controls(packet)
    probe = Packet(0x0800, 17, 1, 2, 50_000, BFD, 48)
    assert classify(back.rules(), probe) == NETWORK_CONTROL


@given(randoms)
def test_the_kernel_program_for_what_comes_in_says_the_same(random: Random) -> None:
    samples = [packet_samples.sample(random) for _ in range(10)]
    rules = replace(about(random, [sample.packet for sample in samples]), direction=Direction.INGRESS).rules()
    paths = {rules.default, *(rule.path for rule in rules.ordered)}
    classids = {path: 0x5A000010 + number for number, path in enumerate(sorted(paths))}
    program = classifier(rules, classids)
    for sample in samples:
        assert run(program, sample.skb) == classids[classify(rules, sample.packet)]


@given(randoms)
def test_turning_twice_is_nothing(random: Random) -> None:
    for rule in packet_samples.rules(random).ordered:
        assert rule.turned().turned() == rule
        assert rule.turned().path == rule.path


def test_addresses_and_ports_are_turned_and_marks_are_not() -> None:
    server = (Prefix(4, 0xCB007100, 24),)
    match = Match(dscp=(46,), protocols=(TCP,), dst=server, dport=(PortRange(443, 443),))
    assert match.turned() == Match(dscp=(46,), protocols=(TCP,), src=server, sport=(PortRange(443, 443),))
