"""The queues beside fq_codel as bytes: the round trip, the structs that they are, and what the kernel would refuse."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leaf_options import ALL, as_dumped, canonical

from collectors.netlink import attributes
from shaper.kernel.codec import decode_qdisc, encode_qdisc
from shaper.kernel.codec.clock import psched_canonical
from shaper.plan.codec import tree_from_json, tree_to_json
from shaper.tree import FqPieOptions, LeafOptions, PieOptions, Qdisc, RedOptions, SfqOptions, tree

any_options = st.one_of([st.tuples(st.just(kind), options) for kind, options in ALL.items()])


def dumped(kind: str, options: LeafOptions) -> bytes:
    data = encode_qdisc(kind, options, creating=True)
    assert data is not None
    return data


@given(any_options)
def test_what_is_encoded_comes_back_through_the_kernels_rounding(case: tuple[str, LeafOptions]) -> None:
    kind, options = case
    assert decode_qdisc(kind, dumped(kind, as_dumped(options))) == canonical(options)
    assert as_dumped(canonical(options)) == as_dumped(options)


@given(any_options)
def test_a_tree_with_them_goes_through_json(case: tuple[str, LeafOptions]) -> None:
    held = tree("eth1", [Qdisc(0x5B100000, 0x5A000010, case[0], case[1])])
    assert tree_from_json(tree_to_json(held)) == held


def test_red_sends_its_struct_its_table_and_its_probability() -> None:
    found = attributes(dumped("red", RedOptions(60_000, 5_000, 15_000, 7, 12, 2**31, True, False)))
    assert struct.unpack("=IIIBBBB", found[1]) == (60_000, 5_000, 15_000, 7, 0, 12, 1)
    assert len(found[2]) == 256
    assert (found[2][0], found[2][255]) == (0, 31)
    assert list(found[2]) == sorted(found[2])
    assert struct.unpack("=I", found[3]) == (2**31,)


def test_where_red_adapts_a_probability_that_is_read_says_nothing() -> None:
    options = RedOptions(60_000, 5_000, 15_000, 7, 12, 0, True, True)
    assert decode_qdisc("red", dumped("red", options)) == options


def test_sfq_sends_a_struct_of_72_bytes() -> None:
    data = dumped("sfq", SfqOptions(500, 1514, 10, 1024, 127, 100, True))
    assert len(data) == 72
    assert struct.unpack_from("=IiIIIII", data) == (1514, 10, 500, 1024, 127, 100, 1)
    assert not any(data[28:])


def test_fq_pies_flows_are_said_once() -> None:
    options = FqPieOptions(100, 512, 15_000, 1514, 1 << 20, True)
    changing = encode_qdisc("fq_pie", options, creating=False)
    assert changing is not None
    assert 2 in attributes(dumped("fq_pie", options))
    assert 2 not in attributes(changing)


@pytest.mark.parametrize("dump", [15_000, 16_000, 16_666, 20_000])
def test_fifteen_milliseconds_are_pies_own_on_every_clock(dump: int) -> None:
    found = decode_qdisc("pie", dumped("pie", PieOptions(100, 15_000, True, update=dump)))
    assert isinstance(found, PieOptions)
    assert found.update == 0


@given(st.integers(0, 4_000_000))
def test_a_canonical_time_of_the_scheduler_stays(microseconds: int) -> None:
    time = psched_canonical(microseconds)
    assert abs(time - microseconds) <= 1
    assert psched_canonical(time) == time


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("red", RedOptions(60_000, 15_000, 5_000, 7, 12, 1, True, False)),
        ("red", RedOptions(60_000, 5_000, 2**30, 7, 12, 1, True, False)),
        ("red", RedOptions(60_000, 5_000, 15_000, 0, 12, 1, True, False)),
        ("sfq", SfqOptions(500, 1514, divisor=1000)),
        ("sfq", SfqOptions(500, 1514, depth=128)),
        ("sfq", SfqOptions(1, 1514, flows=1)),
        ("sfq", SfqOptions(100, 1514)),
        ("sfq", SfqOptions(20_000, 1514)),
    ],
)
def test_what_the_kernel_would_refuse_or_cut_is_refused(kind: str, options: LeafOptions) -> None:
    with pytest.raises(ValueError, match=r"RED|SFQ"):
        encode_qdisc(kind, options, creating=True)
