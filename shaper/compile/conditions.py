"""Code that asks a packet for the conditions of a match, field by field, in the words that `parse` has filled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from shaper.compile.bpf import MARK, Assembler, Label
from shaper.compile.compare import in_ranges, masked, points, present, word_in
from shaper.compile.endpoints import ADDRESS_OFFSETS, MAC_OFFSETS, address, mac
from shaper.compile.parse import ICMPV6_DETAIL, TCP_DETAIL, Words, ipv4_length, ipv6_length
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, Match
from shaper.model.spans import Span


def holds(asm: Assembler, match: Match, words: Words, other: Label) -> None:
    """Goes to `other` unless every condition of the match holds."""
    for name in match.asks:
        _condition(asm, match, name, words, other)


def _condition(asm: Assembler, match: Match, name: str, words: Words, other: Label) -> None:
    """Goes to `other` unless the condition in one field holds."""
    match name:
        case "inner" | "any_of" | "all_of" | "none_of":
            _parts(asm, match, name, words, other)
        case "src" | "dst":
            address(asm, getattr(match, name), words, name, other)
        case "net":
            _either(asm, (partial(address, asm, match.net, words, side) for side in ADDRESS_OFFSETS), other)
        case "port":
            _either(asm, (partial(word_in, asm, words[at], match.port) for at in ("sport", "dport")), other)
        case "src_mac" | "dst_mac":
            mac(asm, getattr(match, name), MAC_OFFSETS[name], other)
        case "mac":
            _either(asm, (partial(mac, asm, match.mac, at) for at in MAC_OFFSETS.values()), other)
        case "tos" | "tcp_flags" | "mark":
            _bits(asm, match, name, words, other)
        case "length":
            _length(asm, match.length, words, other)
        case "vlan" | "pcp" | "ecn":
            _part_of_word(asm, match, name, words, other)
        case "iif":
            _came_in(asm, [number for device in match.iif if (number := words.devices.get(device))], other)
        case _:
            word, spans = _whole_word(match, name)
            word_in(asm, words[word], spans, other)


def _parts(asm: Assembler, match: Match, name: str, words: Words, other: Label) -> None:
    match name:
        case "inner":
            assert words.inner is not None and match.inner is not None
            present(asm, words.inner["ethertype"], other)
            holds(asm, match.inner, words.inner, other)
        case "any_of":
            _either(asm, (partial(holds, asm, part, words) for part in match.any_of), other)
        case "all_of":
            for part in match.all_of:
                holds(asm, part, words, other)
        case _:
            for part in match.none_of:
                unmet = Label()
                holds(asm, part, words, unmet)
                asm.goto(other)
                asm.place(unmet)


def _came_in(asm: Assembler, numbers: Collection[int], other: Label) -> None:
    """Goes to `other` unless the packet came in by one of these devices: those that are there, and whose number is
    known. An older snapshot has 0 for it, which is what the kernel says of a packet that was made here."""
    if not numbers:
        asm.goto(other)
        return
    asm.came_in()
    in_ranges(asm, points(numbers), other)


def _whole_word(match: Match, name: str) -> tuple[str, Iterable[Span]]:
    """The scratch word that a condition asks for, and the ranges that it may be in."""
    asked = getattr(match, name)
    match name:
        case "ethertypes" | "protocols":
            return name[:-1], points(asked)
        case "dscp":
            return "tos", ((value << 2, value << 2 | 3) for value in asked)
        case "icmp":
            return "detail", points(number + (ICMPV6_DETAIL if protocol == ICMPV6 else 0) for protocol, number in asked)
        case "sport" | "dport":
            return name, asked
        case _:
            raise AssertionError(f"no code for {name}")


def _part_of_word(asm: Assembler, match: Match, name: str, words: Words, other: Label) -> None:
    present(asm, words["tos" if name == "ecn" else "tag"], other)
    match name:
        case "vlan":
            asm.alu("and", 0xFFF)
            in_ranges(asm, match.vlan, other)
        case "pcp":
            asm.alu("rsh", 13)
            in_ranges(asm, points(match.pcp), other)
        case _:
            asm.alu("and", 3)
            in_ranges(asm, points(match.ecn), other)


def _length(asm: Assembler, spans: Iterable[Span], words: Words, other: Label) -> None:
    """Read where it is asked: there are not words enough for everything."""
    ipv4, said = Label(), Label()
    asm.recall_x(words["base"])
    asm.recall(words["ethertype"])
    asm.jump("eq", ETHERTYPE_IPV4, yes=ipv4)
    asm.jump("eq", ETHERTYPE_IPV6, no=other)
    ipv6_length(asm)
    asm.goto(said)
    asm.place(ipv4)
    ipv4_length(asm)
    asm.place(said)
    in_ranges(asm, spans, other)


def _bits(asm: Assembler, match: Match, name: str, words: Words, other: Label) -> None:
    match name:
        case "mark":
            masked(asm, partial(asm.load, MARK), match.mark, other)
        case "tos":
            present(asm, words["tos"], other)
            masked(asm, partial(asm.recall, words["tos"]), match.tos, other)
        case _:
            word_in(asm, words["detail"], [(TCP_DETAIL, TCP_DETAIL | 0xFF)], other)
            masked(asm, partial(asm.recall, words["detail"]), match.tcp_flags, other)


def _either(asm: Assembler, ways: Iterable[Callable[[Label], None]], other: Label) -> None:
    """Goes to `other` unless one of the ways holds; each goes to the label that it is given where it does not."""
    held, miss = Label(), Label()
    for way in ways:
        way(miss)
        asm.goto(held)
        asm.place(miss)
        miss = Label()
    asm.goto(other)
    asm.place(held)
