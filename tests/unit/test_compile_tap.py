"""The picking: the same before and after the queue, even over traffic, and of outgoing IP packets only."""

from __future__ import annotations

import struct
from dataclasses import replace
from random import Random

import packet_samples
import pytest
from bpf_machine import Skb, check, run
from compile_samples import ETHERNET, MBIT, SMALL_KERNEL, a_class, an_interface
from hypothesis import assume, given
from hypothesis import strategies as st
from packet_samples import V4, V6

from shaper.compile import compile_interface
from shaper.compile.tap import SNAP_LENGTH, arriving_filter, picking, sampling_of, tap_filter, tap_name, unseen
from shaper.errors import Where
from shaper.model.match import Masked, Match, PortRange, Rule, Rules

BEFORE = {sampling: picking(sampling, picked=0xFFFFFFFF) for sampling in (1, 2, 8, 64)}
AFTER = {sampling: tap_filter(sampling) for sampling in BEFORE}
ARRIVING = {sampling: arriving_filter(sampling) for sampling in BEFORE}


@pytest.mark.parametrize("program", [*BEFORE.values(), *AFTER.values(), *ARRIVING.values()])
def test_the_kernel_would_take_it(program) -> None:
    check(program)


@given(st.integers(0, 2**32).map(Random), st.sampled_from(sorted(BEFORE)))
def test_both_points_pick_the_same_packets_though_ttl_marking_and_checksums_change(
    random: Random, sampling: int
) -> None:
    for _ in range(10):
        sample = packet_samples.sample(random)
        later = rewritten(sample.skb)
        assert (run(BEFORE[sampling], sample.skb) != 0) == (run(AFTER[sampling], later) == SNAP_LENGTH)
        assert run(AFTER[sampling], later) in (0, SNAP_LENGTH)
        assert run(AFTER[sampling], replace(later, packet_type=0)) == 0, "what comes in was not queued here"


@given(st.integers(0, 2**32).map(Random), st.sampled_from(sorted(BEFORE)))
def test_what_comes_in_is_picked_before_its_queue_as_after_it(random: Random, sampling: int) -> None:
    for _ in range(10):
        sample = packet_samples.sample(random)
        for packet_type in (0, 1, 2, 3):  # to us, to all, to many, to somebody else
            arrived = replace(sample.skb, packet_type=packet_type)
            assert run(ARRIVING[sampling], arrived) == run(AFTER[sampling], replace(arrived, packet_type=4))
        assert run(ARRIVING[sampling], replace(sample.skb, packet_type=4)) == 0, "what goes out is not queued there"


def rewritten(skb: Skb) -> Skb:
    """As a router or a driver may leave it: another TTL, another DS byte, other checksums."""
    data, start = bytearray(skb.data), skb.network
    if skb.protocol == V4:
        transport = start + (data[start] & 15) * 4
        data[start + 1], data[start + 8] = 0x28, 9
        data[start + 10 : start + 12] = b"\xaa\xaa"
        protocol, fragment = data[start + 9], int.from_bytes(data[start + 6 : start + 8], "big") & 0x1FFF
    elif skb.protocol == V6:
        transport = start + 40
        data[start], data[start + 1] = 0x62, 0x80 | data[start + 1] & 0x0F
        data[start + 7] = 9
        protocol, fragment = data[start + 6], 0
    else:
        return skb
    offset = {6: 16, 17: 6}.get(protocol)
    if offset is not None and not fragment and len(data) >= transport + offset + 2:
        data[transport + offset : transport + offset + 2] = b"\xbb\xbb"
    return replace(skb, data=bytes(data))


def rtp(number: int, version: int) -> Skb:
    """A voice packet: only the sequence number and the time stamp differ from the last; the IP id is 0."""
    body = struct.pack("!HHHH", 5004, 20000, 8 + 172, 0x1234)
    body += struct.pack("!BBHII", 0x80, 8, number & 0xFFFF, 160 * number, 0xFEED) + bytes(160)
    if version == 4:
        header = struct.pack("!BBHHHBBHII", 0x45, 0xB8, 20 + len(body), 0, 0x4000, 64, 17, 0, 0x0A000001, 0x0A000002)
        return Skb(bytes(14) + header + body, 14, V4)
    header = struct.pack("!IHBB", 6 << 28 | 0xB8 << 20, len(body), 17, 64) + (1).to_bytes(16, "big") * 2
    return Skb(bytes(14) + header + body, 14, V6)


