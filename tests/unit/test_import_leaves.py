"""A leaf's queue of the kernel as the `aqm` of a class: read, and compiled again, it is the same queue."""

from __future__ import annotations

import pytest
from compile_samples import ETHERNET
from test_compile_leaves import ALL_KERNEL

from shaper.compile import compile_interface
from shaper.policy import parse_policy
from shaper.policy.importers.leaves import aqm_text
from shaper.tree import (
    AckFilter,
    CakeOptions,
    CodelOptions,
    Diffserv,
    FifoOptions,
    FlowMode,
    FqCodelOptions,
    FqPieOptions,
    Options,
    PieOptions,
    Qdisc,
    RawOptions,
    RedOptions,
    SfqOptions,
)

MEMORY = 25_000
"""Of the queue of a class that is compiled below: 100 ms at 1 Mbit/s, twice."""
LEAVES: dict[str, Options] = {
    "pfifo": FifoOptions(77),
    "bfifo": FifoOptions(50_000),
    "fq_codel": FqCodelOptions(900, 7936, 80_000, 1514, 256, MEMORY, False),
    "codel": CodelOptions(900, 7936, 80_000, False),
    "pie": PieOptions(900, 20_000, False, 3, 21),
    "fq_pie": FqPieOptions(900, 256, 20_000, 1514, MEMORY, True, alpha=3, beta=21),
    "sfq": SfqOptions(300, 1514, 10, 1024, 100, 90),
    "cake": CakeOptions(
        0, Diffserv.BESTEFFORT, FlowMode.FLOWS, 50_000, 2_500, True, True, AckFilter.AGGRESSIVE, False, memory=MEMORY
    ),
}


def compiled(aqm: str) -> Qdisc:
    text = (
        "{version: 1, interfaces: {wan: {device: eth1, bandwidth: {egress: 10mbit}, policy: p}}, "
        f"policies: {{p: {{classes: {{a: {{guarantee: 1mbit, limit: 4mbit, aqm: {aqm}, default: true}}}}}}}}}}"
    )
    program = compile_interface(parse_policy(text, source="p.yaml").interfaces[0], ALL_KERNEL, ETHERNET)
    leaf = program.tree.leaf_of(program.handles["a"])
    assert leaf is not None
    return leaf


@pytest.mark.parametrize("kind", LEAVES)
def test_a_leaf_that_was_read_is_compiled_to_itself(kind: str) -> None:
    leaf = compiled(aqm_text(Qdisc(0x10000, 0x20001, kind, LEAVES[kind])))
    assert (leaf.kind, leaf.options) == (kind, LEAVES[kind])


def test_red_keeps_its_thresholds_and_its_probability() -> None:
    before = RedOptions(60_000, 5_000, 15_000, 5, 12, 2**31, True, False)
    leaf = compiled(aqm_text(Qdisc(0x10000, 0x20001, "red", before)))
    assert leaf.options == before._replace(weight=leaf.options.weight, cell=leaf.options.cell)  # type: ignore[union-attr]
    adaptive = aqm_text(Qdisc(0x10000, 0x20001, "red", before._replace(adaptive=True, probability=0)))
    assert "probability" not in adaptive


def test_what_no_class_can_have_has_no_words() -> None:
    assert aqm_text(Qdisc(0x10000, 0x20001, "netem", RawOptions(b"abc"))) == ""
    assert aqm_text(Qdisc(0x10000, 0x20001, "cake", CakeOptions(8_000_000, Diffserv.BESTEFFORT))) == ""
