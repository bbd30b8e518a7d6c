"""From a packet's headers to the scratch words of a classic-BPF program: only what some rule asks for is looked at.

X points at a header, whatever it is counted from: at the start of the network header as the kernel knows it, behind the
tags inside a frame counted from the frame's start, and behind the header of a tunnel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from shaper.compile.bpf import HARDWARE_TYPE, NET, PROTOCOL, VLAN_TAG, VLAN_TAG_PRESENT, Assembler, Label
from shaper.model.match import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_LLC,
    ICMP,
    ICMPV6,
    MAX_LENGTH,
    TCP,
    UDP,
    Match,
)

if TYPE_CHECKING:
    from shaper.compile.addresses import Addresses

ABSENT = 0xFFFFFFFF
"""The value of a field that the packet does not have; no condition holds it."""
ICMPV6_DETAIL, TCP_DETAIL = 0x100, 0x200
"""What is added to an ICMPv6 type and to TCP's flags: they share a word with ICMP's type."""
ETHERNET = 1
"""ARPHRD_ETHER."""
ETHERNET_HEADER = 14
"""Its bytes, without a tag."""
MAX_EXTENSIONS = 16
"""So many IPv6 extension headers are passed over, as many as by the kernel's own dissector; the protocol of a packet
with more is the next one's number. An authentication header is a protocol, as it is in IPv4, and ends them."""

_SCRATCH = 16
_TAGS = (0x8100, 0x88A8, 0x9100)
_TAG_DEPTH = 2
_PORT_PROTOCOLS = (TCP, UDP, 33, 132, 136)  # and DCCP, SCTP, UDP-Lite
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _OPTIONS, _NO_NEXT = 0, 43, 44, 60, 59
_FIRST_ETHERTYPE = 0x600
_NO_OPTIONS = 0x45
"""The first byte of an IPv4 header that has none."""
_FRAGMENTED = 0x3FFF
"""More to come, or an offset."""
_IPIP, _IPV6, _GRE = 4, 41, 47
_GRE_OPTIONS, _GRE_OTHERS = (0x8000, 0x2000, 0x1000), 0x4FFF  # checksum, key, number; routing, version and the rest
_TRANSPARENT_ETHERNET = 0x6558
_VXLAN_PORT, _VXLAN_LEAST = 4789, 8 + 8 + 14

_NEEDS = {
    "dscp": "tos",
    "tos": "tos",
    "ecn": "tos",
    "icmp": "detail",
    "tcp_flags": "detail",
    "vlan": "tag",
    "pcp": "tag",
    "sport": "sport",
    "dport": "dport",
    "port": "sport dport",
}


class Words:
    """Where the fields of one packet are, and those of the packet inside it (`inner`, None where nobody asks).

    With `addresses` what their tables tell is in `told`, by side and column: in words that classic BPF does not have.
    `devices` are the numbers of those by which a packet may have come in, by name.
    """

    def __init__(
        self,
        matches: Iterable[Match],
        scratch: Iterator[int] | None = None,
        *,
        addresses: Addresses | None = None,
        devices: Mapping[str, int] | None = None,
    ) -> None:
        """The words for what the matches ask for: 8 at most, and 7 for a packet inside."""
        scratch = iter(range(_SCRATCH)) if scratch is None else scratch
        every = [part for match in matches for part in _all_parts(match)]
        asked = {need for match in every for name in match.asks for need in _NEEDS.get(name, "").split()}
        names = ["base", "ethertype", "protocol", *sorted(asked)]
        self._slots = {name: next(scratch) for name in names}
        inside = [match.inner for match in every if match.inner is not None]
        self.inner = Words(inside, scratch) if inside else None
        self.addresses = addresses
        self.devices = devices or {}
        sides = addresses.sides.items() if addresses else ()
        columns = ((side, column) for side, columns in sides for column in columns)
        self.told = {asked: slot for slot, asked in enumerate(columns, _SCRATCH)}

    def __getitem__(self, name: str) -> int:
        return self._slots[name]

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def slots(self) -> Iterator[int]:
        """All of them, those of the packet inside too."""
        yield from self._slots.values()
        if self.inner is not None:
            yield from self.inner.slots()


