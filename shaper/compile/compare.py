"""Code that compares a word with what is wanted, and goes to the label `other` where it is something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shaper.compile.bpf import Assembler, Label
from shaper.compile.parse import ABSENT
from shaper.model.match import Masked
from shaper.model.spans import Span, merged

_FEW = 16
"""Ranges that are asked one after the other."""


def present(asm: Assembler, slot: int, other: Label) -> None:
    """Leaves the word in A; goes to `other` where the packet does not have the field."""
    asm.recall(slot)
    asm.jump("eq", ABSENT, yes=other)


def word_in(asm: Assembler, slot: int, spans: Iterable[Span], other: Label) -> None:
    """Goes to `other` unless the scratch word is in one of the ranges."""
    asm.recall(slot)
    in_ranges(asm, spans, other)


def in_ranges(asm: Assembler, spans: Iterable[Span], other: Label) -> None:
    """Goes to `other` unless A is in one of the ranges. A long list is halved until a few are left."""
    wanted, held = merged(spans), Label()
    if len(wanted) <= _FEW:
        _one_by_one(asm, wanted, held, other)
    else:
        _halved(asm, wanted, held, other)
    asm.place(held)


def _halved(asm: Assembler, wanted: Sequence[Span], held: Label, other: Label) -> None:
    """Goes to `held` or to `other`. The few at the end have places near by to jump to: a far one costs each of them."""
    if len(wanted) <= _FEW:
        near, nowhere = Label(), Label()
        _one_by_one(asm, wanted, near, nowhere)
        asm.place(near)
        asm.goto(held)
        asm.place(nowhere)
        asm.goto(other)
        return
    middle, above = len(wanted) // 2, Label()
    asm.jump("ge", wanted[middle][0], yes=above)
    _halved(asm, wanted[:middle], held, other)
    asm.place(above)
    _halved(asm, wanted[middle:], held, other)


def _one_by_one(asm: Assembler, wanted: Sequence[Span], held: Label, other: Label) -> None:
    """Goes to `other`, or to `held`, or falls through, which is the same."""
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


def masked(asm: Assembler, load: Callable[[], None], wanted: Iterable[Masked], other: Label) -> None:
    """Goes to `other` unless what `load` puts into A is one of those."""
    held = Label()
    for value, mask in wanted:
        load()
        asm.alu("and", mask)
        asm.jump("eq", value, yes=held)
    asm.goto(other)
    asm.place(held)


def points(values: Iterable[int]) -> Iterable[Span]:
    """Single values as ranges."""
    return ((value, value) for value in values)
