"""Code that asks for the addresses of a packet: of the frame, and of the IP header or of what its tables told."""

from __future__ import annotations

from shaper.compile.bpf import HARDWARE_TYPE, Assembler, Label
from shaper.compile.compare import in_ranges, word_in
from shaper.compile.parse import ETHERNET, Words
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Prefix

ADDRESS_OFFSETS = {"src": (12, 8), "dst": (16, 24)}
"""In IPv4's and in IPv6's header."""
MAC_OFFSETS = {"src_mac": 6, "dst_mac": 0}


def mac(asm: Assembler, wanted: tuple[int, ...], offset: int, other: Label) -> None:
    """Goes to `other` unless the address at the offset of the frame is one of those; only Ethernet has any."""
    held = Label()
    asm.load(HARDWARE_TYPE)
    asm.jump("eq", ETHERNET, no=other)
    for address in wanted:
        differs = Label()
        asm.load(offset)
        asm.jump("eq", address >> 16, no=differs)
        asm.load(offset + 4, 2)
        asm.jump("eq", address & 0xFFFF, yes=held)
        asm.place(differs)
    asm.goto(other)
    asm.place(held)


def address(asm: Assembler, prefixes: tuple[Prefix, ...], words: Words, side: str, other: Label) -> None:
    """Goes to `other` unless the address of that side is in one of the networks."""
    if words.addresses is not None:
        word_in(asm, words.told[side, 0], words.addresses.spans(prefixes), other)
        return
    offsets, held = ADDRESS_OFFSETS[side], Label()
    ipv4 = [
        (_network(prefix), _network(prefix) | (1 << 32 - prefix.length) - 1)
        for prefix in prefixes
        if prefix.version == 4
    ]
    ipv6 = sorted({prefix for prefix in prefixes if prefix.version == 6})
    asm.recall_x(words["base"])
    if ipv4:
        otherwise = Label() if ipv6 else other
        asm.recall(words["ethertype"])
        asm.jump("eq", ETHERTYPE_IPV4, no=otherwise)
        asm.load(offsets[0], indexed=True)
        in_ranges(asm, ipv4, other)
        if ipv6:
            asm.goto(held)
            asm.place(otherwise)
    if ipv6:
        asm.recall(words["ethertype"])
        asm.jump("eq", ETHERTYPE_IPV6, no=other)
        for prefix in ipv6:
            _ipv6_network(asm, prefix, offsets[1], held)
        asm.goto(other)
    asm.place(held)


def _network(prefix: Prefix) -> int:
    """Without bits beyond its length."""
    shift = prefix.bits - prefix.length
    return prefix.value >> shift << shift


def _ipv6_network(asm: Assembler, prefix: Prefix, offset: int, held: Label) -> None:
    """Goes to `held` when the address at the offset is in the network, word by word."""
    outside = Label()
    for index in range(-(-prefix.length // 32)):
        bits = min(32, prefix.length - 32 * index)
        mask = 0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF
        asm.load(offset + 4 * index, indexed=True)
        if bits < 32:
            asm.alu("and", mask)
        word = prefix.value >> (prefix.bits - 32 * (index + 1)) & 0xFFFFFFFF
        asm.jump("eq", word & mask, no=outside)
    asm.goto(held)
    asm.place(outside)
