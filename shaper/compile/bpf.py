"""An assembler for classic BPF: labels in, instructions out, with the jumps that are too far put right.

Conditional jumps of classic BPF go forward by at most 255 instructions. One whose target is farther is given a
trampoline: an unconditional jump (32 bit) right behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from shaper.tree import CAME_IN, COLUMN, LOOK_UP, Insn

MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS of the kernel."""

NET = -0x100000
"""SKF_NET_OFF: offsets from here count from the network header, whatever the link layer."""
_ANCILLARY = -0x1000
PROTOCOL = _ANCILLARY + 0
"""SKF_AD_PROTOCOL: the ethertype, as the kernel holds it beside the packet; an accelerated VLAN tag is not in it."""
PACKET_TYPE = _ANCILLARY + 4
"""SKF_AD_PKTTYPE: whether the packet comes or goes."""

HARDWARE_TYPE = _ANCILLARY + 28
"""SKF_AD_HATYPE: what kind of device it leaves by; 1 has Ethernet headers."""
MARK = _ANCILLARY + 20
"""SKF_AD_MARK: the kernel's mark."""
VLAN_TAG, VLAN_TAG_PRESENT = _ANCILLARY + 44, _ANCILLARY + 48
"""The tag that the kernel holds beside the packet, for the device to add."""

_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_WORD, _HALF, _BYTE = 0x00, 0x08, 0x10
_IMM, _ABS, _IND, _MEM = 0x00, 0x20, 0x40, 0x60
_WIDTHS = {4: _WORD, 2: _HALF, 1: _BYTE}
_ALU_OPS = {"add": 0x00, "sub": 0x10, "mul": 0x20, "or": 0x40, "and": 0x50, "lsh": 0x60, "rsh": 0x70, "xor": 0xA0}
_JUMPS = {"eq": 0x10, "gt": 0x20, "ge": 0x30, "set": 0x40}
_SOURCE_X = 0x08
_RETURN_A = 0x10
_TAX, _TXA = _MISC, _MISC | 0x80
_REACH = 255


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """A place in the program, to be jumped to from before it."""


@dataclass(slots=True, eq=False)
class _Jump:
    """A conditional jump; None falls through. `far` are the targets that need a trampoline."""

    code: int
    k: int
    targets: tuple[Label | None, Label | None]
    far: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, slots=True, eq=False)
class _Goto:
    target: Label


@dataclass(frozen=True, slots=True, eq=False)
class _LookUp:
    """Of an address `k` bytes behind X in a table; goes to `missed` where that has no row for it."""

    table: int
    k: int
    missed: Label


class TooLongError(ValueError):
    """The program has more instructions than the kernel takes; `count` is at least how many."""

    def __init__(self, count: int, most: int = MAX_INSTRUCTIONS) -> None:
        super().__init__(f"{count} instructions, the kernel takes {most}")
        self.count = count


