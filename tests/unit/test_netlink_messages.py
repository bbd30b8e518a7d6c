"""Netlink bytes: attributes, statistics, refusals and interrupted dumps."""

from __future__ import annotations

import errno
import struct
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.link import heeds_priorities, parse_link
from collectors.netlink import (
    Channel,
    DumpInterruptedError,
    NetlinkError,
    QueueStats,
    attribute,
    attributes,
    pack_tc,
    parse_stats,
    parse_tc,
)

ERROR, DONE, NEWQDISC = 2, 3, 36
MULTI, INTERRUPTED, CAPPED, TLVS = 0x2, 0x10, 0x100, 0x200


class Peer:
    """The kernel's end of a socket: it answers each request with the next of the prepared lists of messages."""

    def __init__(self, *answers: list[tuple[int, int, bytes]]) -> None:
        self._answers = deque(answers)
        self._ready: deque[bytes] = deque()
        self.requests: list[bytes] = []

    def send(self, data: bytes, /) -> int:
        self.requests.append(data)
        (sequence,) = struct.unpack_from("=I", data, 8)
        for kind, flags, body in self._answers.popleft():
            padded = body + bytes(-len(body) % 4)
            self._ready.append(struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + padded)
        return len(data)

    def recv(self, _size: int, /) -> bytes:
        return self._ready.popleft()

    def fileno(self) -> int:
        return -1


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=6))
def test_attributes_come_back(given_: dict[int, bytes]) -> None:
    data = b"".join(attribute(kind, payload) for kind, payload in given_.items())
    assert len(data) % 4 == 0
    assert attributes(data) == given_


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    attributes(data)
    parse_stats(data[:0])
    parse_tc(pack_tc(1) + data)


def test_a_tc_message() -> None:
    message = parse_tc(pack_tc(7, handle=0x5A000010, parent=0x5A000000, info=3) + attribute(1, b"htb\0"))
    assert message == (7, 0x5A000010, 0x5A000000, 3, {1: b"htb\0"})


def test_statistics_take_the_wide_packet_counter_when_the_narrow_one_has_wrapped() -> None:
    basic = attribute(1, struct.pack("=QI", 10**13, 5))
    queue = attribute(3, struct.pack("=IIIII", 4, 6000, 11, 2, 99))
    assert parse_stats(basic + queue) == QueueStats(10**13, 5, 11, 99, 6000, 4)
    wide = attribute(8, struct.pack("=Q", 2**32 + 5))
    assert parse_stats(basic + queue + wide).packets == 2**32 + 5
    assert parse_stats(b"") == QueueStats()


def test_a_refusal_carries_the_kernels_words() -> None:
    original = struct.pack("=IHHII", 36, NEWQDISC, 0x605, 1, 0) + bytes(20)
    said = attribute(1, b"Exclusivity flag on, cannot modify\0")
    whole = (ERROR, TLVS, struct.pack("=i", -errno.EEXIST) + original + said)
    capped = (ERROR, TLVS | CAPPED, struct.pack("=i", -errno.EEXIST) + original[:16] + said)
    for answer in (whole, capped):
        with pytest.raises(NetlinkError) as caught:
            Channel(Peer([answer])).request(NEWQDISC, 0, bytes(20))
        assert caught.value.errno == errno.EEXIST
        assert caught.value.strerror == "Exclusivity flag on, cannot modify"


def test_a_refusal_without_words_says_what_the_number_means() -> None:
    with pytest.raises(NetlinkError, match="Operation not permitted"):
        Channel(Peer([(ERROR, 0, struct.pack("=i", -errno.EPERM) + bytes(16))])).request(NEWQDISC, 0, bytes(20))


def test_an_interrupted_dump_is_begun_anew() -> None:
    done = (DONE, MULTI, struct.pack("=i", 0))
    torn = [(NEWQDISC, MULTI, b"old1"), (NEWQDISC, MULTI | INTERRUPTED, b"new2"), done]
    torn_at_the_end = [(NEWQDISC, MULTI, b"old1"), (DONE, MULTI | INTERRUPTED, struct.pack("=i", 0))]
    whole = [(NEWQDISC, MULTI, b"new1"), (NEWQDISC, MULTI, b"new2"), done]
    peer = Peer(torn, torn_at_the_end, whole)
    assert Channel(peer).dump(38, bytes(20)) == [b"new1", b"new2"]
    assert len(peer.requests) == 3


def test_a_dump_that_never_rests_is_given_up() -> None:
    torn = [(DONE, MULTI | INTERRUPTED, struct.pack("=i", 0))]
    with pytest.raises(DumpInterruptedError):
        Channel(Peer(*[torn] * 50)).dump(38, bytes(20))


def test_a_dump_that_ends_with_an_error() -> None:
    with pytest.raises(NetlinkError) as caught:
        Channel(Peer([(DONE, MULTI, struct.pack("=i", -errno.EMSGSIZE))])).dump(38, bytes(20))
    assert caught.value.errno == errno.EMSGSIZE


def test_the_facts_of_a_link() -> None:
    body = struct.pack("=BxHiII", 0, 1, 4, 0x1043, 0)
    body += attribute(3, b"eth1\0") + attribute(4, struct.pack("=I", 1500)) + attribute(13, struct.pack("=I", 1000))
    body += attribute(40, struct.pack("=I", 1)) + attribute(41, struct.pack("=I", 65536))
    body += attribute(18, attribute(1, b"veth\0")) + attribute(20, b"uplink\0")
    reading = parse_link(body)
    assert (reading.name, reading.ifindex, reading.mtu, reading.queue) == ("eth1", 4, 1500, 1000)
    assert (reading.gso_max_segs, reading.gso_max_size, reading.kind, reading.alias) == (1, 65536, "veth", "uplink")
    assert (reading.up, reading.loopback, reading.header) == (True, False, 14)


@pytest.mark.parametrize(
    ("kind", "hardware", "below", "dcb", "heeded"),
    [
        (b"veth", 1, 7, None, False),
        (b"", 1, 0, errno.EOPNOTSUPP, False),
        (b"", 1, 0, errno.EPERM, True),
        (b"", 1, 0, 0, True),
        (b"", 1, 7, None, True),
        (b"", 65534, 0, None, True),
        (b"vlan", 1, 7, None, True),
        (b"ifb", 1, 0, None, True),
        (b"bond", 1, 0, None, True),
    ],
)
def test_behind_cables_and_wired_ethernet_nobody_heeds_priorities(
    kind: bytes, hardware: int, below: int, dcb: int | None, heeded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.link.ethtool", lambda *_: None)
    body = struct.pack("=BxHiII", 0, hardware, 4, 0x1043, 0) + attribute(3, b"eth1\0")
    body += attribute(5, struct.pack("=I", below)) + attribute(18, attribute(1, kind + b"\0"))
    peer = Peer(*([] if dcb is None else [[(ERROR, 0, struct.pack("=i", -dcb))]]))
    assert heeds_priorities(peer, Channel(peer), parse_link(body)) == heeded
    assert not peer.requests or b"eth1" in peer.requests[0]


def test_a_radio_may_heed_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no settings")

    monkeypatch.setattr("collectors.link.ethtool", refuse)
    body = struct.pack("=BxHiII", 0, 1, 4, 0x1043, 0) + attribute(3, b"wlan0\0")
    peer = Peer()
    assert heeds_priorities(peer, Channel(peer), parse_link(body))


def test_a_tunnel_has_no_header() -> None:
    assert parse_link(struct.pack("=BxHiII", 0, 65534, 9, 0x91, 0)).header == 0