def _all_parts(match: Match) -> Iterator[Match]:
    """The match and all that it is made of, without what is inside a tunnel."""
    yield match
    for part in match.parts():
        yield from _all_parts(part)


def parse(asm: Assembler, words: Words, parsed: Label, malformed: Label, *, quick: bool = False) -> None:
    """Fills the scratch words and goes to `parsed`; to `malformed` where an IPv4 header says it is too short.

    With `quick`, for a device with Ethernet headers, there is a shorter way for most packets.
    """
    asm.set(ABSENT)
    for slot in words.slots():
        asm.store(slot)
    if quick and words.inner is None:
        other = Label()
        _common(asm, words, parsed, other)
        asm.place(other)
    _link(asm, words)
    _network(asm, words, parsed, malformed)


def _common(asm: Assembler, words: Words, parsed: Label, other: Label) -> None:
    """What the rest finds of a packet with ports in IPv4 in Ethernet, with neither a tag nor options and no fragment;
    goes to `other` with any other, before a word is filled.

    The kernel turns loads at offsets from the frame's start into a few instructions, all others into a call each.
    """
    asm.load(HARDWARE_TYPE)
    asm.jump("eq", ETHERNET, no=other)
    if "tag" in words:
        asm.load(VLAN_TAG_PRESENT)
        asm.jump("eq", 0, no=other)
    asm.load(ETHERNET_HEADER - 2, 2)
    asm.jump("eq", ETHERTYPE_IPV4, no=other)
    asm.load(ETHERNET_HEADER, 1)
    asm.jump("eq", _NO_OPTIONS, no=other)
    asm.load(ETHERNET_HEADER + 6, 2)
    asm.jump("set", _FRAGMENTED, yes=other)
    ports = Label()
    asm.load(ETHERNET_HEADER + 9, 1)
    for number in _PORT_PROTOCOLS:
        asm.jump("eq", number, yes=ports)
    asm.goto(other)
    asm.place(ports)
    asm.store(words["protocol"])
    if "tos" in words:
        asm.load(ETHERNET_HEADER + 1, 1)
        asm.store(words["tos"])
    asm.set(ETHERTYPE_IPV4)
    asm.store(words["ethertype"])
    asm.set(ETHERNET_HEADER)
    asm.store(words["base"])
    _ports(asm, words, parsed, parsed, at=ETHERNET_HEADER + 20)


def _link(asm: Assembler, words: Words) -> None:
    """Leaves the ethertype in A and the start of the network header in X. A tag beside the packet is the outermost."""
    typed, foreign = Label(), Label()
    if "tag" in words:
        untagged = Label()
        asm.load(VLAN_TAG_PRESENT)
        asm.jump("eq", 0, yes=untagged)
        asm.load(VLAN_TAG)
        asm.store(words["tag"])
        asm.place(untagged)
    asm.set(NET)
    asm.to_x()
    asm.load(PROTOCOL, 2)
    for depth in range(_TAG_DEPTH):
        tagged, seen = Label(), Label()
        for ethertype in _TAGS[:-1]:
            asm.jump("eq", ethertype, yes=tagged)
        asm.jump("eq", _TAGS[-1], no=typed)
        asm.place(tagged)
        if not depth:
            asm.load(HARDWARE_TYPE)
            asm.jump("eq", ETHERNET, no=foreign)
        if "tag" in words:
            asm.recall(words["tag"])
            asm.jump("eq", ABSENT, no=seen)
            asm.load(14 + 4 * depth, 2)
            asm.store(words["tag"])
            asm.place(seen)
        asm.set(18 + 4 * depth)
        asm.to_x()
        asm.load(16 + 4 * depth, 2)
    asm.goto(typed)
    asm.place(foreign)
    asm.load(PROTOCOL, 2)
    asm.place(typed)
    _known_type(asm)


def _known_type(asm: Assembler) -> None:
    """A length in A becomes what stands for one."""
    known = Label()
    asm.jump("ge", _FIRST_ETHERTYPE, yes=known)
    asm.set(ETHERTYPE_LLC)
    asm.place(known)


