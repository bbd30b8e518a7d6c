"""Whole Ethernet frames with every field that a match can ask for, and what the reference should see in them."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from random import Random

from shaper.model.match import MAX_LENGTH, Packet

V4, V6 = 0x0800, 0x86DD
TAGS = (0x8100, 0x88A8)

# Few values, so that rules and packets meet.
PORTS = (0, 1, 53, 80, 443, 4789, 5060, 16384, 20000, 65535)
DSCPS = (0, 8, 10, 34, 46, 63)
ADDRESSES = {
    4: (0x0A000001, 0x0A000002, 0x0A010203, 0xC0A80101, 0xCB007105),
    6: tuple(0x20010DB8 << 96 | low for low in (1, 2, 1 << 64, 0xFFFF << 32)),
}
MACS = (0x02005E100001, 0x02005E100002, 0x025E00000001)
MARKS = (0, 0, 7, 0x100, 0x1FF, 0xFFFFFFFF)
VLANS = (0, 1, 100, 199, 4094)
FLAGS = (0x02, 0x10, 0x12, 0x18, 0x11, 0x04, 0xC2)
ICMP_TYPES = (0, 3, 8, 11, 128, 129, 135)
_TRANSPORTS = (1, 6, 6, 6, 17, 17, 17, 33, 58, 132, 136, 50, 255)
_TUNNELS = (4, 41, 47, 47, 17)
_PORT_PROTOCOLS = (6, 17, 33, 132, 136)
_VXLAN = 4789


@dataclass(frozen=True)
class Frame:
    """`data` with its Ethernet header and the tags inside; `beside` is the tag that the device is to add."""

    data: bytes
    packet: Packet
    mark: int = 0
    beside: int | None = None
    tags: int = 0


@dataclass(frozen=True)
class _Layer:
    """An IP packet (or what stands in its place) and what is seen of it."""

    ethertype: int
    data: bytes
    packet: Packet


def frame(random: Random, *, tagged: bool = True) -> Frame:
    """A frame, with `tagged` with VLAN tags in it and beside it now and then."""
    layer = _layer(random)
    target, source = random.choice(MACS), random.choice(MACS)
    tags = [_tag(random) for _ in range(random.choice((0, 0, 0, 0, 1, 1, 2, 3)) if tagged else 0)]
    outer = _tag(random)[1] if tagged and random.random() < 0.2 else None
    header = target.to_bytes(6, "big") + source.to_bytes(6, "big")
    header += b"".join(struct.pack("!HH", *tag) for tag in tags) + struct.pack("!H", layer.ethertype)
    first = outer if outer is not None else tags[0][1] if tags else None
    mark = random.choice(MARKS)
    packet = layer.packet
    if len(tags) > 2:  # no further does anybody look
        packet = Packet(tags[2][0])
    packet = packet._replace(
        src_mac=source,
        dst_mac=target,
        mark=mark,
        vlan=None if first is None else first & 0xFFF,
        pcp=None if first is None else first >> 13,
    )
    return Frame(header + layer.data, packet, mark, outer, len(tags))


def _tag(random: Random) -> tuple[int, int]:
    return random.choice(TAGS), random.randrange(8) << 13 | random.choice(VLANS)


def _layer(random: Random) -> _Layer:
    if random.random() < 0.1:
        ethertype = random.choice((0x0806, 0x8847, 0x88CC, 0x88F7))
        return _Layer(ethertype, random.randbytes(46), Packet(ethertype))
    return _ip(random, random.choice((4, 6)), inside=random.random() < 0.3)


def _ip(random: Random, version: int, *, inside: bool = False) -> _Layer:
    """An IP packet, with `inside` one that carries another where nothing cuts it into fragments."""
    protocol = random.choice(_TUNNELS) if inside else random.choice(_TRANSPORTS)
    body, seen = _tunnel(random, protocol) if inside else _transport(random, protocol, version)
    fragment = random.random() < 0.1
    if fragment:
        seen = Packet(0)
    dscp, ecn = random.choice(DSCPS), random.randrange(4)
    source, target = random.choice(ADDRESSES[version]), random.choice(ADDRESSES[version])
    tos = dscp << 2 | ecn
    if version == 4:
        words = random.choice((5, 5, 5, 6, 15))
        header = struct.pack("!BBHHHBB", 0x40 | words, tos, words * 4 + len(body), 7, 0x2000 * fragment, 64, protocol)
        header += struct.pack("!HII", 0, source, target) + bytes(words * 4 - 20)
    else:
        kinds = random.choice(((), (), (0,), (60, 43), (0, 60, 60)))
        chain = [*kinds, *([44] if fragment else []), protocol]
        extensions = b"".join(_extension(random, kind, following) for kind, following in itertools.pairwise(chain))
        header = struct.pack("!IHBB", 6 << 28 | tos << 20, len(extensions) + len(body), chain[0], 64)
        header += source.to_bytes(16, "big") + target.to_bytes(16, "big") + extensions
    packet = seen._replace(
        ethertype=V4 if version == 4 else V6,
        protocol=protocol,
        src=source,
        dst=target,
        dscp=dscp,
        ecn=ecn,
        length=min(len(header) + len(body), MAX_LENGTH),
    )
    return _Layer(packet.ethertype, header + body, packet)


def _extension(random: Random, kind: int, following: int) -> bytes:
    if kind == 44:
        return struct.pack("!BBHI", following, 0, 1, 7)
    size = random.randrange(3)
    return bytes([following, size, 1, (size + 1) * 8 - 4]) + bytes((size + 1) * 8 - 4)  # padding, as an option


def _transport(random: Random, protocol: int, version: int) -> tuple[bytes, Packet]:
    """Bytes, and what they say as a packet without an IP header."""
    load = bytes(random.choice((0, 4, 40, 100)))
    if protocol == 6:
        sport, dport, flags = random.choice(PORTS), random.choice(PORTS), random.choice(FLAGS)
        data = struct.pack("!HHIIBBHHH", sport, dport, 1, 2, 0x50, flags, 0, 0, 0)
        return data + load, Packet(0, sport=sport, dport=dport, tcp_flags=flags)
    if protocol in _PORT_PROTOCOLS:
        sport, dport = random.choice(PORTS), random.choice([port for port in PORTS if port != _VXLAN])
        data = struct.pack("!HHHH", sport, dport, 8 + 8 + len(load), 0) + bytes(8)
        return data + load, Packet(0, sport=sport, dport=dport)
    if protocol in {1, 58}:
        kind = random.choice(ICMP_TYPES)
        return bytes([kind]) + bytes(7) + load, Packet(0, icmp_type=kind)
    return bytes(20) + load, Packet(0)


def _tunnel(random: Random, protocol: int) -> tuple[bytes, Packet]:
    """A tunnel's header with what it carries."""
    if protocol in {4, 41}:
        layer = _ip(random, 4 if protocol == 4 else 6)
        return layer.data, Packet(0, inner=layer.packet)
    layer = random.choice((_ip(random, 4), _ip(random, 6), _Layer(0x0806, bytes(46), Packet(0x0806))))
    if protocol == 47:
        return _gre(random, layer)
    sport, flags = random.choice(PORTS), random.choice((0x08, 0x08, 0x08, 0x00))
    load = bytes([flags]) + bytes(7) + _ethernet(random, layer)
    inner = layer.packet if flags else None
    data = struct.pack("!HHHH", sport, _VXLAN, 8 + len(load), 0) + load
    return data, Packet(0, sport=sport, dport=_VXLAN, inner=inner)


def _gre(random: Random, layer: _Layer) -> tuple[bytes, Packet]:
    options = random.choice((0, 0, 0x8000, 0x2000, 0x1000, 0xB000, 0x3000))
    flags = options | random.choice((0, 0, 0, 0x4000, 1, 0x0100))
    kind, load = layer.ethertype, layer.data
    if random.random() < 0.3:
        kind, load = 0x6558, _ethernet(random, layer)
    data = struct.pack("!HH", flags, kind) + bytes(4 * options.bit_count()) + load
    return data, Packet(0, inner=layer.packet if flags == options else None)


def _ethernet(random: Random, layer: _Layer) -> bytes:
    return random.randbytes(12) + struct.pack("!H", layer.ethertype) + layer.data
