"""Classic BPF as extended BPF, which may do more with the answer: here, hand it to the program that measures.

As the kernel's own bpf_convert_filter() (net/core/filter.c): A is R0, X is R7, the packet R6, the scratch words lie on
the stack. A load outside the packet ends the program there, as it does in classic BPF.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from collectors.ring import Instruction

A, X, CTX, SPARE, ROW = 0, 7, 6, 8, 9
LOOK_UP, COLUMN, CAME_IN = 0xE0, 0xC0, 0xA0
"""Instructions that no classic program has: finding the row of table `jt` for the address at X + `k`, else on by `jf`;
A = what is in its column `k`; A = the number of the device that the packet came in by."""
_STACK = 10
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_SOURCE_X = 0x08
_TXA = 0x80
_MOVE_K, _MOVE_X = 0xB4, 0xBC  # 32 bit: the upper half of a register is never set
_LOAD_WORD, _STORE_WORD, _STORE_K_WORD, _STORE_K_LONG = 0x61, 0x63, 0x62, 0x7A
_WHOLE_STACK = 512
"""Bytes, the most there is, and all of it is asked for: a kernel that interprets programs (6.12.117) gives the one that
is gone on in the stack of the one it is called from, and what is beyond is the kernel's own."""
_KEY, _KEY_SIZE = -_WHOLE_STACK, 20
"""Where the key of a lookup lies: the bits of the prefix, and 4 or 16 bytes of address."""
_TO_BIG_ENDIAN = 0xDC
_ADD_LONG, _IF_NULL, _IF_BEYOND = 0x07, 0x15, 0x2D
_WIDTHS = {0x00: 4, 0x08: 2, 0x10: 1}
_JUMP32 = 0x06
_GOTO, _GOTO_FAR, _CALL, _EXIT = 0x05, 0x06, 0x85, 0x95
"""The far one is known since Linux 6.6."""
_LOAD_64, _MAP_FD = 0x18, 1
_TAIL_CALL, _MAP_LOOK_UP = 12, 1
_LIKE_CLASSIC = frozenset({0x00, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0xA0})
"""Operations with the same code that cannot fail: no division."""

_ANCILLARY = 0xFFFFF000
_CONTEXT = {0: 16, 4: 4, 8: 40, 20: 8, 24: 12, 32: 68, 44: 24, 48: 20}
"""SKF_AD_* to the offset in struct __sk_buff: protocol, type, device, mark, queue, hash, VLAN tag, whether it has."""
_PROTOCOL, _HARDWARE_TYPE = 0, 28
_ANSWER, _INGRESS, _DATA, _DATA_END = 48, 36, 76, 80
"""cb[0], ingress_ifindex, data and data_end in struct __sk_buff."""
_TYPE, _HEAD = 12, 64
"""Where loads from a packet's start need no call. Of those before, of addresses, a program may have any number, and it
may have no more instructions than a jump can cross."""
UNSPECIFIED = -1
"""TC_ACT_UNSPEC: the next filter on the hook has its turn."""


class Wide(NamedTuple):
    """One instruction of extended BPF (struct bpf_insn)."""

    code: int
    target: int = 0
    source: int = 0
    offset: int = 0
    constant: int = 0

    def packed(self) -> bytes:
        """As the kernel takes it."""
        return struct.pack("=BBhI", self.code, self.source << 4 | self.target, self.offset, self.constant & 0xFFFFFFFF)


class Table(NamedTuple):
    """A map of longest prefixes: its file descriptor, and the bytes of an address in it."""

    fd: int
    size: int


def hand_over(program: Sequence[Instruction], *, programs: int, hardware_type: int) -> list[Wide]:
    """A program that leaves what the classic one answers in cb[0] and goes on in the first of `programs`.

    `programs` is the file descriptor of a map of programs; `hardware_type` is the device's (1 for Ethernet), which
    extended BPF has no way to ask. Raises ValueError for an instruction that no classifier of packets needs.
    """
    return _whole(
        program,
        hardware_type,
        (),
        [
            Wide(_STORE_WORD, CTX, A, _ANSWER),
            Wide(0xBF, 1, CTX),
            Wide(_LOAD_64, 2, _MAP_FD, 0, programs),
            Wide(0),
            Wide(_MOVE_K, 3),
            Wide(_CALL, constant=_TAIL_CALL),
            Wide(_MOVE_K, 0, constant=UNSPECIFIED),
            Wide(_EXIT),
        ],
    )


