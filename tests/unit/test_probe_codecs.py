"""Echo and DNS: what goes out is what scapy reads, and only answers of our own count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6EchoRequest

from collectors.probe.codecs import Dns, Echo
from collectors.probe.stamp import BadPacketError


@given(st.integers(0, 1400), st.integers(0, 70_000), st.integers(0, 0xFFFF))
def test_an_echo_request_is_one(size: int, sequence: int, identifier: int) -> None:
    data = Echo(v6=False, size=size, identifier=identifier).pack(sequence, wall=0)
    read = ICMP(data)
    assert (read.type, read.code, read.seq, read.id) == (8, 0, sequence % 65536, identifier)
    assert len(read.payload) == size
    del read.chksum
    assert bytes(read) == data  # with scapy's own checksum
    six = ICMPv6EchoRequest(Echo(v6=True, size=size, identifier=identifier).pack(sequence, wall=0))
    assert (six.type, six.seq, six.id) == (128, sequence % 65536, identifier)


def test_sequence_numbers_go_on_beyond_sixteen_bits() -> None:
    codec = Echo(v6=False, size=8)
    codec.pack(70_000, wall=0)
    reply = bytes((0, 0, 0, 0, 0, 0)) + (69_998 % 65536).to_bytes(2, "big")
    assert codec.unpack(reply).sequence == 69_998


@pytest.mark.parametrize("reply", [b"", b"\0" * 7, bytes((8, 0, 0, 0, 0, 9, 0, 1)), bytes((0, 0, 0, 0, 0, 8, 0, 1))])
def test_what_is_no_answer_of_ours(reply: bytes) -> None:
    with pytest.raises(BadPacketError):
        Echo(v6=False, size=8, identifier=9).unpack(reply)


@given(st.integers(0, 70_000))
def test_a_query_asks_for_the_soa(sequence: int) -> None:
    codec = Dns("example.com")
    data = codec.pack(sequence, wall=0)
    read = DNS(data)
    assert (read.id, read.rd, read.qdcount) == (sequence % 65536, 1, 1)
    assert (read.qd[0].qname, read.qd[0].qtype) == (b"example.com.", 6)
    answer = bytes(DNS(id=read.id, qr=1, rcode=3, qd=read.qd))
    assert codec.unpack(answer).sequence == sequence


@pytest.mark.parametrize("name", ["a..b", "a" * 64, ".".join(["abcdefgh"] * 40)])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|label"):
        Dns(name)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for codec in (Dns(""), Echo(v6=True, size=0), Echo(v6=False, size=0, identifier=1)):
        try:
            codec.unpack(data)
        except BadPacketError as error:
            assert error.reason in ("short", "not-ours")
