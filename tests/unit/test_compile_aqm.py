"""The queue that a class asks for, compiled: what is said is what the kernel gets, and the controller leaves it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compile_samples import ETHERNET, FULL_KERNEL, MBIT, SMALL_KERNEL, a_class, an_interface

from shaper.compile import compile_interface
from shaper.errors import UnavailableError
from shaper.kernel.fake import FULL
from shaper.model.aqm import Aqm, AqmKind
from shaper.model.policy import Backend
from shaper.tree import Capabilities, FifoOptions, FqCodelOptions, Qdisc


def queue(aqm: Aqm | None, kernel: Capabilities = FULL_KERNEL) -> tuple[Qdisc, tuple[int, int]]:
    """The leaf of a class, and the bounds of its limit."""
    interface = an_interface(
        [a_class("a", 2 * MBIT, 10 * MBIT, aqm=aqm, delay=0.05), a_class("rest", 0, 20 * MBIT, default=True)]
    )
    program = compile_interface(interface, kernel, ETHERNET)
    leaf = program.tree.leaf_of(program.handles["a"])
    assert leaf is not None
    return leaf, program.bounds["a"].queue


def test_a_fifo_is_one_where_the_kernel_has_fq_codel() -> None:
    leaf, bounds = queue(Aqm(AqmKind.FIFO))
    assert (leaf.kind, leaf.options) == ("bfifo", FifoOptions(12_500))  # 50 ms at 2 Mbit/s
    assert bounds[0] < bounds[1]


@pytest.mark.parametrize("kernel", [FULL_KERNEL, SMALL_KERNEL], ids=["full", "small"])
def test_a_limit_that_was_said_is_not_moved(kernel: Capabilities) -> None:
    assert queue(Aqm(AqmKind.FIFO, size=30_000), kernel) == (
        replace(queue(None, SMALL_KERNEL)[0], kind="bfifo", options=FifoOptions(30_000)),
        (30_000, 30_000),
    )
    leaf, bounds = queue(Aqm(AqmKind.FIFO, packets=50), kernel)
    assert (leaf.kind, leaf.options, bounds) == ("pfifo", FifoOptions(50), (50, 50))


def test_what_is_said_of_fq_codel_comes_before_what_is_worked_out() -> None:
    usual = queue(None)[0].options
    assert isinstance(usual, FqCodelOptions)
    said = Aqm(ecn=False, target=0.008, interval=0.08, packets=500)
    assert queue(said)[0].options == usual._replace(ecn=False, target=7936, interval=80_000, limit=500)
    leaf, bounds = queue(Aqm(size=100_000))
    assert leaf.options == usual._replace(memory=100_000)
    assert bounds == (100_000, 100_000)


def test_without_fq_codel_a_fifo_stands_in_and_is_said() -> None:
    assert queue(Aqm(ecn=True), SMALL_KERNEL)[0].kind == "bfifo"
    interface = an_interface([a_class("a", 0, MBIT, aqm=Aqm(), default=True)], MBIT)
    assert any("lacks fq_codel" in note for note in compile_interface(interface, SMALL_KERNEL, ETHERNET).notes)


@pytest.mark.parametrize(("backend", "more"), [(Backend.CAKE, {"aqm": Aqm()}), (Backend.HFSC, {"priority": 3})])
def test_what_another_backend_has_not_is_refused(backend: Backend, more: dict[str, object]) -> None:
    interface = an_interface([a_class("a", 0, 20 * MBIT, default=True, **more)])
    kernel = replace(FULL_KERNEL, qdiscs=FULL_KERNEL.qdiscs | {"hfsc", "cake"})
    with pytest.raises(UnavailableError, match=f"a: {backend}") as caught:
        compile_interface(replace(interface, backend=backend), kernel, ETHERNET)
    assert caught.value.hint


@pytest.mark.parametrize("backend", [Backend.HTB, Backend.HFSC])
@pytest.mark.parametrize(
    ("aqm", "delay", "wanted"),
    [
        (Aqm(), 0.05, (1_024, 4_992)),
        (Aqm(AqmKind.CODEL), 0.5, (1_024, 50_048)),
        (Aqm(AqmKind.PIE), 0.02, (1_024, 10_000)),
        (Aqm(AqmKind.FQ_PIE), 0.0015, (752, 752)),  # shorter than what a frame takes anyway
        (Aqm(AqmKind.CAKE), 0.05, (1_024, 5_000)),
        (Aqm(), None, (4_992, 4_992)),  # no delay that a shorter one would be for
        (Aqm(target=0.008), 0.05, (7_936, 7_936)),  # as the policy says
        (Aqm(AqmKind.RED), 0.05, (0, 0)),
        (Aqm(AqmKind.SFQ), 0.05, (0, 0)),
        (Aqm(AqmKind.FIFO), 0.05, (0, 0)),
    ],
)
def test_within_what_the_target_may_be_moved(
    aqm: Aqm, delay: float | None, wanted: tuple[int, int], backend: Backend
) -> None:
    leaves = [a_class("a", 2 * MBIT, 10 * MBIT, aqm=aqm, delay=delay), a_class("rest", 0, 20 * MBIT, default=True)]
    program = compile_interface(replace(an_interface(leaves), backend=backend), FULL, ETHERNET)
    assert program.bounds["a"].target == wanted
    assert program.static["a"].target == wanted[1]
    assert program.allocation_in(program.tree) == program.static
    shorter = {**program.static, "a": replace(program.static["a"], target=wanted[0])}
    assert program.allocation_in(program.with_allocation(shorter)) == shorter