def answering(program: Sequence[Instruction], *, tables: Sequence[Table], hardware_type: int) -> list[Wide]:
    """A program that answers what the classic one does, which may look addresses up in `tables` and use more words.

    Raises ValueError as `hand_over`.
    """
    return _whole(program, hardware_type, tables, [Wide(_EXIT)])


def _whole(
    program: Sequence[Instruction], hardware_type: int, tables: Sequence[Table], end: Sequence[Wide]
) -> list[Wide]:
    """`end` follows the answer in A; one of a single instruction stands wherever the program ends."""
    made: list[Wide] = [
        Wide(0xBF, CTX, 1),
        Wide(_MOVE_K, A),
        Wide(_MOVE_K, X),
        Wide(_STORE_K_LONG, _STACK, 0, -_WHOLE_STACK),
    ]
    scratch = sorted({k for code, _, _, k in program if _touches_memory(code)})
    if scratch and _place(scratch[-1]) < _KEY + _KEY_SIZE:
        raise ValueError(f"the stack has no room for {len(scratch)} words")
    made += [Wide(_STORE_K_WORD, _STACK, 0, _place(slot)) for slot in scratch]
    starts: list[int] = []
    waiting: list[
        tuple[int, int]
    ] = []  # where a jump is, and the classic instruction that it goes to; the last is the end
    reached = _reached(program)
    for at, (code, yes, no, k) in enumerate(program):
        starts.append(len(made))
        if at not in reached:  # which the kernel suffers in a classic program only
            continue
        match code & 0x07:
            case _ if code == LOOK_UP:
                made += _found(tables[yes], k)
                waiting.append((len(made), at + 1 + no))
                made.append(Wide(_IF_NULL, ROW))
            case 5 if code & 0xF0 == 0x00:
                waiting.append((len(made), at + 1 + k))
                made.append(Wide(_GOTO))
            case 5:
                source = X if code & _SOURCE_X else 0
                waiting.append((len(made), at + 1 + yes))
                made.append(Wide(code & ~0x07 | _JUMP32, A, source, 0, 0 if source else k))
                if no:
                    waiting.append((len(made), at + 1 + no))
                    made.append(Wide(_GOTO))
            case 6:
                if code & 0x18 == 0:
                    made.append(Wide(_MOVE_K, A, constant=k))
                if len(end) == 1:
                    made += end
                else:
                    waiting.append((len(made), len(program)))
                    made.append(Wide(_GOTO))
            case _:
                made += _plain(code, k, hardware_type)
    starts.append(len(made))
    for place, goal in waiting:
        distance = starts[goal] - place - 1
        if distance >= 1 << 15 and made[place].code == _GOTO:
            made[place] = Wide(_GOTO_FAR, constant=distance)
            continue
        if distance >= 1 << 15:
            raise ValueError(f"a jump of {distance} instructions is too far for extended BPF")
        made[place] = made[place]._replace(offset=distance)
    return made if len(end) == 1 else [*made, *end]


