"""The cheap parser against scapy's view, and what must and must not change a packet's identity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from collectors.audit import Audit
from collectors.frames import dissect, flow_key, is_tcp
from collectors.sample import FlowKey

SNAP = 128
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}

byte = st.integers(0, 255)
port = st.integers(0, 65535)
payload = st.binary(max_size=64)
four = st.integers(0, 2**32 - 1)
six = st.integers(0, 2**128 - 1)


def dotted(address: int) -> str:
    return ".".join(str(part) for part in address.to_bytes(4, "big"))


def colons(address: int) -> str:
    raw = address.to_bytes(16, "big").hex()
    return ":".join(raw[at : at + 4] for at in range(0, 32, 4))


@st.composite
def upper(draw: st.DrawFn) -> tuple[Packet, dict[str, int]]:
    """A layer 4 and the fields of the flow key that it sets; the ports are none that scapy decodes further."""
    sport, dport = draw(st.integers(40000, 50000)), draw(st.integers(40000, 50000))
    kind = draw(st.sampled_from(("udp", "tcp", "icmp", "icmp6", "other")))
    body = Raw(draw(payload))
    if kind == "udp":
        return UDP(sport=sport, dport=dport) / body, {"protocol": 17, "sport": sport, "dport": dport}
    if kind == "tcp":
        options = draw(st.sampled_from(([], [("Timestamp", (1, 2))], [("MSS", 1460), ("WScale", 7)])))
        layer = TCP(sport=sport, dport=dport, seq=draw(four), options=options)
        return layer / body, {"protocol": 6, "sport": sport, "dport": dport}
    if kind == "icmp":
        return ICMP(type=8, id=draw(port), seq=draw(port)) / body, {"protocol": 1, "icmp_type": 8}
    if kind == "icmp6":
        return ICMPv6EchoRequest(id=draw(port), data=draw(payload)), {"protocol": 58, "icmp_type": 128}
    return body, {"protocol": 99}


@st.composite
def packets(draw: st.DrawFn) -> tuple[Packet, FlowKey]:
    """An IP packet and the flow key it has."""
    layer, fields = draw(upper())
    tos = draw(byte)
    if draw(st.booleans()):
        src, dst = draw(four), draw(four)
        header = IP(src=dotted(src), dst=dotted(dst), tos=tos, id=draw(port), proto=fields["protocol"])
        header.flags = draw(st.sampled_from((0, "DF", "MF")))
        seen = {"protocol": fields["protocol"]} if header.flags.MF else fields
        key = FlowKey(ethertype=0x0800, src=src, dst=dst, dscp=tos >> 2, ecn=tos & 3, **seen)
        if draw(st.booleans()):
            header.options = [IPOption_NOP()] * 4
        return header / layer, key
    src, dst = draw(six), draw(six)
    header = IPv6(src=colons(src), dst=colons(dst), tc=tos)
    for extension in draw(
        st.lists(st.sampled_from((IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting)), max_size=2)
    ):
        header /= extension()
    fragment = draw(st.booleans())
    if fragment:
        header /= IPv6ExtHdrFragment(m=draw(st.integers(0, 1)), id=draw(four))
    header.lastlayer().nh = fields["protocol"]
    seen = {"protocol": fields["protocol"]} if fragment else fields
    return header / layer, FlowKey(ethertype=0x86DD, src=src, dst=dst, dscp=tos >> 2, ecn=tos & 3, **seen)


def on_the_wire(packet: Packet, tags: int = 0) -> bytes:
    frame = Ether(**MACS)
    if tags > 1:
        frame /= Dot1AD(vlan=7)
    if tags:
        frame /= Dot1Q(vlan=9)
    return bytes(frame / packet)[:SNAP]


@given(packets(), st.integers(0, 2))
def test_the_flow_is_the_one_that_was_built_and_the_one_that_scapy_sees(
    made: tuple[Packet, FlowKey], tags: int
) -> None:
    packet, key = made
    frame = on_the_wire(packet, tags)
    parts = dissect(frame)
    assert parts is not None
    assert flow_key(parts[1]) == key
    assert is_tcp(parts[1]) == (key.protocol == 6)
    audit = Audit(rate=200, classify=hash)
    audit.check(0, frame, parts[1], hash(key))
    assert audit.take() == (1, 0)


@given(packets(), st.integers(0, 2), st.integers(0, 255))
def test_details_are_the_length_and_the_flags(made: tuple[Packet, FlowKey], tags: int, flags: int) -> None:
    packet, key = made
    if TCP in packet:
        packet[TCP].flags = flags
    frame = on_the_wire(packet, tags)
    parts = dissect(frame, detailed=True)
    assert parts is not None
    silent = IPv6 in packet and len(bytes(packet)) == 40  # what says 0 is taken for too large to say it
    length = 65535 if silent else len(bytes(packet))
    shown = key._replace(length=length, tcp_flags=flags if key.protocol == 6 and key.sport else None)
    assert flow_key(parts[1], detailed=True) == shown
    assert is_tcp(parts[1]) == (key.protocol == 6)
    audit = Audit(rate=200, classify=hash, detailed=True)
    audit.check(0, frame, parts[1], hash(shown))
    assert audit.take() == (1, 0)


@pytest.mark.parametrize(("total", "following", "length"), [(0, 6, 65535), (0, 59, 40), (65530, 99, 65535)])
def test_lengths_that_ipv6_cannot_say(total: int, following: int, length: int) -> None:
    header = bytes.fromhex("60000000") + total.to_bytes(2, "big") + bytes([following, 64]) + bytes(32)
    frame = bytes(12) + b"\x86\xdd" + header + bytes(12) + b"\x50" + bytes(27)
    parts = dissect(frame, detailed=True)
    assert parts is not None
    assert flow_key(parts[1], detailed=True).length == length


@given(packets(), byte, byte, st.integers(0, 2))
def test_what_changes_on_the_way_does_not_change_the_identity(
    made: tuple[Packet, FlowKey], tos: int, ttl: int, tags: int
) -> None:
    packet, _ = made
    before = dissect(on_the_wire(packet))
    changed = packet.copy()
    if IP in changed:
        changed.tos, changed.ttl, changed.chksum = tos, ttl, 0xBEEF
    else:
        changed.tc, changed.hlim = tos, ttl
    fragment = made[1].sport is made[1].icmp_type is None  # whose checksum was final before it was cut
    for layer in (UDP, TCP, ICMP):
        if layer in changed and not fragment:
            changed[layer].chksum = 0xBEEF
    if ICMPv6EchoRequest in changed and not fragment:
        changed[ICMPv6EchoRequest].cksum = 0xBEEF
    after = dissect(on_the_wire(changed, tags)[: SNAP + 4 * tags])
    assert before is not None
    assert after is not None
    short = min(len(before[0]), len(after[0]))  # a tag takes its room from the payload
    assert before[0][:short] == after[0][:short]


def udp(**changes: int) -> bytes:
    body = bytearray(40)
    body[changes.pop("at", 0)] = changes.pop("value", 0)
    header = {"id": 7, "sport": 1000, "dport": 2000} | changes
    ports = {name: header.pop(name) for name in ("sport", "dport")}
    return on_the_wire(IP(src="10.0.0.1", dst="10.0.0.2", **header) / UDP(**ports) / Raw(bytes(body)))


@pytest.mark.parametrize(
    "changes",
    [{"id": 8}, {"sport": 1001}, {"dport": 2001}, {"at": 0, "value": 1}, {"at": 23, "value": 1}, {"proto": 136}],
)
def test_what_makes_it_another_packet_changes_the_identity(changes: dict[str, int]) -> None:
    one, other = dissect(udp()), dissect(udp(**changes))
    assert one is not None
    assert other is not None
    assert one[0] != other[0]


@pytest.mark.parametrize("field", ["seq", "ack"])
def test_segments_of_a_connection_differ(field: str) -> None:
    def segment(number: int) -> bytes:
        return on_the_wire(IP(src="10.0.0.1", dst="10.0.0.2", id=0) / TCP(flags="A", **{field: number}))

    one, other = dissect(segment(1)), dissect(segment(2))
    assert one is not None
    assert other is not None
    assert one[0] != other[0]
    assert one[1] == other[1]


def test_fragments_have_no_ports_and_an_identity_of_their_own() -> None:
    keys, identities = [], set()
    for offset in (0, 100, 185):
        frames = (
            on_the_wire(IP(src="10.0.0.1", dst="10.0.0.2", id=7, flags="MF", frag=offset, proto=17) / Raw(bytes(64))),
            on_the_wire(
                IPv6(src="fd00::1", dst="fd00::2")
                / IPv6ExtHdrFragment(nh=17, offset=offset, m=1, id=9)
                / Raw(bytes(64))
            ),
        )
        for frame in frames:
            parts = dissect(frame)
            assert parts is not None
            identities.add(parts[0])
            keys.append((flow_key(parts[1]).protocol, flow_key(parts[1]).sport))
            audit = Audit(rate=1, classify=lambda _: 0)
            audit.check(0, frame, parts[1], 0)
            assert audit.take() == (1, 0)
    assert len(identities) == 6
    assert keys == [(17, None)] * 6


@given(st.binary(max_size=160))
def test_no_bytes_are_too_strange(frame: bytes) -> None:
    parts = dissect(frame)
    assert parts is None or isinstance(flow_key(parts[1]), FlowKey)


@given(packets(), st.lists(st.tuples(st.integers(0, SNAP), byte), max_size=6), st.integers(0, SNAP))
def test_no_damage_is_too_strange(made: tuple[Packet, FlowKey], damage: list[tuple[int, int]], cut: int) -> None:
    frame = bytearray(on_the_wire(made[0]))
    for at, value in damage:
        if at < len(frame):
            frame[at] = value
    parts = dissect(bytes(frame[:cut]))
    assert parts is None or isinstance(flow_key(parts[1]), FlowKey)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(14),
        on_the_wire(ARP()),
        bytes(Ether(**MACS, type=0x88CC) / Raw(bytes(60))),
        bytes(Ether(**MACS, type=0x0800) / Raw(b"\x45" + bytes(10))),
        bytes(Ether(**MACS, type=0x0800) / Raw(b"\x42" + bytes(40))),
        on_the_wire(IP(len=24) / UDP() / Raw(bytes(40))),
        on_the_wire(IPv6(nh=0) / Raw(bytes((0, 0)) * 40)),
    ],
    ids=["empty", "zeros", "arp", "lldp", "short", "header of 8 B", "length before UDP's end", "endless extensions"],
)
def test_what_is_no_ip_or_malformed_is_said_to_be(frame: bytes) -> None:
    assert dissect(frame) is None
