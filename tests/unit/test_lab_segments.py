"""TCP segments as the receiver reads them: the stamp inside, and the moment of sending that it means."""

from __future__ import annotations

import struct

import pytest
from bpf_machine import Skb, check, run
from hypothesis import given
from hypothesis import strategies as st

from shaper.lab.account import settle
from shaper.lab.receiver import OVERFLOW, segment_key
from shaper.lab.segments import INCOMING_TCP, sent_at, stamp_of
from shaper.tree import Insn

MS = 10**6
NOP, MSS, SACK_OK, STAMP = b"\1", b"\2\4\5\xb4", b"\4\2", b"\x08\x0a" + struct.pack("!II", 123456, 99)


def packet(options: bytes, *, version: int = 4, port: int = 5201) -> bytes:
    """An IP packet with a TCP header; its addresses and numbers do not matter."""
    options += bytes(-len(options) % 4)
    tcp = struct.pack("!HHIIBBHHH", 40000, port, 1, 2, (20 + len(options)) // 4 << 4, 0x10, 512, 0, 0) + options
    return (bytes([0x45]) + bytes(19) if version == 4 else bytes([0x60]) + bytes(39)) + tcp


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("options", [NOP + NOP + STAMP, MSS + SACK_OK + STAMP, STAMP, MSS + NOP + NOP + STAMP + NOP])
def test_the_stamp_is_found_wherever_it_stands(version: int, options: bytes) -> None:
    assert stamp_of(packet(options, version=version)) == (5201, 123456)


@pytest.mark.parametrize("options", [b"", MSS, NOP * 4, b"\0" + STAMP])
def test_without_a_stamp_there_is_none(options: bytes) -> None:
    assert stamp_of(packet(options)) is None


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [1, 6, 17])
@pytest.mark.parametrize("packet_type", [0, 4])
def test_only_tcp_that_comes_in_is_read(version: int, protocol: int, packet_type: int) -> None:
    program = [Insn(*one) for one in INCOMING_TCP]
    check(program)
    data = bytearray(packet(STAMP, version=version))
    data[9 if version == 4 else 6] = protocol
    kept = run(program, Skb(bytes(data), 0, 0x0800 if version == 4 else 0x86DD, packet_type=packet_type))
    assert bool(kept) is (protocol == 6 and packet_type == 0)


@given(options=st.binary(max_size=40), kept=st.integers(40, 80))
def test_any_options_cut_anywhere_are_read_to_an_end(options: bytes, kept: int) -> None:
    found = stamp_of(packet(options)[:kept])
    assert found is None or found[0] == 5201


@given(
    sent=st.integers(0, 2**45),
    delay=st.integers(0, 600 * 10**9),
    offset=st.integers(-(2**60), 2**60),
)
def test_the_moment_of_sending_is_known_to_half_a_millisecond(sent: int, delay: int, offset: int) -> None:
    """`sent` in ns of the stamps' clock, beyond the 49 days after which a stamp comes round."""
    arrived = sent + delay + offset
    found = sent_at(sent // MS % 2**32, arrived=arrived, offset=offset)
    assert abs(found - (sent + offset)) <= MS // 2
    assert found <= arrived


def test_segments_count_for_the_delay_of_their_class_without_what_the_path_takes() -> None:
    log = [segment_key(5201), 0, 30 * MS, segment_key(5201), 0, 50 * MS, segment_key(6000), 0, 9 * MS, OVERFLOW, 0, 0]
    account = settle(
        [1 << 32, 0], [1 << 32, 0, 21 * MS, *log], start=0, seconds=1, classes={1: "a"}, ports={5201: "b"}, path=0.02
    )
    assert account.segments == {"b": pytest.approx([0.01, 0.03])}
    assert (account.delay("b", 1), account.loss("b")) == (pytest.approx(0.03), None)
    assert account.delay("a", 1) == pytest.approx(0.001)


def test_a_class_of_both_has_one_delay_and_the_loss_of_what_is_counted() -> None:
    log = [1 << 32, 0, 10 * MS, segment_key(5301), 0, 40 * MS]
    account = settle([1 << 32, 0, 1 << 32 | 1, 0], log, start=0, seconds=1, classes={1: "a"}, ports={5301: "a"})
    assert (account.delay("a", 0.5), account.delay("a", 1), account.loss("a")) == (0.01, 0.04, 0.5)
