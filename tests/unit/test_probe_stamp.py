"""STAMP on the wire: the figures of RFC 8762 byte by byte, what is refused, and what tshark reads."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from collectors.probe import stamp
from collectors.probe.stamp import BadPacketError, Reply, Request

KEY = b"sixteen or so bytes"
REQUEST = Request(sequence=0x01020304, stamp=0x1112131415161718, error=0x8A21, session=0xBEEF)
REPLY = Reply(
    sequence=0x31323334,
    stamp=0x4142434445464748,
    error=0x8B22,
    session=0xBEEF,
    received=0x5152535455565758,
    sender_sequence=REQUEST.sequence,
    sender_stamp=REQUEST.stamp,
    sender_error=REQUEST.error,
    sender_ttl=0xFE,
)
uint32, uint64, uint16 = (st.integers(0, 2**bits - 1) for bits in (32, 64, 16))
errors = uint16.filter(lambda bits: bits & 0xFF)
requests = st.builds(Request, uint32, uint64, errors, uint16)
replies = st.builds(Reply, uint32, uint64, errors, uint16, uint64, uint32, uint64, errors, st.integers(0, 255))


def figure(*rows: tuple[int, str], size: int) -> bytes:
    """A packet with bytes (in hexadecimal) at their offsets, and zeroes where nothing is."""
    made = bytearray(size)
    for offset, text in rows:
        data = bytes.fromhex(text)
        made[offset : offset + len(data)] = data
    return bytes(made)


def test_an_unauthenticated_request_is_figure_2() -> None:
    rows = ((0, "01020304"), (4, "1112131415161718"), (12, "8a21"), (14, "beef"))
    assert stamp.pack_request(REQUEST) == figure(*rows, size=44)


def test_an_authenticated_request_is_figure_4() -> None:
    rows = ((0, "01020304"), (16, "1112131415161718"), (24, "8a21"), (26, "beef"))
    head = figure(*rows, size=96)
    digest = hmac.new(KEY, head, hashlib.sha256).digest()[:16]
    assert stamp.pack_request(REQUEST, key=KEY) == head + digest


def test_an_unauthenticated_reply_is_figure_5() -> None:
    rows = ((0, "31323334"), (4, "4142434445464748"), (12, "8b22"), (14, "beef"), (16, "5152535455565758"))
    echoed = ((24, "01020304"), (28, "1112131415161718"), (36, "8a21"), (40, "fe"))
    assert stamp.pack_reply(REPLY, stamp.pack_request(REQUEST)) == figure(*rows, *echoed, size=44)


def test_an_authenticated_reply_is_figure_6() -> None:
    rows = ((0, "31323334"), (16, "4142434445464748"), (24, "8b22"), (26, "beef"), (32, "5152535455565758"))
    echoed = ((48, "01020304"), (64, "1112131415161718"), (72, "8a21"), (80, "fe"))
    head = figure(*rows, *echoed, size=96)
    digest = hmac.new(KEY, head, hashlib.sha256).digest()[:16]
    assert stamp.pack_reply(REPLY, stamp.pack_request(REQUEST, key=KEY), key=KEY) == head + digest


def test_a_longer_request_ends_in_an_extra_padding_tlv_and_twamp_lights_in_zeroes() -> None:
    plain, longer = stamp.pack_request(REQUEST), stamp.pack_request(REQUEST, size=172)
    assert longer == plain + bytes.fromhex("80 01 007c") + bytes(124)
    assert stamp.pack_request(REQUEST, size=172, tlv=False) == plain + bytes(128)
    assert stamp.pack_request(REQUEST, size=46) == plain + bytes(2)  # no room for a TLV's head


@given(request=requests, reply=replies, size=st.integers(0, 400), tail=st.binary(max_size=60), signed=st.booleans())
def test_what_is_packed_is_read_back_and_an_answer_is_as_long_as_its_request(
    request: Request, reply: Reply, size: int, tail: bytes, signed: bool
) -> None:
    key = KEY if signed else b""
    asked = stamp.pack_request(request, size=size, key=key) + tail
    assert stamp.unpack_request(asked, key=key) == request
    answer = stamp.pack_reply(reply, asked, key=key)
    assert len(answer) == len(asked)
    base = stamp.BASE_AUTHENTICATED if signed else stamp.BASE
    assert answer[base:] == asked[base:]  # TLVs and padding as they came (RFC 8972, section 4)
    assert stamp.unpack_reply(answer, key=key) == reply


@given(data=st.binary(max_size=200), signed=st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, signed: bool) -> None:
    for unpack in (stamp.unpack_request, stamp.unpack_reply):
        try:
            unpack(data, key=KEY if signed else b"")
        except BadPacketError as error:
            assert error.reason in ("short", "hmac", "error-estimate")


@given(requests, st.integers(0, 111 * 8 + 7))
def test_a_flipped_bit_anywhere_in_an_authenticated_packet_is_found(request: Request, bit: int) -> None:
    data = bytearray(stamp.pack_request(request, key=KEY))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadPacketError) as caught:
        stamp.unpack_request(bytes(data), key=KEY)
    assert caught.value.reason == "hmac"


@given(replies, st.integers(0, 111))
def test_a_packet_cut_short_is_refused(reply: Reply, length: int) -> None:
    whole = stamp.pack_reply(reply, bytes(112), key=KEY)
    with pytest.raises(BadPacketError) as caught:
        stamp.unpack_reply(whole[:length], key=KEY)
    assert caught.value.reason == "short"
    if length < stamp.SHORTEST_REPLY:
        with pytest.raises(BadPacketError):
            stamp.unpack_reply(whole[:length])


def test_a_twamp_light_sender_of_41_bytes_is_answered_and_a_shorter_one_would_be_amplified() -> None:
    asked = stamp.pack_request(REQUEST)[:14]
    assert stamp.unpack_request(asked).sequence == REQUEST.sequence
    with pytest.raises(BadPacketError):
        stamp.pack_reply(REPLY, asked)
    answer = stamp.pack_reply(REPLY, asked + bytes(27))
    assert len(answer) == 41
    assert stamp.unpack_reply(answer) == REPLY


def test_a_multiplier_of_zero_is_corrupt() -> None:
    data = stamp.pack_request(Request(1, 2, 0x8A00))
    with pytest.raises(BadPacketError) as caught:
        stamp.unpack_request(data)
    assert caught.value.reason == "error-estimate"


@pytest.mark.skipif(shutil.which("tshark") is None, reason="missing capability: tshark")
def test_tshark_reads_the_same(tmp_path: Path) -> None:
    """Debian 12's tshark knows the packets by their older name: TWAMP-Test has the fields in the same places."""
    asked = stamp.pack_request(REQUEST)
    reply = replace(REPLY, stamp=0xE123456780000000, received=0xE123456640000000, sender_stamp=0xE1234565C0000000)
    answer = stamp.pack_reply(reply, asked)
    cable = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    there = cable / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=50000, dport=862) / asked
    back = cable / IP(src="192.0.2.2", dst="192.0.2.1") / UDP(sport=862, dport=50000) / answer
    wrpcap(str(tmp_path / "p.pcap"), [there, back])
    names = ("seq_number", "error_estimate", "sender_seq_number", "sender_error_estimate", "sender_ttl")
    bits = ("error_estimate.s", "error_estimate.z", "error_estimate.scale", "error_estimate.multiplier")
    times = ("timestamp", "receive_timestamp", "sender_timestamp")
    fields = [word for name in (*names, *bits, *times) for word in ("-e", f"twamp.test.{name}")]
    argv = ["tshark", "-r", str(tmp_path / "p.pcap"), "-d", "udp.port==862,twamp.test", "-T", "fields", *fields]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "TZ": "UTC"})
    first, second = ([[*cell.split(",")] for cell in line.split("\t")] for line in done.stdout.splitlines())
    assert [int(cell[0], 0) for cell in first[:2]] == [REQUEST.sequence, REQUEST.error]
    assert [int(cell[0], 0) for cell in first[5:9]] == [1, 0, 0x0A, 0x21]
    expected = [REPLY.sequence, REPLY.error, REPLY.sender_sequence, REPLY.sender_error, REPLY.sender_ttl]
    assert [int(cell[0], 0) for cell in second[:5]] == expected
    assert [[int(one, 0) for one in cell] for cell in second[5:9]] == [[1, 1], [0, 0], [0x0B, 0x0A], [0x22, 0x21]]
    when = [datetime.fromtimestamp((each >> 32) - 2_208_988_800, UTC) for each in (0xE1234567 << 32, 0xE1234566 << 32)]
    shown = [",".join(cell) for cell in second[9:]]
    texts = [f"{at:%b} {at.day:2}, {at:%Y %H:%M:%S}" for at in (*when, when[1] - timedelta(seconds=1))]
    assert shown == [f"{text}.{part}0000000 UTC" for text, part in zip(texts, ("50", "25", "75"), strict=True)]
