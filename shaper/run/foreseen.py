"""What a plan says beforehand: which SLAs could not hold together, if every class sent what it was promised."""

from __future__ import annotations

from collections.abc import Iterator

from shaper import control
from shaper.compile.program import Program
from shaper.run.setups import setup_of


def foreseen(program: Program) -> Iterator[str]:
    """A note for each, and one of what would be given up."""
    if not program.movable and not any(leaf.sla for leaf in program.interface.leaves()):
        return
    contracts = {leaf.path: leaf.contract for leaf in program.interface.leaves() if leaf.contract is not None}
    short, given_up = control.foreseen(setup_of(program), contracts)
    for one in short:
        yield f"warning: if every class sends what it was promised, {one.words}"
    if given_up:
        yield f"given up then, in this order: {'; '.join(given_up)}"