def _network(asm: Assembler, words: Words, parsed: Label, malformed: Label) -> None:
    """From the ethertype in A and the start of the header in X."""
    ipv4, ipv6, transport = Label(), Label(), Label()
    asm.store(words["ethertype"])
    asm.from_x()
    asm.store(words["base"])
    asm.recall(words["ethertype"])
    asm.jump("eq", ETHERTYPE_IPV4, yes=ipv4)
    asm.jump("eq", ETHERTYPE_IPV6, yes=ipv6, no=parsed)
    asm.place(ipv4)
    _ipv4(asm, words, parsed, malformed)
    asm.goto(transport)
    asm.place(ipv6)
    _ipv6(asm, words, parsed, transport)
    asm.place(transport)
    _transport(asm, words, parsed)


def _ipv4(asm: Assembler, words: Words, parsed: Label, malformed: Label) -> None:
    """Leaves the transport header in X; fragments have none."""
    if "tos" in words:
        asm.load(1, 1, indexed=True)
        asm.store(words["tos"])
    asm.load(9, 1, indexed=True)
    asm.store(words["protocol"])
    asm.load(6, 2, indexed=True)
    asm.jump("set", _FRAGMENTED, yes=parsed)
    asm.load(0, 1, indexed=True)
    asm.alu("and", 0x0F)
    asm.jump("ge", 5, no=malformed)
    asm.alu("lsh", 2)
    asm.alu_x("add")
    asm.to_x()


def _ipv6(asm: Assembler, words: Words, parsed: Label, transport: Label) -> None:
    """Passes over the extension headers and leaves the transport header in X."""
    if "tos" in words:
        asm.load(0, 2, indexed=True)
        asm.alu("rsh", 4)
        asm.alu("and", 0xFF)
        asm.store(words["tos"])
    asm.load(6, 1, indexed=True)
    asm.store(words["protocol"])
    asm.move_x(40)
    asm.recall(words["protocol"])
    fragment = Label()
    for _ in range(MAX_EXTENSIONS):
        options = Label()
        for number in (_HOP_BY_HOP, _ROUTING, _OPTIONS):
            asm.jump("eq", number, yes=options)
        asm.jump("eq", _FRAGMENT, yes=fragment, no=transport)
        asm.place(options)  # (length + 1) x 8 bytes
        asm.load(0, 1, indexed=True)
        asm.store(words["protocol"])
        asm.load(1, 1, indexed=True)
        asm.alu("add", 1)
        asm.alu("lsh", 3)
        asm.alu_x("add")
        asm.to_x()
        asm.recall(words["protocol"])
    asm.goto(transport)
    asm.place(fragment)
    asm.load(0, 1, indexed=True)
    asm.store(words["protocol"])
    asm.goto(parsed)


def ipv4_length(asm: Assembler) -> None:
    """A = the length of the packet whose header is at X; one too large to say it says 0."""
    said = Label()
    asm.load(2, 2, indexed=True)
    asm.jump("eq", 0, no=said)
    asm.set(MAX_LENGTH)
    asm.place(said)


def ipv6_length(asm: Assembler) -> None:
    """A = the length of the packet whose header is at X, its 40 bytes and what it says follow.

    A packet too large to say it says 0; one of nothing but its header says so in the next header.
    """
    silent, large, said = Label(), Label(), Label()
    asm.load(4, 2, indexed=True)
    asm.jump("eq", 0, yes=silent)
    asm.alu("add", 40)
    asm.jump("gt", MAX_LENGTH, yes=large, no=said)
    asm.place(silent)
    asm.load(6, 1, indexed=True)
    asm.jump("eq", _NO_NEXT, no=large)
    asm.set(40)
    asm.goto(said)
    asm.place(large)
    asm.set(MAX_LENGTH)
    asm.place(said)


