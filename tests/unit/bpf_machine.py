"""A classic-BPF interpreter with the kernel's checks and its rules for loads, for tests of compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shaper.tree import CAME_IN, COLUMN, LOOK_UP, AddressTable, Insn

NET_OFF = 0x100000
AD_OFF = 0x1000
MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Skb:
    """A packet as the kernel holds it: `data` from the link header on, `network` the offset of the network header."""

    data: bytes
    network: int
    protocol: int
    packet_type: int = 4
    mark: int = 0
    tag: int | None = None
    """The VLAN tag that the kernel holds beside the packet."""
    hardware_type: int = 1
    iif: str = ""
    """The device that it came in by, "" for none."""
    came_in: int = 0
    """Its number."""


def check(program: Sequence[Insn]) -> None:
    """What the kernel's checker asks: known opcodes, jumps inside, scratch words stored before they are read."""
    assert 0 < len(program) <= 4096
    assert program[-1].code & 0x07 == 6, "the last instruction must return"
    stored: list[int] = [0xFFFF] * len(program)  # the words that are surely stored when an instruction is reached
    valid = 0
    for at, insn in enumerate(program):
        valid &= stored[at]
        kind = insn.code & 0x07
        if kind in (2, 3):
            assert insn.k < 16
            valid |= 1 << insn.k
        elif kind in (0, 1) and insn.code & 0xE0 == 0x60:
            assert valid >> insn.k & 1, f"M[{insn.k}] is read before it is stored, at {at}"
        elif kind == 5:
            targets = [insn.k] if insn.code == 5 else [insn.jt, insn.jf]
            for offset in targets:
                assert at + 1 + offset < len(program)
                stored[at + 1 + offset] &= valid
            valid = 0xFFFF
        elif kind == 6:
            valid = 0xFFFF
        if kind == 5 and insn.code != 5:
            assert 0 <= insn.jt <= 255 and 0 <= insn.jf <= 255


def run(program: Sequence[Insn], skb: Skb, tables: Sequence[AddressTable] = ()) -> int:
    """The return value, unsigned. Only a program that looks up `tables` has more than 16 words."""
    a = x = 0
    memory = [0] * (120 if tables else 16)
    row: Sequence[int] = ()
    at = 0
    while True:
        insn = program[at]
        at += 1
        kind = insn.code & 0x07
        if insn.code == LOOK_UP:
            address = _address(skb, x + insn.k, tables[insn.jt])
            if address is None:
                return 0
            row = longest(tables[insn.jt], address)
            at += 0 if row else insn.jf
        elif insn.code == COLUMN:
            a = row[insn.k]
        elif insn.code == CAME_IN:
            a = skb.came_in
        elif kind == 0:
            mode = insn.code & 0xE0
            if mode == 0x00:
                a = insn.k
            elif mode == 0x60:
                a = memory[insn.k]
            else:
                indexed = mode == 0x40
                loaded = None if indexed else _beside(skb, insn.k)
                if loaded is None:
                    loaded = _load(skb, insn.k + (x if indexed else 0), insn.code & 0x18)
                if loaded is None:
                    return 0
                a = loaded
        elif kind == 1:
            assert insn.code & 0xE0 == 0x60
            x = memory[insn.k]
        elif kind == 2:
            memory[insn.k] = a
        elif kind == 4:
            a = _alu(insn.code & 0xF0, a, x if insn.code & 0x08 else insn.k)
        elif kind == 5:
            at += _jump(insn, a, x if insn.code & 0x08 else insn.k)
        elif kind == 6:
            return a if insn.code & 0x10 else insn.k
        elif kind == 7:
            assert insn.code in (0x07, 0x87)
            a, x = (a, a) if insn.code == 0x07 else (x, x)
        else:
            raise AssertionError(f"unknown instruction {insn}")


def _beside(skb: Skb, offset: int) -> int | None:
    """What the kernel holds beside the packet; None at an offset that stands for nothing of it."""
    if offset < 2**32 - AD_OFF:
        return None
    return {
        0: skb.protocol,
        4: skb.packet_type,
        20: skb.mark,
        28: skb.hardware_type,
        44: skb.tag or 0,
        48: int(skb.tag is not None),
    }[offset - (2**32 - AD_OFF)]


def _load(skb: Skb, offset: int, size: int) -> int | None:
    width = {0x00: 4, 0x08: 2, 0x10: 1}[size]
    offset &= MASK
    if offset >= 2**32 - NET_OFF:
        offset = offset - (2**32 - NET_OFF) + skb.network
    if offset + width > len(skb.data):
        return None
    return int.from_bytes(skb.data[offset : offset + width], "big")


def _alu(operation: int, a: int, value: int) -> int:
    results = {
        0x00: a + value,
        0x10: a - value,
        0x20: a * value,
        0x40: a | value,
        0x50: a & value,
        0x60: a << (value & 31),
        0x70: a >> (value & 31),
        0xA0: a ^ value,
    }
    return results[operation] & MASK


def _jump(insn: Insn, a: int, value: int) -> int:
    operation = insn.code & 0xF0
    if operation == 0x00:
        return insn.k
    held = {0x10: a == value, 0x20: a > value, 0x30: a >= value, 0x40: bool(a & value)}[operation]
    return insn.jt if held else insn.jf


def _address(skb: Skb, offset: int, table: AddressTable) -> int | None:
    words = [_load(skb, offset + 4 * word, 0) for word in range(1 if table.version == 4 else 4)]
    known = [word for word in words if word is not None]
    return sum(word << 32 * place for place, word in enumerate(reversed(known))) if known == words else None


def longest(table: AddressTable, address: int) -> Sequence[int]:
    """The numbers of the longest prefix of the address, none where there is none."""
    bits = 32 if table.version == 4 else 128
    holding = [row for row in table.rows if row.value >> bits - row.length == address >> bits - row.length]
    return max(holding, key=lambda row: row.length).columns if holding else ()
