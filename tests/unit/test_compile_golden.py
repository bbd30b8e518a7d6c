"""Whole programs against files: one folder a case, one line a node, the classifier as the kernel gets it.

`UPDATE_GOLDEN=1 pytest tests/unit/test_compile_golden.py` writes them anew; the difference is for review.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from compile_samples import (
    ETHERNET,
    FLOWER_KERNEL,
    FULL_KERNEL,
    MBIT,
    SMALL_KERNEL,
    VETH,
    a_class,
    an_interface,
    branch_office,
)

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.model.link import LINK_LAYERS
from shaper.model.policy import Direction
from shaper.plan.describe import describe
from shaper.plan.steps import Step, Verb
from shaper.tree import BpfFilter

FOLDER = Path(__file__).parent.parent / "golden" / "compile"
JUST_DEFAULT = an_interface([a_class("rest", 0, MBIT, default=True)], MBIT)

DOCSIS = replace(branch_office(), bandwidth=19 * MBIT, line_rate=20 * MBIT, margin=0.05, link=LINK_LAYERS["docsis"])
ADSL = replace(JUST_DEFAULT, link=LINK_LAYERS["adsl-pppoa-vcmux"])

CASES = {
    "cable-with-a-margin": compile_interface(DOCSIS, SMALL_KERNEL, ETHERNET),
    "adsl-cells": compile_interface(ADSL, SMALL_KERNEL, ETHERNET, tap=False),
    "branch-office": compile_interface(branch_office(), SMALL_KERNEL, ETHERNET),
    "branch-office-static": compile_interface(branch_office(), SMALL_KERNEL, ETHERNET, structure=False),
    "flower": compile_interface(branch_office(), FLOWER_KERNEL, ETHERNET),
    "fq-codel": compile_interface(branch_office(), FULL_KERNEL, ETHERNET),
    "super-packets": compile_interface(branch_office(), SMALL_KERNEL, VETH),
    "branch-office-ingress": compile_interface(
        replace(branch_office(), direction=Direction.INGRESS), SMALL_KERNEL, replace(VETH, joined_packet=1514)
    ),
    "tunnel-without-measurement": compile_interface(
        replace(JUST_DEFAULT, device="tun0"), replace(SMALL_KERNEL, actions=frozenset()), replace(ETHERNET, header=0)
    ),
}


def lines(program: Program) -> Iterator[str]:
    names = {number: path for path, number in program.handles.items()}
    for node in program.tree.nodes():
        yield describe(Step(Verb.ADD, None, node), names)
    for path, bounds in program.bounds.items():
        yield f"bounds {path}: rate {bounds.rate}, ceil {bounds.ceil}, queue {bounds.queue}"
    yield from (f"note: {note}" for note in program.notes)
    yield f"sampling: 1 in {program.sampling}"
    for node in program.tree.filters:
        if isinstance(node, BpfFilter):
            yield f"program at preference {node.preference}:"
            yield from (
                f"{at:4}: {insn.code:02x} {insn.jt} {insn.jf} {insn.k:#x}" for at, insn in enumerate(node.program)
            )


@pytest.mark.parametrize("case", sorted(CASES))
def test_compiles_to_what_was_reviewed(case: str) -> None:
    expected = FOLDER / case / "program.txt"
    text = "\n".join(lines(CASES[case])) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.parent.mkdir(parents=True, exist_ok=True)
        expected.write_text(text)
    assert expected.read_text() == text