def tcp(number: int) -> Skb:
    """A bulk segment: the sequence number and the IP id move on."""
    body = struct.pack("!HHIIBBHHH", 40000, 5201, 1448 * number, 7, 0x80, 0x10, 500, 0x4321, 0) + bytes(12 + 64)
    header = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(body), number & 0xFFFF, 0x4000, 64, 6, 0, 1, 2)
    return Skb(bytes(14) + header + body, 14, V4)


@pytest.mark.parametrize("sampling", [2, 8, 64])
@pytest.mark.parametrize("flow", [lambda n: rtp(n, 4), lambda n: rtp(n, 6), tcp], ids=["rtp4", "rtp6", "tcp"])
def test_one_packet_in_so_many_is_picked_from_every_flow(sampling: int, flow) -> None:
    count = 64 * sampling
    picked = sum(run(AFTER[sampling], flow(number)) != 0 for number in range(count))
    assert picked == pytest.approx(count / sampling, rel=0.5)


def test_without_sampling_every_ip_packet_is_picked_and_nothing_else() -> None:
    for ethertype, picked in ((V4, True), (V6, True), (0x0806, False), (4, False)):
        assert (run(BEFORE[1], Skb(bytes(60), 14, ethertype)) == 0xFFFFFFFF) == picked


@pytest.mark.parametrize(
    ("bandwidth", "sampling"),
    [(64_000, 1), (20_000_000, 1), (240_000_000, 1), (241_000_000, 2), (1_000_000_000, 8), (10_000_000_000, 64)],
)
def test_sampling_keeps_full_frames_under_20000_a_second(bandwidth: int, sampling: int) -> None:
    assert sampling_of(bandwidth) == sampling


def test_a_device_with_a_long_name_gets_an_ifb_of_its_own() -> None:
    assert tap_name("eth1") == "shp-eth1"
    assert tap_name("enp130s0f0np0") != tap_name("enp130s0f0np1")
    assert len(tap_name("enp130s0f0np0")) <= 15


@pytest.mark.parametrize(
    ("match", "said"),
    [
        (Match(dscp=(46,), port=(PortRange(53, 53),)), ()),
        (Match(tcp_flags=(Masked(16, 16),), length=(PortRange(0, 100),)), ()),
        (Match(mark=(Masked(7, 0xFF),), where=Where("office.yaml", 7, 3)), ("`mark` (line 7)",)),
        (Match(none_of=(Match(vlan=(PortRange(1, 1),)), Match(inner=Match(dscp=(46,))))), ("`vlan`", "`inner`")),
    ],
)
def test_conditions_that_a_captured_packet_does_not_show(match: Match, said: tuple[str, ...]) -> None:
    assert unseen(Rules((Rule((match,), "a"),), "rest")) == said


def test_a_class_by_what_nobody_sees_is_not_measured_and_the_plan_says_so() -> None:
    marked = a_class("marked", 0, MBIT, matches=(Match(mark=(Masked(7, 0xFF),), where=Where("office.yaml", 7, 3)),))
    rest = a_class("rest", 0, MBIT, default=True)
    program = compile_interface(an_interface([marked, rest]), SMALL_KERNEL, ETHERNET)
    assert (program.tap, program.tap_filter) == ("", ())
    assert "to which class it belongs: the policy asks for `mark` (line 7)" in program.notes[-1]


@given(st.integers(0, 2**32).map(Random), st.sampled_from(sorted(BEFORE)))
def test_a_tag_in_front_of_the_network_header_changes_no_choice(random: Random, sampling: int) -> None:
    """What is plain goes a shorter way through the program, to the same hash."""
    skb = packet_samples.sample(random).skb
    assume(skb.network >= 14)  # a tag stands behind two addresses
    tagged = replace(skb, data=skb.data[:12] + b"\x81\x00\x00\x07" + skb.data[12:], network=skb.network + 4)
    assert run(BEFORE[sampling], skb) == run(BEFORE[sampling], tagged)
