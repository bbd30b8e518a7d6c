"""The HFSC backend: curves from delays, the admission of their sum, what is shared and what is said."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from compile_samples import ETHERNET, FULL_KERNEL, MBIT, VETH, a_class, an_interface, branch_office
from hypothesis import given
from hypothesis import strategies as st

from shaper import control
from shaper.compile import compile_interface
from shaper.compile.hfsc import TIER_WEIGHT, fits, served
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.model.decision import Grant
from shaper.model.policy import Backend, Interface, Tier, TrafficClass
from shaper.tree import BpfFilter, Capabilities, Curve, HfscClass, HfscOptions, straight

KERNEL = replace(FULL_KERNEL, qdiscs=FULL_KERNEL.qdiscs | {"hfsc"})
FRAME = ETHERNET.mtu + ETHERNET.header


def compiled(interface: Interface, **given: object) -> Program:
    return compile_interface(replace(interface, backend=Backend.HFSC), KERNEL, ETHERNET, **given)  # type: ignore[arg-type]


def by_path(program: Program) -> dict[str, HfscClass]:
    held = {cls.handle: cls for cls in program.tree.classes if isinstance(cls, HfscClass)}
    return {path: held[number] for path, number in program.handles.items()}


def office(*classes: TrafficClass, bandwidth: int = 20 * MBIT) -> Interface:
    return an_interface([*classes, a_class("rest", 0, bandwidth, default=True)], bandwidth)


def test_a_frame_leaves_within_the_delay_and_then_the_rate_holds() -> None:
    slow = a_class("meter", 128_000, MBIT, delay=0.01)
    fast = a_class("video", 3 * MBIT, 20 * MBIT, delay=0.05)
    none = a_class("bulk", 4 * MBIT, 10 * MBIT)
    found = by_path(compiled(office(slow, fast, none)))
    assert found["meter"].rt == Curve(1_211_200, 10_000, 128_000)  # 1514 B in 10 ms
    assert found["video"].rt == straight(3 * MBIT)  # quicker than its delay by rate alone
    assert found["bulk"].rt == straight(4 * MBIT)
    assert [found[path].ul for path in ("meter", "video", "bulk")] == [straight(n * MBIT) for n in (1, 20, 10)]


@given(st.floats(0.0005, 2.0), st.integers(8_000, 10 * MBIT))
def test_any_curve_serves_a_frame_within_its_delay(delay: float, rate: int) -> None:
    program = compiled(office(a_class("one", rate, 990 * MBIT, delay=delay), bandwidth=1000 * MBIT))
    curve = by_path(program)["one"].rt
    assert curve is not None
    assert curve.m1 == 0 or curve.m1 > curve.m2
    if curve.m1:
        assert curve.m1 * Fraction(delay) >= FRAME * 8 - curve.m1 * Fraction(1, 10**9)
    else:
        assert curve.m2 * delay >= FRAME * 8 - 8
    assert curve.m2 == rate // 8 * 8


curves = st.builds(Curve, *(st.integers(1, 10**6).map(lambda n: n * 8),), st.integers(0, 10**6), st.integers(1, 10**6))


@given(st.lists(curves, min_size=1, max_size=6), st.integers(1, 10**7))
def test_the_admission_agrees_with_looking_at_every_moment(held: list[Curve], link: int) -> None:
    moments = sorted({0, 1, 10**9, *(curve.d for curve in held), *(curve.d + 1 for curve in held)})
    anywhere = all(sum(served(curve, at) for curve in held) <= link * at for at in moments)
    later = all(sum(served(curve, at) for curve in held) <= link * at for at in (10**15, 10**16))
    assert fits(held, link) == (anywhere and later)


def test_delays_that_the_link_cannot_keep_together_are_refused_at_the_steepest() -> None:
    one, two = (a_class(name, MBIT, 5 * MBIT, delay=delay) for name, delay in (("one", 0.0012), ("two", 0.0011)))
    compiled(office(one))
    with pytest.raises(
        UnavailableError, match=r"takes 21\.304mbit of 20mbit .*one 10\.093mbit, two 11\.011mbit"
    ) as caught:
        compiled(office(one, two))
    assert "a delay of at least 1.25ms for two, a bandwidth of 21.305mbit" in caught.value.hint
    assert caught.value.where == two.where


def test_tiers_are_weights_in_borrowing_and_the_plan_says_so() -> None:
    program = compiled(branch_office())
    found = by_path(program)
    shares = {path: cls.ls.m2 for path, cls in found.items() if cls.ls}
    assert shares["video"] == pytest.approx(TIER_WEIGHT * shares["office/web"] * 1 / 70, rel=0.01)  # share 1 and 70
    assert found["office"].rt is None
    assert any("not borrowed in strict order" in note for note in program.notes)
    assert any("voice 10.61ms" in note for note in program.notes)
    level = office(a_class("a", MBIT, 5 * MBIT), a_class("b", MBIT, 5 * MBIT))
    assert not any("strict" in note for note in compiled(replace(level, classes=level.classes[1:])).notes)


def test_the_classifier_the_tap_and_the_leaves_are_those_of_htb() -> None:
    hfsc, htb = compiled(branch_office()), compile_interface(branch_office(), KERNEL, ETHERNET)
    assert (hfsc.handles, hfsc.rules, hfsc.tap, hfsc.tap_filter) == (htb.handles, htb.rules, htb.tap, htb.tap_filter)
    assert hfsc.tree.filters == htb.tree.filters
    assert all(isinstance(one, BpfFilter) for one in hfsc.tree.filters)
    assert hfsc.tree.qdiscs[1:] != () and {one for one in hfsc.tree.qdiscs if one.kind != "hfsc"} == {
        one for one in htb.tree.qdiscs if one.kind != "htb"
    }
    root = hfsc.tree.root()
    assert root is not None and root.options == HfscOptions(hfsc.handles["office/rest"] & 0xFFFF)
    promised = [leaf.path for leaf in hfsc.interface.leaves() if leaf.guarantee]
    for path in promised:
        assert (hfsc.bounds[path], hfsc.static[path]) == (htb.bounds[path], htb.static[path])
    assert hfsc.static["office/web"].rate == 8  # a share is no promise


def test_a_grant_moves_rate_and_limit_and_leaves_the_delay() -> None:
    program = compiled(office(a_class("meter", 128_000, 4 * MBIT, delay=0.01)))
    for rate, curve in (
        (512_000, Curve(1_211_200, 10_000, 512_000)),
        (2 * MBIT, Curve(2 * MBIT, 10_000, 2 * MBIT)),
        (128_000, Curve(1_211_200, 10_000, 128_000)),
    ):
        held = program.with_allocation({"meter": Grant(rate, 4 * MBIT, program.static["meter"].queue)})
        meter = next(cls for cls in held.classes if cls.handle == program.handles["meter"])
        assert isinstance(meter, HfscClass) and (meter.rt, meter.rate, meter.ceil) == (curve, rate, 4 * MBIT)
        assert program.allocation_in(held)["meter"].rate == rate


def test_a_granted_ceil_moves_the_upper_limit_and_nobody_moves_the_share() -> None:
    program = compiled(office(a_class("meter", 128_000, 4 * MBIT, delay=0.01)))
    compiled_class = next(cls for cls in program.tree.classes if cls.handle == program.handles["meter"])
    held = program.with_allocation({"meter": Grant(512_000, 3 * MBIT, program.static["meter"].queue)})
    meter = next(cls for cls in held.classes if cls.handle == program.handles["meter"])
    assert isinstance(meter, HfscClass) and isinstance(compiled_class, HfscClass)
    assert (meter.rt, meter.ul) == (Curve(1_211_200, 10_000, 512_000), straight(3 * MBIT))
    assert meter.ls == compiled_class.ls


def test_what_delays_take_of_the_link_is_granted_to_nobody() -> None:
    program = compiled(office(a_class("meter", 128_000, 4 * MBIT, delay=0.01)))
    assert program.reserved == 1_211_200 - 128_000
    setup = control.setup_from(program.interface, program.bounds, program.static, reserved=program.reserved)
    assert setup.link.bandwidth == 20 * MBIT - program.reserved


def test_auto_is_htb_where_it_is_there_and_else_hfsc() -> None:
    without = replace(KERNEL, qdiscs=KERNEL.qdiscs - {"htb"})
    roots = [compile_interface(branch_office(), kernel, ETHERNET).tree.root() for kernel in (KERNEL, without)]
    assert [root.kind for root in roots if root] == ["htb", "hfsc"]
    nothing = Capabilities("6.1", frozenset(), KERNEL.filters, KERNEL.actions, KERNEL.links)
    with pytest.raises(UnavailableError, match="lacks the htb qdisc"):
        compile_interface(branch_office(), nothing, ETHERNET)


@pytest.mark.parametrize(
    ("capabilities", "bandwidth", "what"),
    [(FULL_KERNEL, 20 * MBIT, "lacks the hfsc qdisc"), (KERNEL, 40_000 * MBIT, "cannot be expressed in HFSC's curves")],
)
def test_what_hfsc_cannot_do_is_refused(capabilities: Capabilities, bandwidth: int, what: str) -> None:
    interface = replace(office(bandwidth=bandwidth), backend=Backend.HFSC)
    with pytest.raises(UnavailableError, match=what):
        compile_interface(interface, capabilities, ETHERNET)


def test_tiers_off_every_share_counts_alone() -> None:
    program = compiled(branch_office(), structure=False)
    shares = {path: cls.ls.m2 for path, cls in by_path(program).items() if cls.ls}
    assert shares["voice"] == shares["video"]
    assert not any("strict" in note for note in program.notes)
    assert Tier.SPECIAL < Tier.STANDARD


def test_super_packets_are_no_frames_of_the_curve() -> None:
    interface = replace(office(a_class("meter", 128_000, MBIT, delay=0.01)), backend=Backend.HFSC)
    program = compile_interface(interface, KERNEL, VETH)
    assert by_path(program)["meter"].rt == Curve(1_211_200, 10_000, 128_000)
    assert any("super-packets" in note for note in program.notes)