class Assembler:
    """Instructions in order. A is the accumulator, X the index register, M[0..15] the scratch words."""

    def __init__(self) -> None:
        self._items: list[Insn | _Jump | _Goto | _LookUp | Label] = []

    def _emit(self, code: int, k: int = 0) -> None:
        self._items.append(Insn(code, 0, 0, k & 0xFFFFFFFF))

    def load(self, offset: int, width: int = 4, *, indexed: bool = False) -> None:
        """A = `width` bytes of the packet at `offset` (plus X). Outside the packet the program ends with 0."""
        self._emit(_LD | _WIDTHS[width] | (_IND if indexed else _ABS), offset)

    def set(self, value: int) -> None:
        """A = value."""
        self._emit(_LD | _IMM, value)

    def recall(self, slot: int) -> None:
        """A = M[slot]."""
        self._emit(_LD | _MEM, slot)

    def recall_x(self, slot: int) -> None:
        """X = M[slot]."""
        self._emit(_LDX | _MEM, slot)

    def store(self, slot: int) -> None:
        """M[slot] = A."""
        self._emit(_ST, slot)

    def to_x(self) -> None:
        """X = A."""
        self._emit(_TAX)

    def from_x(self) -> None:
        """A = X."""
        self._emit(_TXA)

    def move_x(self, count: int) -> None:
        """X = A = X + count."""
        self.set(count)
        self.alu_x("add")
        self.to_x()

    def alu(self, operation: str, value: int) -> None:
        """A = A operation value."""
        self._emit(_ALU | _ALU_OPS[operation], value)

    def alu_x(self, operation: str) -> None:
        """A = A operation X."""
        self._emit(_ALU | _ALU_OPS[operation] | _SOURCE_X)

    def ret(self, value: int) -> None:
        """Ends with the value."""
        self._emit(_RET, value)

    def ret_a(self) -> None:
        """Ends with A."""
        self._emit(_RET | _RETURN_A)

    def jump(self, condition: str, value: int, yes: Label | None = None, no: Label | None = None) -> None:
        """Compares A with the value ("eq", "gt", "ge", "set": any common bit); without a label it falls through."""
        self._items.append(_Jump(_JMP | _JUMPS[condition], value & 0xFFFFFFFF, (yes, no)))

    def jump_x(self, condition: str, yes: Label | None = None, no: Label | None = None) -> None:
        """Compares A with X."""
        self._items.append(_Jump(_JMP | _JUMPS[condition] | _SOURCE_X, 0, (yes, no)))

    def look_up(self, table: int, offset: int, missed: Label) -> None:
        """Finds the row of the address at X + offset, or goes to `missed`, near by. A is lost. Extended BPF only."""
        self._items.append(_LookUp(table, offset, missed))

    def column(self, number: int) -> None:
        """A = the number in a column of the row that was found last."""
        self._emit(COLUMN, number)

    def came_in(self) -> None:
        """A = the number of the device that the packet came in by. Extended BPF only."""
        self._emit(CAME_IN)

    def goto(self, target: Label) -> None:
        """Jumps."""
        self._items.append(_Goto(target))

    def place(self, label: Label) -> None:
        """The label stands for the next instruction."""
        self._items.append(label)

    def assemble(self, most: int = MAX_INSTRUCTIONS) -> tuple[Insn, ...]:
        """The program. Raises TooLongError where it has more than `most` instructions."""
        while True:
            places, length = self._places()
            if length > most:
                raise TooLongError(length, most)
            if not self._lengthen(places):
                break
        program: list[Insn] = []
        for item in self._items:
            if isinstance(item, Insn):
                program.append(item)
            elif isinstance(item, _Goto):
                program.append(_ja(len(program), places[item.target]))
            elif isinstance(item, _Jump):
                program.extend(_conditional(item, len(program), places))
            elif isinstance(item, _LookUp):
                program.append(Insn(LOOK_UP, item.table, places[item.missed] - len(program) - 1, item.k))
        return tuple(program)

    def _places(self) -> tuple[dict[Label, int], int]:
        places: dict[Label, int] = {}
        at = 0
        for item in self._items:
            if isinstance(item, Label):
                places[item] = at
            else:
                at += 1 + (sum(item.far) if isinstance(item, _Jump) else 0)
        return places, at

    def _lengthen(self, places: dict[Label, int]) -> bool:
        """Gives trampolines to jumps that cannot reach; whether there were any (which moves what comes after)."""
        at, grew = 0, False
        for item in self._items:
            if isinstance(item, _Jump):
                size = 1 + sum(item.far)
                far = tuple(
                    was or (label is not None and places[label] - at - 1 > _REACH)
                    for was, label in zip(item.far, item.targets, strict=True)
                )
                grew = grew or far != item.far
                item.far = (far[0], far[1])
                at += size
            elif not isinstance(item, Label):
                at += 1
        return grew


def _ja(at: int, target: int) -> Insn:
    return Insn(_JMP, 0, 0, target - at - 1)


def _conditional(jump: _Jump, at: int, places: dict[Label, int]) -> list[Insn]:
    trampolines: list[Insn] = []
    offsets: list[int] = []
    through = sum(jump.far)
    for label, far in zip(jump.targets, jump.far, strict=True):
        if label is None:
            offsets.append(through)
        elif far:
            offsets.append(len(trampolines))
            trampolines.append(_ja(at + 1 + len(trampolines), places[label]))
        else:
            offsets.append(places[label] - at - 1)
    return [Insn(jump.code, offsets[0], offsets[1], jump.k), *trampolines]
