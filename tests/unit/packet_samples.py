"""Frames, what the reference classifier should see in them, and rules that such frames meet; from a seeded random."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from bpf_machine import Skb

from shaper.model.match import Match, Packet, PortRange, Prefix, Rule, Rules

V4, V6 = 0x0800, 0x86DD
WITH_PORTS = (6, 17, 33, 132, 136)
LEAVES = ("a", "b/c", "d", "rest")

# Few values, so that rules and packets meet.
_PORTS = (0, 1, 53, 67, 179, 443, 5060, 16384, 20000, 32767, 65535)
_DSCPS = (0, 1, 8, 10, 34, 46, 47, 63)
_PROTOCOLS = (1, 2, 6, 6, 17, 17, 33, 47, 51, 58, 58, 60, 89, 132, 136, 255)
_V4 = (0, 0x0A000001, 0x0A000002, 0x0AFF0001, 0xC0A80101, 0xCB007105, 0xFFFFFFFF)
_NET6 = 0x20010DB8 << 96
_V6 = (0, 1, _NET6 | 1, _NET6 | 2, _NET6 | 1 << 64, _NET6 | 0xFFFF << 32, (1 << 128) - 1)
_ICMPV6 = (0, 1, 128, 130, 133, 135, 136, 143, 255)
_EXTENSIONS = (0, 43, 60)
_FRAGMENT = 44


@dataclass(frozen=True)
class Sample:
    """A frame and what the reference should see in it. `whole` is the frame's length up to its last parsed byte."""

    skb: Skb
    packet: Packet
    whole: int


def sample(random: Random) -> Sample:
    return random.choice((_ipv4, _ipv4, _ipv6, _ipv6, _other))(random)


def ip_sample(random: Random) -> Sample:
    return random.choice((_ipv4, _ipv6))(random)


def _link(random: Random) -> bytes:
    """Ethernet, Ethernet with a tag inside, or none, as a tunnel has."""
    return bytes(random.choice((0, 14, 18)))


def _transport(random: Random, protocol: int) -> tuple[bytes, int | None, int | None, int | None]:
    """Bytes, ports and ICMPv6 type."""
    if protocol in WITH_PORTS:
        sport, dport = random.choice(_PORTS), random.choice(_PORTS)
        return struct.pack("!HH", sport, dport) + bytes(16), sport, dport, None
    if protocol == 58:
        icmp = random.choice(_ICMPV6)
        return bytes([icmp]) + bytes(7), None, None, icmp
    if protocol == 1:  # its type is read, and must be there
        return random.randbytes(8), None, None, None
    return random.randbytes(random.randrange(24)), None, None, None


def _ipv4(random: Random) -> Sample:
    link, words = _link(random), random.randint(5, 15)
    protocol, dscp = random.choice(_PROTOCOLS), random.choice(_DSCPS)
    source, target = random.choice(_V4), random.choice(_V4)
    offset = random.choice((0, 0, 0, 1, 185, 0x1FFF))
    body, sport, dport, icmp = _transport(random, protocol)
    flags = random.choice((0, 0x4000, 0x2000))
    if offset or flags == 0x2000:
        body, sport, dport, icmp = _fragment(random, body, first=not offset), None, None, None
    tos = dscp << 2 | random.randrange(4)
    header = struct.pack("!BBHHHBB", 0x40 | words, tos, words * 4 + len(body), 7, flags | offset, 64, protocol)
    header += struct.pack("!HII", 0, source, target) + random.randbytes(words * 4 - 20)
    packet = Packet(V4, protocol, source, target, sport, dport, dscp, icmp)
    return Sample(Skb(link + header + body, len(link), V4), packet, _whole(len(link), packet, len(header), 20))


def _ipv6(random: Random) -> Sample:
    link = _link(random)
    protocol = random.choice([number for number in _PROTOCOLS if number not in _EXTENSIONS])
    fragment = random.random() < 0.3
    dscp, source, target = random.choice(_DSCPS), random.choice(_V6), random.choice(_V6)
    kinds = random.choices(_EXTENSIONS, k=random.choice((0, 0, 1, 2, 6, 15)))
    numbers = [*kinds, *([_FRAGMENT] if fragment else []), protocol]
    body, sport, dport, icmp = _transport(random, protocol)
    first, extensions = random.choice((True, False)), b""
    for kind, following in itertools.pairwise(numbers):
        extensions += _extension(random, kind, following, first)
    if fragment:  # with more to come, the last, or the only one
        body, sport, dport, icmp = _fragment(random, body, first=first), None, None, None
        if random.random() < 0.2:  # what comes before the transport may be in the fragments too
            protocol = random.choice(_EXTENSIONS)
            extensions = extensions[:-8] + bytes([protocol]) + extensions[-7:]
    word = 6 << 28 | (dscp << 2 | random.randrange(4)) << 20 | random.randrange(1 << 20)
    header = struct.pack("!IHBB", word, len(extensions + body), numbers[0], 64)
    header += source.to_bytes(16, "big") + target.to_bytes(16, "big") + extensions
    packet = Packet(V6, protocol, source, target, sport, dport, dscp, icmp)
    return Sample(Skb(link + header + body, len(link), V6), packet, _whole(len(link), packet, len(header), 40))


