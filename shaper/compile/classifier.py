"""The classifier in the kernel: an interface's rules as one classic-BPF program that returns the leaf's classid.

It gives the answer of `model.match.classify` for every packet whose headers are whole. The kernel ends a program
with 0, no match, at a load outside the packet: HTB then takes its default class, so truncated packets go there too,
as do packets whose headers the kernel does not hold in one piece (drivers and the stack put them there).

The ethertype is the one the kernel holds beside the packet: a VLAN tag that the device adds itself is not seen
and what it carries is classified; a tag inside the frame is an ethertype like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shaper.compile.bpf import NET, PROTOCOL, Assembler, Label
from shaper.compile.spans import Span, merged
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_LLC, Match, PortRange, Prefix, Rules
from shaper.tree import Handle, Insn

MAX_EXTENSIONS = 16
"""So many IPv6 extension headers are passed over, as many as by the kernel's own dissector; the protocol of a packet
with more is the next one's number. An authentication header is a protocol, as it is in IPv4, and ends them."""

_PORT_PROTOCOLS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
_ICMPV6 = 58
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _OPTIONS = 0, 43, 44, 60
_FIRST_ETHERTYPE = 0x600

# Scratch words; ABSENT is the value of a field that the packet does not have, and no condition holds it.
_ETHERTYPE, _PROTOCOL, _DSCP, _SPORT, _DPORT, _ICMP = range(6)
_ABSENT = 0xFFFFFFFF

_Ranges = Iterable[Span]


def classifier(rules: Rules, classids: Mapping[str, Handle]) -> tuple[Insn, ...]:
    """The program for the rules, given every leaf's classid by path. Raises bpf.TooLongError."""
    asm = Assembler()
    parsed, malformed = Label(), Label()
    _parse(asm, parsed, malformed)
    asm.place(parsed)
    for rule in rules.ordered:
        other = Label()
        for match in rule.all_of:
            _match(asm, match, other)
        asm.ret(classids[rule.path])
        asm.place(other)
    asm.place(malformed)
    asm.ret(classids[rules.default])
    return asm.assemble()


def _parse(asm: Assembler, parsed: Label, malformed: Label) -> None:
    """Fills the scratch words and goes to `parsed`."""
    asm.set(_ABSENT)
    for slot in (_PROTOCOL, _DSCP, _SPORT, _DPORT, _ICMP):
        asm.store(slot)
    typed, ipv4, ipv6, transport = Label(), Label(), Label(), Label()
    asm.load(PROTOCOL, 2)
    asm.jump("ge", _FIRST_ETHERTYPE, yes=typed)
    asm.set(ETHERTYPE_LLC)
    asm.place(typed)
    asm.store(_ETHERTYPE)
    asm.jump("eq", ETHERTYPE_IPV4, yes=ipv4)
    asm.jump("eq", ETHERTYPE_IPV6, yes=ipv6, no=parsed)
    asm.place(ipv4)
    _parse_ipv4(asm, parsed, malformed)
    asm.goto(transport)
    asm.place(ipv6)
    _parse_ipv6(asm, parsed, transport)
    asm.place(transport)
    _parse_transport(asm, parsed)


def _parse_ipv4(asm: Assembler, parsed: Label, malformed: Label) -> None:
    """Leaves the offset of the transport header in X; fragments have none."""
    asm.load(NET + 1, 1)
    asm.alu("rsh", 2)
    asm.store(_DSCP)
    asm.load(NET + 9, 1)
    asm.store(_PROTOCOL)
    asm.load(NET + 6, 2)
    asm.jump("set", 0x3FFF, yes=parsed)  # more to come, or an offset
    asm.load(NET, 1)
    asm.alu("and", 0x0F)
    asm.jump("ge", 5, no=malformed)
    asm.alu("lsh", 2)
    asm.to_x()


def _parse_ipv6(asm: Assembler, parsed: Label, transport: Label) -> None:
    """Passes over the extension headers and leaves the offset of the transport header in X."""
    asm.load(NET, 2)
    asm.alu("rsh", 6)
    asm.alu("and", 0x3F)
    asm.store(_DSCP)
    asm.set(40)
    asm.to_x()
    asm.load(NET + 6, 1)
    asm.store(_PROTOCOL)
    fragment = Label()
    for _ in range(MAX_EXTENSIONS):
        options = Label()
        for number in (_HOP_BY_HOP, _ROUTING, _OPTIONS):
            asm.jump("eq", number, yes=options)
        asm.jump("eq", _FRAGMENT, yes=fragment, no=transport)
        asm.place(options)  # (length + 1) x 8 bytes
        _next_header(asm)
        asm.load(NET + 1, 1, indexed=True)
        asm.alu("add", 1)
        asm.alu("lsh", 3)
        asm.alu_x("add")
        asm.to_x()
        asm.recall(_PROTOCOL)
    asm.goto(transport)
    asm.place(fragment)
    _next_header(asm)
    asm.goto(parsed)