def _transport(asm: Assembler, words: Words, parsed: Label) -> None:
    """What the header at X says, by its protocol."""
    ports, icmp, icmpv6, ipip, ipv6, gre, vxlan = (Label() for _ in range(7))
    asm.recall(words["protocol"])
    for number in _PORT_PROTOCOLS:
        asm.jump("eq", number, yes=ports)
    if "detail" in words:
        asm.jump("eq", ICMP, yes=icmp)
        asm.jump("eq", ICMPV6, yes=icmpv6)
    if words.inner is not None:
        asm.jump("eq", _IPIP, yes=ipip)
        asm.jump("eq", _IPV6, yes=ipv6)
        asm.jump("eq", _GRE, yes=gre)
    asm.goto(parsed)
    asm.place(ports)
    _ports(asm, words, parsed, vxlan)
    if "detail" in words:
        asm.place(icmp)
        _icmp(asm, words, ETHERTYPE_IPV4, 0, parsed)
        asm.place(icmpv6)
        _icmp(asm, words, ETHERTYPE_IPV6, ICMPV6_DETAIL, parsed)
    if words.inner is not None:
        _tunnels(asm, words.inner, parsed, ipip, ipv6, gre, vxlan)


def _ports(asm: Assembler, words: Words, parsed: Label, vxlan: Label, *, at: int | None = None) -> None:
    """Of the header at X, or `at` so many bytes of the frame."""
    start, indexed = at or 0, at is None
    for offset, name in ((0, "sport"), (2, "dport")):
        if name in words:
            asm.load(start + offset, 2, indexed=indexed)
            asm.store(words[name])
    asm.recall(words["protocol"])
    if "detail" in words:
        no_tcp = Label()
        asm.jump("eq", TCP, no=no_tcp)
        asm.load(start + 13, 1, indexed=indexed)
        asm.alu("add", TCP_DETAIL)
        asm.store(words["detail"])
        asm.goto(parsed)
        asm.place(no_tcp)
    if words.inner is not None:
        asm.jump("eq", UDP, no=parsed)
        asm.load(2, 2, indexed=True)
        asm.jump("eq", _VXLAN_PORT, yes=vxlan)
    asm.goto(parsed)


def _icmp(asm: Assembler, words: Words, ethertype: int, added: int, parsed: Label) -> None:
    """The type, in the IP version that the protocol belongs to."""
    asm.recall(words["ethertype"])
    asm.jump("eq", ethertype, no=parsed)
    asm.load(0, 1, indexed=True)
    asm.alu("add", added)
    asm.store(words["detail"])
    asm.goto(parsed)


def _tunnels(asm: Assembler, inner: Words, parsed: Label, ipip: Label, ipv6: Label, gre: Label, vxlan: Label) -> None:
    """From a tunnel's header at X to the packet inside; one that is malformed has no transport header."""
    network, ethernet = Label(), Label()
    asm.place(ipip)
    asm.set(ETHERTYPE_IPV4)
    asm.goto(network)
    asm.place(ipv6)
    asm.set(ETHERTYPE_IPV6)
    asm.goto(network)
    asm.place(gre)
    flags = inner["base"]  # its own value comes later
    asm.load(0, 2, indexed=True)
    asm.jump("set", _GRE_OTHERS, yes=parsed)
    asm.store(flags)
    asm.load(2, 2, indexed=True)
    asm.store(inner["ethertype"])
    asm.move_x(4)
    for option in _GRE_OPTIONS:
        without = Label()
        asm.recall(flags)
        asm.jump("set", option, no=without)
        asm.move_x(4)
        asm.place(without)
    asm.recall(inner["ethertype"])
    asm.jump("eq", _TRANSPARENT_ETHERNET, yes=ethernet, no=network)
    asm.place(vxlan)
    asm.load(4, 2, indexed=True)
    asm.jump("ge", _VXLAN_LEAST, no=parsed)
    asm.load(8, 1, indexed=True)
    asm.jump("set", 0x08, no=parsed)  # the bit that says there is a network identifier
    asm.move_x(16)
    asm.place(ethernet)
    asm.load(12, 2, indexed=True)
    _known_type(asm)
    asm.store(inner["ethertype"])
    asm.move_x(14)
    asm.recall(inner["ethertype"])
    asm.place(network)
    _network(asm, inner, parsed, parsed)