def _extension(random: Random, kind: int, following: int, first: bool) -> bytes:
    if kind == _FRAGMENT:
        offset = 0 if first else random.randint(1, 0x1FFF)
        return struct.pack("!BBHI", following, random.randrange(256), offset << 3 | random.randrange(2), 7)
    size = random.randrange(4)
    return bytes([following, size]) + bytes((size + 1) * 8 - 2)


def _fragment(random: Random, body: bytes, *, first: bool) -> bytes:
    """What a fragment carries: the first the headers, which nobody may look at, the others anything."""
    return body if first else random.randbytes(random.randrange(24))


def _whole(link: int, packet: Packet, headers: int, fixed: int) -> int:
    needed = headers + 4 if packet.sport is not None else headers + 1 if packet.icmp_type is not None else fixed
    return link + needed


def _other(random: Random) -> Sample:
    ethertype = random.choice((0x0806, 0x8035, 0x88CC, 0x8847, 0x0600, 0x05FF, 0x0026, 0x0004))
    data = bytes(14) + random.randbytes(random.randrange(40))
    return Sample(Skb(data, 14, ethertype), Packet(ethertype if ethertype >= 0x600 else 4), len(data))


def rules(random: Random) -> Rules:
    """Up to eight rules of up to three matches each."""
    ordered = (
        Rule(tuple(_match(random) for _ in range(random.randint(1, 3))), random.choice(LEAVES))
        for _ in range(random.randrange(9))
    )
    return Rules(tuple(ordered), "rest")


def rules_about(random: Random, packets: Sequence[Packet]) -> Rules:
    """Up to eight rules, each about one of the packets: it meets most of what they ask, and so meets some of them."""
    ordered = []
    for _ in range(random.randint(1, 8)):
        packet = random.choice(packets)
        matches = tuple(_about(random, packet) for _ in range(random.choice((1, 1, 1, 2))))
        ordered.append(Rule(matches, random.choice(LEAVES)))
    return Rules(tuple(ordered), "rest")


def _about(random: Random, packet: Packet) -> Match:
    """A match of one to four fields in which the packet's own values mostly are, whether it has them or not."""
    asked = set(
        random.sample(("dscp", "protocols", "src", "dst", "sport", "dport", "types", "icmp"), random.randint(1, 4))
    )
    if asked & {"sport", "dport"} and random.random() < 0.8:
        asked.add("protocols")

    def some(field: str, own: object, other: Callable[[], object]) -> tuple[object, ...]:
        if field not in asked:
            return ()
        values = [other() for _ in range(random.choice((0, 0, 1, 2)))]
        if own is not None and random.random() < 0.9:
            values.append(own)
        return tuple(values or [other()])

    version, bits = (4, 32) if packet.ethertype == V4 else (6, 128)

    def around(address: int | None) -> Prefix | None:
        return None if address is None else Prefix(version, address, random.choice((0, 1, 8, bits - 1, bits, bits)))

    def port(own: int | None) -> PortRange | None:
        if own is None:  # a fragment, and whatever has no ports: must not be taken for port 0
            return random.choice((PortRange(0, 0), PortRange(0, 1023), PortRange(0, 65535)))
        return PortRange(max(0, own - random.choice((0, 0, 1, 700))), min(65535, own + random.choice((0, 0, 1, 700))))

    return Match(
        dscp=some("dscp", packet.dscp, lambda: random.choice(_DSCPS)),
        protocols=some("protocols", packet.protocol, lambda: random.choice(_PROTOCOLS)),
        src=some("src", around(packet.src), lambda: _prefix(random)),
        dst=some("dst", around(packet.dst), lambda: _prefix(random)),
        sport=some("sport", port(packet.sport), lambda: _range(random)),
        dport=some("dport", port(packet.dport), lambda: _range(random)),
        ethertypes=some("types", packet.ethertype, lambda: random.choice((4, 0x0806, V4, V6, 0x8847))),
        icmp=some("icmp", (58, packet.icmp_type or 0), lambda: (58, random.choice(_ICMPV6)))
        if packet.protocol == 58 or random.random() < 0.1
        else (),
    )


def _match(random: Random) -> Match:
    density = random.choice((0.15, 0.15, 0.5))

    def some(one: Callable[[], object]) -> tuple[object, ...]:
        return tuple(one() for _ in range(random.randint(1, 3))) if random.random() < density else ()

    return Match(
        dscp=some(lambda: random.choice(_DSCPS)),
        protocols=some(lambda: random.choice(_PROTOCOLS)),
        src=some(lambda: _prefix(random)),
        dst=some(lambda: _prefix(random)),
        sport=some(lambda: _range(random)),
        dport=some(lambda: _range(random)),
        ethertypes=some(lambda: random.choice((4, 0x0806, V4, V6, 0x8847))),
        icmp=some(lambda: (58, random.choice(_ICMPV6))),
    )


def _range(random: Random) -> PortRange:
    return PortRange(*sorted(random.choices(_PORTS, k=2)))


def _prefix(random: Random) -> Prefix:
    if random.random() < 0.5:
        return Prefix(4, random.choice(_V4), random.choice((0, 1, 8, 24, 31, 32)))
    return Prefix(6, random.choice(_V6), random.choice((0, 1, 32, 33, 64, 65, 96, 127, 128)))