def _found(table: Table, offset: int) -> list[Wide]:
    """ROW = where the row of the address at X + offset is, or nothing; A = 0. The load comes first: it may end it all,
    and leaves of the other registers what lasts over calls.
    """
    words = range(table.size // 4)
    read = [
        one
        for word in words
        for one in (
            Wide(_LD | _IND, 0, X, 0, offset + 4 * word),
            Wide(_TO_BIG_ENDIAN, A, constant=32),
            Wide(_STORE_WORD, _STACK, A, _KEY + 4 + 4 * word),
        )
    ]
    return [
        *read,
        Wide(_STORE_K_WORD, _STACK, 0, _KEY, 8 * table.size),
        Wide(_LOAD_64, 1, _MAP_FD, 0, table.fd),
        Wide(0),
        Wide(0xBF, 2, _STACK),
        Wide(_ADD_LONG, 2, 0, 0, _KEY),
        Wide(_CALL, constant=_MAP_LOOK_UP),
        Wide(0xBF, ROW, A),
        Wide(_MOVE_K, A),
    ]


def _reached(program: Sequence[Instruction]) -> set[int]:
    """The instructions that can be reached from the first one; jumps go forward."""
    reached = {0}
    for at, (code, yes, no, k) in enumerate(program):
        if at not in reached or code & 0x07 == _RET:
            continue
        if code == LOOK_UP:
            reached |= {at + 1, at + 1 + no}
        elif code & 0x07 != _JMP:
            reached.add(at + 1)
        elif code & 0xF0 == 0:
            reached.add(at + 1 + k)
        else:
            reached |= {at + 1 + yes, at + 1 + no}
    return reached


def _touches_memory(code: int) -> bool:
    return code & 0x07 in (_ST, _STX) or (code & 0x07 in (_LD, _LDX) and code & 0xE0 == _MEM)


def _place(slot: int) -> int:
    return -4 * (slot + 1)


def _plain(code: int, k: int, hardware_type: int) -> list[Wide]:
    """What is neither a jump nor an end."""
    kind, mode = code & 0x07, code & 0xE0
    if code == COLUMN:
        return [Wide(_LOAD_WORD, A, ROW, 4 * k)]
    if code == CAME_IN:
        return [Wide(_LOAD_WORD, A, CTX, _INGRESS)]
    if kind == _LD and mode == _ABS and k >= _ANCILLARY:
        return _ancillary(k - _ANCILLARY, hardware_type)
    if kind == _LD and mode == _ABS:
        return _at_once(code, k) if _TYPE <= k < _HEAD else [Wide(code, constant=k)]
    if kind == _LD and mode == _IND:
        return [Wide(code, 0, X, 0, k)]
    if kind == _LDX and mode == _MSH:
        load = [Wide(_LD | _ABS | 0x10, constant=k), Wide(0x54, A, constant=0x0F), Wide(0x64, A, constant=2)]
        return [Wide(_MOVE_X, SPARE, A), *load, Wide(_MOVE_X, X, A), Wide(_MOVE_X, A, SPARE)]
    register = X if kind in (_LDX, _STX) else A
    if kind in (_LD, _LDX) and mode == _IMM:
        return [Wide(_MOVE_K, register, constant=k)]
    if kind in (_LD, _LDX) and mode == _MEM:
        return [Wide(_LOAD_WORD, register, _STACK, _place(k))]
    if kind in (_LD, _LDX) and mode == _LEN:
        return [Wide(_LOAD_WORD, register, CTX, 0)]
    if kind in (_ST, _STX):
        return [Wide(_STORE_WORD, _STACK, register, _place(k))]
    if kind == _ALU and code & 0xF0 in _LIKE_CLASSIC:
        return [Wide(code, A, X) if code & _SOURCE_X else Wide(code, A, constant=k)]
    if kind == _MISC:
        return [Wide(_MOVE_X, A, X) if code & _TXA else Wide(_MOVE_X, X, A)]
    raise ValueError(f"no translation of the classic instruction {code:#x} with {k:#x}")


def _at_once(code: int, k: int) -> list[Wide]:
    """A load without a call, where what it wants lies in one piece with the start of the packet."""
    width = _WIDTHS[code & 0x18]
    swapped = [Wide(_TO_BIG_ENDIAN, A, constant=8 * width)] if width > 1 else []
    read = [Wide(_LDX | _MEM | code & 0x18, A, 2, k), *swapped, Wide(_GOTO, offset=1)]
    return [
        Wide(_LOAD_WORD, 2, CTX, _DATA),
        Wide(_LOAD_WORD, 3, CTX, _DATA_END),
        Wide(0xBF, 1, 2),
        Wide(_ADD_LONG, 1, constant=k + width),
        Wide(_IF_BEYOND, 1, 3, len(read)),
        *read,
        Wide(code, constant=k),
    ]


def _ancillary(what: int, hardware_type: int) -> list[Wide]:
    if what == _HARDWARE_TYPE:
        return [Wide(_MOVE_K, A, constant=hardware_type)]
    if what not in _CONTEXT:
        raise ValueError(f"extended BPF has no access to what classic BPF finds at SKF_AD_OFF + {what}")
    loaded = Wide(_LOAD_WORD, A, CTX, _CONTEXT[what])
    return [loaded, Wide(_TO_BIG_ENDIAN, A, constant=16)] if what == _PROTOCOL else [loaded]
