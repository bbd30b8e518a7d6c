"""An interface's link layer, compiled: what the root counts, what is sized by it, what is said, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compile_samples import ETHERNET, MBIT, SMALL_KERNEL, VETH, a_class, an_interface, branch_office
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile import compile_interface
from shaper.compile.link import counted
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.model.link import LINK_LAYERS, LinkLayer
from shaper.plan import diff
from shaper.plan.codec import from_json, to_json
from shaper.plan.describe import describe
from shaper.plan.steps import Verb
from shaper.policy.link import usable
from shaper.report.steps import step_text
from shaper.tree import LinkFacts, SizeTable

PPP = LinkFacts("ppp0", 3, 1492, 0, 1492, True)
layers = st.sampled_from(sorted(LINK_LAYERS)).map(LINK_LAYERS.__getitem__)


def program(layer: LinkLayer | None, link: LinkFacts = ETHERNET) -> Program:
    return compile_interface(replace(branch_office(), link=layer), SMALL_KERNEL, link)


def stab(compiled: Program) -> SizeTable | None:
    root = compiled.tree.root()
    assert root is not None
    return root.stab


def test_the_overhead_is_counted_from_the_ip_packet_whatever_header_the_device_has() -> None:
    for link in (ETHERNET, PPP):
        table = stab(program(LINK_LAYERS["docsis"], link))
        assert table is not None
        assert table.count(1000 + link.header) == 1018
        assert table.count(28 + link.header) == 64


def test_without_a_link_or_with_one_that_adds_nothing_there_is_no_table() -> None:
    assert stab(program(None)) is None
    assert stab(program(LinkLayer("custom", 14))) is None
    assert stab(program(LinkLayer("custom", 0), PPP)) is None
    assert program(None).size_of() is None


@given(layers, st.sampled_from([ETHERNET, VETH, PPP]))
def test_a_queue_and_a_burst_hold_what_they_held_in_packets(layer: LinkLayer, link: LinkFacts) -> None:
    """Frames count for more, so what is sized by a frame grows with it."""
    compiled = program(layer, link)
    table = stab(compiled)
    assert table is not None
    frame = table.count(link.mtu + link.header)
    assert compiled.frame == frame
    for path, bounds in compiled.bounds.items():
        assert bounds.queue[0] >= 3 * frame, path
    assert all(cls.quantum >= min(frame, 1514) for cls in compiled.tree.classes)
    size_of = compiled.size_of()
    assert size_of is not None
    assert size_of(link.mtu + link.header) == frame


@given(layers)
def test_a_device_without_super_packets_has_none_on_any_link(layer: LinkLayer) -> None:
    facts = counted(ETHERNET, stab(program(layer)))
    assert facts.super_packet == facts.mtu + facts.header


def test_a_kernel_that_keeps_no_table_is_refused_with_the_way_out() -> None:
    interface = replace(branch_office(), link=LINK_LAYERS["docsis"])
    with pytest.raises(UnavailableError, match="keeps no size table") as caught:
        compile_interface(interface, replace(SMALL_KERNEL, features=frozenset()), ETHERNET)
    assert "margin" in caught.value.hint
    assert caught.value.where == interface.where


def test_the_plan_says_what_is_used_and_what_a_packet_counts_for() -> None:
    rest = an_interface([a_class("rest", 0, 19 * MBIT, default=True)], 19 * MBIT)
    interface = replace(rest, line_rate=20 * MBIT, margin=0.05, link=LINK_LAYERS["docsis"])
    first, second, *_ = compile_interface(interface, SMALL_KERNEL, ETHERNET).notes
    assert first == "19mbit of 20mbit are used: a margin of 5%"
    assert "18 bytes around each IP packet, at least 64 a packet" in second
    assert "a frame of 64 bytes counts for 68, one of 1514 for 1518" in second


@given(st.integers(8000, 10**12), st.integers(0, 50), layers)
def test_what_is_used_never_exceeds_the_line(rate: int, percent: int, layer: LinkLayer) -> None:
    used = usable(rate, percent / 100, layer)
    assert 0 <= rate * (100 - percent) / 100 * layer.efficiency - used <= 1.001


def test_another_link_is_a_change_that_is_said_and_survives_the_disk() -> None:
    plain, cable = program(None).tree, program(LINK_LAYERS["docsis"]).tree
    plan = diff(plain, cable, bounds={})
    assert {step.verb for step in plan.steps} == {Verb.CHANGE}
    root = next(step for step in plan.steps if step.node == cable.root())
    assert describe(root).endswith("size table - -> overhead 4, least 64")
    assert step_text(root, {}).endswith("size table none -> overhead 4, least 64")
    assert step_text(root.inverse(), {}).endswith("size table overhead 4, least 64 -> none")
    assert from_json(to_json(plan)) == plan
    assert {step.verb for step in diff(cable, plain, bounds={}).steps} == {Verb.CHANGE}
