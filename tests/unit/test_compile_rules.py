"""The compiled classifier gives the reference classifier's answer for every packet."""

from __future__ import annotations

import struct
from random import Random

import packet_samples
import pytest
from bpf_machine import Skb, check, run
from hypothesis import given
from hypothesis import strategies as st
from packet_samples import LEAVES, V4, V6

from shaper.compile.bpf import TooLongError
from shaper.compile.classifier import classifier
from shaper.model.match import Match, Packet, PortRange, Prefix, Rule, Rules, classify, network_control_matches

CLASSIDS = {path: 0x5A000010 + number for number, path in enumerate(LEAVES)}
NETWORK_CONTROL = Rules(tuple(Rule((match,), "a") for match in network_control_matches()), "rest")
ANY_ADDRESS = Rules((Rule((Match(src=(Prefix(4, 0, 0), Prefix(6, 0, 0))),), "a"),), "rest")
ANY_PORT = Rules((*ANY_ADDRESS.ordered, Rule((Match(port=(PortRange(0, 65535),)),), "a")), "rest")

randoms = st.integers(0, 2**32).map(Random)


@given(randoms)
def test_the_kernel_program_classifies_as_the_reference(random: Random) -> None:
    samples = [packet_samples.sample(random) for _ in range(20)]
    about = packet_samples.rules_about(random, [sample.packet for sample in samples])
    rules = random.choice((about, packet_samples.rules(random)))
    program = classifier(rules, CLASSIDS)
    check(program)
    for sample in samples:
        assert run(program, sample.skb) == CLASSIDS[classify(rules, sample.packet)], (rules, sample)


@given(randoms)
def test_network_control_is_recognised(random: Random) -> None:
    program = classifier(NETWORK_CONTROL, CLASSIDS)
    for _ in range(20):
        sample = packet_samples.sample(random)
        assert run(program, sample.skb) == CLASSIDS[classify(NETWORK_CONTROL, sample.packet)]


@given(randoms)
def test_a_truncated_header_is_no_match_which_is_the_default_class(random: Random) -> None:
    """The kernel ends the program with 0, and HTB takes its default for that."""
    sample = packet_samples.ip_sample(random)
    start = sample.skb.network
    lengths = [start + random.randrange(10 if sample.skb.protocol == V4 else 7)]
    if sample.packet.sport is not None:
        lengths.append(sample.whole - random.randint(1, 4))
    for length in lengths:
        cut = Skb(sample.skb.data[:length], start, sample.skb.protocol)
        assert run(classifier(ANY_PORT, CLASSIDS), cut) == 0


@pytest.mark.parametrize("words", range(5))
def test_an_impossible_ipv4_header_length_belongs_to_the_default_class(words: int) -> None:
    data = bytes([0x40 | words]) + bytes(8) + bytes([17]) + bytes(30)
    assert run(classifier(ANY_ADDRESS, CLASSIDS), Skb(data, 0, V4)) == CLASSIDS["rest"]


def test_the_seventeenth_extension_header_is_the_protocol() -> None:
    chain = b"".join(bytes([number, 0]) + bytes(6) for number in (0, *[60] * 15, 17))
    header = struct.pack("!IHBB", 6 << 28, len(chain) + 8, 60, 64) + bytes(32)
    rules = Rules((Rule((Match(dport=(PortRange(53, 53),)),), "a"), Rule((Match(protocols=(60,)),), "d")), "rest")
    skb = Skb(header + chain + struct.pack("!HHHH", 53, 53, 8, 0), 0, V6)
    assert run(classifier(rules, CLASSIDS), skb) == CLASSIDS["d"]


@pytest.mark.parametrize("count", [80, 130, 400])
def test_conditions_farther_than_a_conditional_jump_reaches(count: int) -> None:
    spread = tuple(PortRange(3 * number, 3 * number + 1) for number in range(count))
    rules = Rules((Rule((Match(sport=spread, dport=spread),), "a"), Rule((Match(dscp=(46,)),), "d")), "rest")
    program = classifier(rules, CLASSIDS)
    check(program)
    for sport in (0, 2, 3 * count - 2, 3 * count - 1, 65535):
        for dport in (1, 2, 3 * count - 3, 65535):
            header = struct.pack("!BBHHHBBHII", 0x45, 46 << 2, 28, 0, 0, 64, 17, 0, 1, 2)
            skb = Skb(header + struct.pack("!HHHH", sport, dport, 8, 0), 0, V4)
            packet = Packet(V4, 17, 1, 2, sport, dport, 46)
            assert run(program, skb) == CLASSIDS[classify(rules, packet)]


def test_more_than_the_kernel_takes_is_refused_with_the_count() -> None:
    ordered = tuple(Rule((Match(dst=(Prefix(6, number << 64, 128),)),), "a") for number in range(400))
    with pytest.raises(TooLongError, match=r"\d+ instructions, the kernel takes 4096"):
        classifier(Rules(ordered, "rest"), CLASSIDS)
