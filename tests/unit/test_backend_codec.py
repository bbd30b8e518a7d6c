"""The options and classes of the roots beside HTB: to bytes and back, to JSON and back, in words."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.netlink import attribute, attributes
from shaper.kernel.codec import decode_class, decode_qdisc, encode_class, encode_qdisc
from shaper.plan.codec import from_json, to_json
from shaper.plan.describe import describe
from shaper.plan.steps import Plan, Step, Verb
from shaper.plan.trees import is_changeable
from shaper.tree import (
    ROOT,
    AckFilter,
    CakeOptions,
    Cells,
    Curve,
    Diffserv,
    EtsOptions,
    FlowMode,
    HfscClass,
    HfscOptions,
    Node,
    Options,
    PrioOptions,
    Qdisc,
    RawOptions,
    straight,
)

TOP = 0x5A000000
rates = st.integers(0, 2**32 - 1).map(lambda size: size * 8)
curves = st.none() | st.builds(Curve, rates, st.integers(0, 2**32 - 1), rates)
hfsc_classes = st.builds(HfscClass, st.just(TOP | 0x10), st.just(TOP | 1), curves, curves, curves)
u32 = st.integers(0, 2**32 - 1)
priomaps = st.lists(st.integers(0, 15), min_size=16, max_size=16).map(tuple)
quanta = st.lists(u32.filter(bool), max_size=8).map(tuple)
cakes = st.builds(
    CakeOptions,
    rates,
    st.sampled_from(Diffserv),
    st.sampled_from(FlowMode),
    *(u32, u32, st.booleans(), st.booleans(), st.sampled_from(AckFilter), *(st.booleans(),) * 3),
    st.none() | st.integers(-(2**15), 2**15 - 1),
    st.integers(0, 2**16 - 1),
    st.sampled_from(Cells),
    u32,
    u32,
)
options = st.one_of(
    st.builds(HfscOptions, st.integers(0, 0xFFFF)).map(lambda one: ("hfsc", one)),
    cakes.map(lambda one: ("cake", one)),
    st.builds(PrioOptions, st.integers(1, 16), priomaps).map(lambda one: ("prio", one)),
    st.builds(
        lambda each, more, map: EtsOptions(len(each) + more, more, each, map), quanta, st.integers(0, 8), priomaps
    ).map(lambda one: ("ets", one)),
)


@given(options, st.booleans())
def test_options_come_back(given_options: tuple[str, Options], creating: bool) -> None:
    kind, sent = given_options
    data = encode_qdisc(kind, sent, creating=creating)
    assert data is not None
    assert decode_qdisc(kind, data) == sent


@given(hfsc_classes)
def test_an_hfsc_class_comes_back(cls: HfscClass) -> None:
    kind, data = encode_class(cls)
    assert kind == "hfsc"
    assert decode_class(kind, cls.handle, cls.parent, data) == cls


def test_hfsc_as_tc_writes_it() -> None:
    rt = struct.pack("=III", 1_250_000, 10_000, 125_000)
    data = attribute(1, rt) + attribute(2, struct.pack("=III", 0, 0, 250_000))
    cls = HfscClass(TOP | 0x10, TOP | 1, Curve(10_000_000, 10_000, 1_000_000), straight(2_000_000), None)
    assert decode_class("hfsc", cls.handle, cls.parent, data) == cls
    assert attributes(encode_class(cls)[1]) == attributes(data)
    assert decode_class("hfsc", TOP, ROOT, b"") is None, "the root's own class stands for the qdisc"
    assert encode_qdisc("hfsc", HfscOptions(0x10), creating=True) == b"\x10\x00"


def test_a_slope_beyond_32_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="HFSC's curves end at"):
        encode_class(HfscClass(TOP | 1, TOP, straight(2**32 * 8), None, None))


@given(options.map(lambda one: Qdisc(TOP, ROOT, *one)) | hfsc_classes)
def test_a_plan_of_it_comes_back_from_json(node: Node) -> None:
    plan = Plan("eth1", (Step(Verb.ADD, None, node), Step(Verb.DELETE, node, None)))
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan


def test_a_curve_that_went_is_no_change_in_place() -> None:
    whole = HfscClass(TOP | 1, TOP, straight(8), straight(8), straight(8))
    less = HfscClass(TOP | 1, TOP, straight(8), straight(16), None)
    assert is_changeable(less, whole, inner=False)
    assert not is_changeable(whole, less, inner=False)
    assert is_changeable(*(Qdisc(TOP, ROOT, "hfsc", HfscOptions(n)) for n in (1, 2)), inner=False)


def test_what_these_kernels_can_change_in_place() -> None:
    def changes(kind: str, before: Options, after: Options) -> bool:
        return is_changeable(Qdisc(TOP, ROOT, kind, before), Qdisc(TOP, ROOT, kind, after), inner=False)

    plain, nat = (CakeOptions(8, Diffserv.DIFFSERV4, nat=nat) for nat in (False, True))
    assert changes("cake", plain, nat) and changes("cake", plain, plain._replace(rate=16))
    assert not changes("cake", nat, plain), "a kernel without connection tracking refuses the word"
    few, many = (PrioOptions(bands, (0,) * 16) for bands in (3, 16))
    assert changes("prio", many, PrioOptions(16, (1,) * 16))
    assert not changes("prio", many, few), "a band that goes takes its queue along"


def test_modes_of_a_later_kernel_are_kept_as_they_are() -> None:
    later = attribute(3, struct.pack("=I", 9))
    assert decode_qdisc("cake", later) == RawOptions(later)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="16-bit"):
        encode_qdisc("cake", CakeOptions(0, Diffserv.DIFFSERV4, overhead=2**15), creating=True)
    with pytest.raises(ValueError, match="3 bands share, 2 quanta"):
        encode_qdisc("ets", EtsOptions(5, 2, (1514, 1514), (0,) * 16), creating=True)
    with pytest.raises(ValueError, match="needs a quantum"):
        encode_qdisc("ets", EtsOptions(2, 1, (0,), (0,) * 16), creating=True)


def test_words() -> None:
    cls = HfscClass(TOP | 0x10, TOP | 1, Curve(10_000_000, 10_000, 1_000_000), straight(2_000_000), None)
    faster = HfscClass(TOP | 0x10, TOP | 1, Curve(10_000_000, 10_000, 1_000_000), straight(3_000_000), None)
    added = describe(Step(Verb.ADD, None, cls), {TOP | 0x10: "voice"})
    assert added == "class voice 5a00:10: add, parent 5a00:1, rt 10mbit for 10ms then 1mbit, ls 2mbit"
    assert describe(Step(Verb.CHANGE, cls, faster)) == "class 5a00:10: ls 2mbit -> 3mbit"
    slow, fast = (Qdisc(TOP, ROOT, "cake", CakeOptions(rate, Diffserv.DIFFSERV4)) for rate in (8000, 16000))
    assert describe(Step(Verb.CHANGE, slow, fast)) == "qdisc cake 5a00: at root: bandwidth 8kbit -> 16kbit"
    ets = Qdisc(TOP, ROOT, "ets", EtsOptions(3, 2, (1514,), (2,) * 16))
    assert describe(Step(Verb.ADD, None, ets)).startswith(
        "qdisc ets 5a00: at root: add, bands 3, strict 2, quanta 1514b"
    )
