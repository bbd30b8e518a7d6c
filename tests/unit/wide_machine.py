"""An interpreter of the extended BPF that classifiers become; it refuses what the kernel would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bpf_machine import MASK, Skb, _alu, _load

from collectors.bpf.translate import UNSPECIFIED, Wide

_WIDTHS = {0x61: 4, 0x69: 2, 0x71: 1}
_CONTEXT = {4: "packet_type", 8: "mark"}
_JUMPS = {0x10: int.__eq__, 0x20: int.__gt__, 0x30: int.__ge__}
_START, _END, _PACKET = 76, 80, 1 << 20
"""Where a program finds what points at the packet's start and at the end of its first piece; that start as a number."""


def run(program: Sequence[Wide], skb: Skb, *, head: int | None = None) -> int | None:
    """What it leaves in cb[0]; None where a load outside the packet ended it before.

    The first `head` bytes of the packet are in one piece, None for all of them.
    """
    whole = skb.data[:head]
    registers = {1: 0, 10: 0}
    stack: dict[int, int] = {}
    answer: int | None = None
    at = 0
    while True:
        code, target, source, offset, constant = program[at]
        constant &= MASK
        at += 1
        match code:
            case 0xBF | 0xBC:
                registers[target] = registers[source]
            case 0xB4:
                registers[target] = constant
            case 0x62 | 0x7A:
                stack[offset] = constant
            case 0x63 if target == 10:
                stack[offset] = registers[source]
            case 0x63:
                assert (target, offset) == (6, 48)
                answer = registers[source]
            case 0x61 if source == 10:
                registers[target] = stack[offset]  # a word that nobody stored is a KeyError
            case 0x61 if source == 6:
                registers[target] = _beside(skb, offset, whole)
            case 0x61 | 0x69 | 0x71:
                registers[target] = _read(whole, registers[source] - _PACKET + offset, _WIDTHS[code])
            case 0xDC:
                registers[target] = _swapped(registers[target], constant)
            case 0x18:
                at += 1
            case 0x85:
                assert -512 in stack  # an interpreting kernel gives the other program no more than we ask for
                return answer  # it goes on
            case 0x95:
                assert registers[0] == UNSPECIFIED & MASK
                return answer
            case 0x05:
                at += offset
            case _ if code & 0x07 == 0:
                loaded = _load(skb, constant + (registers[source] if code & 0xE0 == 0x40 else 0), code & 0x18)
                if loaded is None:
                    return None
                registers[0] = loaded
            case _ if code & 0x07 in (4, 7):
                registers[target] = _alu(code & 0xF0, registers[target], registers[source] if code & 8 else constant)
            case _ if code & 0x07 in (5, 6):
                value = registers[source] if code & 8 else constant
                held: Any = _JUMPS.get(code & 0xF0, int.__and__)
                at += offset if held(registers[target], value) else 0
            case _:
                raise AssertionError(f"unknown instruction {program[at - 1]}")


def _read(whole: bytes, first: int, width: int) -> int:
    """By a pointer into the packet, which the kernel's checker asks to be inside its first piece."""
    assert 0 <= first <= len(whole) - width
    return int.from_bytes(whole[first : first + width], "little")


def _swapped(value: int, bits: int) -> int:
    return int.from_bytes((value & (1 << bits) - 1).to_bytes(bits // 8, "little"), "big")


def _beside(skb: Skb, offset: int, whole: bytes) -> int:
    """A field of struct __sk_buff; the protocol is in network order there."""
    if offset in (_START, _END):
        return _PACKET + (len(whole) if offset == _END else 0)
    if offset == 16:
        return int.from_bytes(skb.protocol.to_bytes(2, "big"), "little")
    if offset in (20, 24):
        return int(skb.tag is not None) if offset == 20 else skb.tag or 0
    return int(getattr(skb, _CONTEXT[offset]))