def _next_header(asm: Assembler) -> None:
    asm.load(NET, 1, indexed=True)
    asm.store(_PROTOCOL)


def _parse_transport(asm: Assembler, parsed: Label) -> None:
    """Ports or the ICMPv6 type, by the protocol, from the header at X."""
    ports, icmp = Label(), Label()
    asm.recall(_PROTOCOL)
    for number in _PORT_PROTOCOLS:
        asm.jump("eq", number, yes=ports)
    asm.jump("eq", _ICMPV6, yes=icmp, no=parsed)
    asm.place(ports)
    asm.load(NET, 2, indexed=True)
    asm.store(_SPORT)
    asm.load(NET + 2, 2, indexed=True)
    asm.store(_DPORT)
    asm.goto(parsed)
    asm.place(icmp)
    asm.load(NET, 1, indexed=True)
    asm.store(_ICMP)


def _match(asm: Assembler, match: Match, other: Label) -> None:
    """Goes to `other` unless every condition of the match holds."""
    _field(asm, _ETHERTYPE, _points(match.ethertypes), other)
    _field(asm, _DSCP, _points(match.dscp), other)
    _field(asm, _PROTOCOL, _points(match.protocols), other)
    if match.icmpv6_types:
        _field(asm, _ETHERTYPE, _points((ETHERTYPE_IPV6,)), other)
        _field(asm, _ICMP, _points(match.icmpv6_types), other)
    _address(asm, match.src, (12, 8), other)
    _address(asm, match.dst, (16, 24), other)
    _field(asm, _SPORT, _spans(match.sport), other)
    _field(asm, _DPORT, _spans(match.dport), other)


def _points(values: Iterable[int]) -> _Ranges:
    return ((value, value) for value in values)


def _spans(ranges: Iterable[PortRange]) -> _Ranges:
    return ((ports.first, ports.last) for ports in ranges)


def _field(asm: Assembler, slot: int, ranges: _Ranges, other: Label) -> None:
    """Goes to `other` unless the scratch word is in one of the ranges; without any, asks nothing."""
    wanted = merged(ranges)
    if not wanted:
        return
    held = Label()
    asm.recall(slot)
    for first, last in wanted[:-1]:
        if first == last:
            asm.jump("eq", first, yes=held)
        else:
            above = Label()
            asm.jump("ge", first, no=other)  # sorted: below this range is below all that follow
            asm.jump("gt", last, yes=above, no=held)
            asm.place(above)
    first, last = wanted[-1]
    if first == last:
        asm.jump("eq", first, no=other)
    else:
        asm.jump("ge", first, no=other)
        asm.jump("gt", last, yes=other)
    asm.place(held)


def _address(asm: Assembler, prefixes: tuple[Prefix, ...], offsets: tuple[int, int], other: Label) -> None:
    """Goes to `other` unless the address, at these offsets in IPv4 and IPv6, is in one of the networks."""
    if not prefixes:
        return
    held = Label()
    for version, ethertype, offset in ((4, ETHERTYPE_IPV4, offsets[0]), (6, ETHERTYPE_IPV6, offsets[1])):
        networks = sorted({prefix for prefix in prefixes if prefix.version == version})
        if not networks:
            continue
        family = Label()
        asm.recall(_ETHERTYPE)
        asm.jump("eq", ethertype, no=family)
        for prefix in networks:
            _network(asm, prefix, offset, held)
        asm.goto(other)
        asm.place(family)
    asm.goto(other)
    asm.place(held)


def _network(asm: Assembler, prefix: Prefix, offset: int, held: Label) -> None:
    """Goes to `held` when the address at the offset is in the network, word by word."""
    outside = Label()
    for index in range(-(-prefix.length // 32)):
        bits = min(32, prefix.length - 32 * index)
        mask = 0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF
        asm.load(NET + offset + 4 * index)
        if bits < 32:
            asm.alu("and", mask)
        word = prefix.value >> (prefix.bits - 32 * (index + 1)) & 0xFFFFFFFF
        asm.jump("eq", word & mask, no=outside)
    asm.goto(held)
    asm.place(outside)
