"""Options to bytes and back, for every kind that is programmed, and against bytes that kernels and tc have written."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.netlink import attribute, attributes
from shaper.kernel.codec import bpf, decode_qdisc, encode_qdisc, flower, htb, mirred
from shaper.kernel.codec import u32 as cls_u32
from shaper.kernel.codec.clock import codel_canonical
from shaper.tree import (
    FLOWER_FIELDS,
    PIPE,
    ROOT,
    U32_ROOT,
    FifoOptions,
    Finish,
    FlowerKey,
    FqCodelOptions,
    HtbClass,
    HtbOptions,
    Insn,
    Options,
    RawOptions,
    SetMeta,
    U32Filter,
    U32Key,
    U32Link,
    flower_key,
)

u32 = st.integers(0, 2**32 - 1)
rates = st.integers(1, 10**15 // 8).map(lambda size: size * 8)
insns = st.builds(Insn, st.integers(0, 0xFFFF), st.integers(0, 255), st.integers(0, 255), u32)
fq_codels = st.builds(
    FqCodelOptions,
    limit=u32,
    target=st.integers(0, 4_000_000).map(codel_canonical),
    interval=st.integers(0, 4_000_000).map(codel_canonical),
    quantum=u32,
    flows=u32,
    memory=u32,
    ecn=st.booleans(),
)


def round_trip(kind: str, options: Options) -> Options:
    data = encode_qdisc(kind, options, creating=True)
    assert data is not None
    return decode_qdisc(kind, data)


@given(u32, st.integers(0, 2**32 - 1))
def test_htb_comes_back(default: int, direct: int) -> None:
    assert round_trip("htb", HtbOptions(default, direct)) == HtbOptions(default, direct)


@given(st.sampled_from(["bfifo", "pfifo"]), u32)
def test_a_fifo_comes_back(kind: str, limit: int) -> None:
    assert round_trip(kind, FifoOptions(limit)) == FifoOptions(limit)


@given(
    st.builds(
        HtbClass, st.just(0x5A000010), st.just(0x5A000001), rates, rates, u32, u32, prio=st.integers(0, 7), quantum=u32
    )
)
def test_a_class_comes_back(cls: HtbClass) -> None:
    assert htb.decode_class(cls.handle, cls.parent, htb.encode_class(cls)) == cls


def test_a_top_class_stands_under_the_qdisc() -> None:
    cls = HtbClass(0x5A000010, 0x5A000000, 8000, 8000, 1, 1, 0, 1514)
    assert htb.decode_class(cls.handle, ROOT, htb.encode_class(cls)) == cls


def test_a_class_is_small() -> None:
    narrow = htb.encode_class(HtbClass(0x5A000010, 0x5A000000, 34_359_738_360, 8000, 1, 1, 0, 1514))
    wide = htb.encode_class(HtbClass(0x5A000010, 0x5A000000, 34_359_738_368, 40_000_000_000, 1, 1, 0, 1514))
    assert len(narrow) == 48  # no rate tables, and 64-bit rates only where they are needed
    assert len(wide) == 48 + 2 * 12


@given(st.lists(insns, max_size=50), u32, st.none() | st.builds(mirred.Sent, st.integers(0, 2**31 - 1), st.booleans()))
def test_a_filter_comes_back(program: list[Insn], classid: int, sent: mirred.Sent | None) -> None:
    options = bpf.BpfOptions(tuple(program), classid, sent)
    assert bpf.decode(bpf.encode(options)) == options


def test_filters_that_are_not_ours() -> None:
    ours = bpf.encode(bpf.BpfOptions((Insn(6, 0, 0, 0),), 0, None))
    assert bpf.decode(attribute(6, struct.pack("=I", 5))) is None, "eBPF by file descriptor"
    assert bpf.decode(ours + attribute(8, struct.pack("=I", 1))) is None, "direct action"
    action = attribute(1, attribute(1, b"gact\0"))
    assert bpf.decode(ours + attribute(1, action)) is None, "another action"


@st.composite
def flower_keys(draw: st.DrawFn) -> tuple[FlowerKey, ...]:
    """Any keys without fault in a preference of IPv4 or IPv6."""
    ethertype, transport = draw(st.sampled_from((0x0800, 0x86DD))), draw(st.sampled_from((6, 17, 132, 58, 1)))
    version = "4" if ethertype == 0x0800 else "6"
    keys = [("eth_type", ethertype, None), ("ip_proto", transport, None)]
    masked = [f"src{version}", f"dst{version}", "ip_tos"]
    if transport in (6, 17, 132):
        masked += ["sport", "dport"]
        for side in draw(st.sets(st.sampled_from(("sport", "dport")))):
            first = draw(st.integers(0, 65534))
            keys += [(f"{side}_min", first, None), (f"{side}_max", draw(st.integers(first + 1, 65535)), None)]
    if (version, transport) == ("6", 58):
        masked.append("icmpv6_type")
    for field in draw(st.sets(st.sampled_from(masked))):
        bits = FLOWER_FIELDS[field]
        keys.append((field, draw(st.integers(0, 2**bits - 1)), draw(st.integers(1, 2**bits - 1))))
    if draw(st.booleans()):
        keys.append(("ip_flags", draw(st.integers(0, 1)), 1))
    return tuple(sorted(flower_key(*key) for key in keys))


@given(flower_keys(), u32)
def test_a_flower_filter_comes_back_from_what_the_kernel_dumps(keys: tuple[FlowerKey, ...], classid: int) -> None:
    assert flower.fault(keys, next(key.value for key in keys if key.field == "eth_type")) == ""
    options = flower.FlowerOptions(keys, classid)
    dumped = flower.encode(options) + attribute(22, struct.pack("=I", 8)) + attribute(86, bytes(4))
    assert flower.decode(dumped) == options


def test_a_flower_filter_as_tc_and_the_kernel_write_it() -> None:
    sent = bytes.fromhex(
        "08000100" "1000005a" "06000800" "08000000" "05000900" "06000000"  # flowid 5a00:10, ip, tcp
        "06001300" "01bb0000" "06002400" "ffff0000"  # dst_port 443
        "05004900" "b8000000" "05004a00" "fc000000"  # ip_tos 0xb8/0xfc
    )  # fmt: skip
    keys = [("dport", 443, None), ("eth_type", 0x0800, None), ("ip_proto", 6, None), ("ip_tos", 0xB8, 0xFC)]
    options = flower.FlowerOptions(tuple(flower_key(*key) for key in keys), 0x5A000010)
    assert flower.decode(sent) == options
    assert attributes(flower.encode(options)) == attributes(sent)


@pytest.mark.parametrize(
    "more",
    [
        attribute(4, bytes(6)),  # dst_mac
        attribute(3, attribute(1, attribute(1, b"gact\0"))),  # an action
        attribute(22, struct.pack("=I", 2)),  # skip_sw
        attribute(20, b"\0\x50") + attribute(37, b"\xff\xff"),  # UDP's port in a filter for TCP
        attribute(47, bytes(4)) + attribute(48, bytes((0, 0, 0, 2))),  # the first fragment
        attribute(200, b""),
    ],
)
def test_flower_filters_that_are_not_ours(more: bytes) -> None:
    keys = (flower_key("eth_type", 0x0800), flower_key("ip_proto", 6))
    ours = flower.encode(flower.FlowerOptions(keys, 1))
    assert flower.decode(ours) is not None
    assert flower.decode(ours + more) is None


@st.composite
def u32_filters(draw: st.DrawFn) -> U32Filter:
    """Any without fault."""
    masks = draw(
        st.dictionaries(st.integers(-4, 30).map(lambda place: 4 * place), st.integers(1, 2**32 - 1), max_size=5)
    )
    keys = tuple(U32Key(at, draw(st.integers(0, 2**32 - 1)) & mask, mask) for at, mask in sorted(masks.items()))
    table = draw(st.one_of(st.just(U32_ROOT), st.integers(1, 0x7FF).map(lambda number: number << 20)))
    place = 0x5A000000, 0x0800, table | draw(st.integers(1, 0xFFF)), 0x0800
    if draw(st.booleans()):
        return U32Filter(*place, keys, draw(st.integers(1, 2**32 - 1)))
    mask = draw(st.integers(0, 0xFFFF))
    further = (draw(st.integers(-8, 8)), mask, draw(st.integers(0, 15))) if mask else (0, 0, 0)
    link = U32Link(draw(st.integers(1, 0x7FF)) << 20, draw(st.integers(0, 0x7FFF)), *further)
    return U32Filter(*place, keys, link=link)


@given(u32_filters())
def test_a_u32_filter_comes_back_from_what_the_kernel_dumps(node: U32Filter) -> None:
    assert cls_u32.fault(node) == ""
    dumped = cls_u32.encode(node) + attribute(9, bytes(24)) + attribute(11, struct.pack("=I", 8))
    assert cls_u32.decode(dumped) == cls_u32.U32Options(node.keys, node.classid, node.link)


def test_what_a_u32_filter_does_comes_back_too() -> None:
    actions = (SetMeta(7, 0xFF), Finish(PIPE))
    node = U32Filter(0x5A000000, 0x0800, U32_ROOT | 1, 0x0800, (U32Key(0, 0, 1),), 1, None, actions)
    assert cls_u32.decode(cls_u32.encode(node)) == cls_u32.U32Options(node.keys, 1, None, actions)


@given(st.integers(1, 0xFFF), st.integers(0, 0x7FF))
def test_a_handle_in_the_first_table_is_the_kernels_on_the_wire(number: int, table: int) -> None:
    first = 0x80000000 | table << 20
    assert cls_u32.handle_sent(U32_ROOT | number, 0) == number, "a new one: the kernel says in which table"
    assert cls_u32.handle_sent(U32_ROOT | number, first) == first | number
    assert cls_u32.handle_read(first | number) == U32_ROOT | number
    assert cls_u32.handle_read(table << 20 | number) == table << 20 | number
    assert cls_u32.is_first_table(first)


def test_a_u32_filter_as_tc_and_the_kernel_write_it() -> None:
    """`u32 ht 3: match ip protocol 17 0xff link 1: offset at 0 mask 0f00 shift 6 eat`, and one that names a class."""
    sent = bytes.fromhex(
        "08000200" "00003000" "08000300" "00001000"  # ht 3:, link 1:
        "24000500" "0c060100" "0f000000" "00000000" "00000000"  # VAROFFSET | EAT, shift, one key; mask; at 0
        "00ff0000" "00110000" "08000000" "00000000"
    )  # fmt: skip
    place = 0x5A000000, 0x0800, 0x300001, 0x0800
    node = U32Filter(*place, (U32Key(8, 0x110000, 0xFF0000),), link=U32Link(0x100000, 0, 0, 0x0F00, 6))
    assert cls_u32.encode(node) == sent
    assert cls_u32.decode(sent) == cls_u32.U32Options(node.keys, 0, node.link)
    named = bytes.fromhex("080001001000005a1400050001000000000000000000000000000000")
    assert cls_u32.encode(U32Filter(*place[:2], U32_ROOT | 1, 0x0800, (), 0x5A000010)) == named
    assert cls_u32.decode(named) == cls_u32.U32Options((), 0x5A000010)


@pytest.mark.parametrize(
    "data",
    [
        attribute(10, struct.pack("=III", 7, 0xFF, 0)),  # a mark
        attribute(8, b"eth0\0"),  # a device
        attribute(7, attribute(1, attribute(1, b"mirred\0"))),  # an action
        attribute(11, struct.pack("=I", 2)),  # skip_sw
    ],
)
def test_u32_filters_that_are_not_ours(data: bytes) -> None:
    node = U32Filter(0x5A000000, 0x0800, U32_ROOT | 1, 0x0800, (U32Key(0, 0, 1),), 1)
    assert cls_u32.decode(cls_u32.encode(node)) is not None
    assert cls_u32.decode(cls_u32.encode(node) + data) is None
    assert cls_u32.decode(b"") is None


@pytest.mark.parametrize(
    ("place", "value"),
    [(4 + 0, 9), (4 + 1, 3), (4 + 10, 4), (4 + 12, 1), (4 + 16 + 12, 1)],
    ids=["flags", "shift", "hash offset", "hash mask", "a key that moves"],
)
def test_a_u32_selector_that_does_more_is_not_ours(place: int, value: int) -> None:
    node = U32Filter(0x5A000000, 0x0800, U32_ROOT | 1, 0x0800, (U32Key(0, 0, 1),), 1)
    data = bytearray(cls_u32.encode(node))
    data[data.index(attribute(5, b"x" * 32)[:4]) + place] = value
    assert cls_u32.decode(bytes(data)) is None


def test_a_mirror_that_stops_the_filters_is_not_ours() -> None:
    ours = mirred.encode(mirred.Sent(9))
    assert mirred.decode(ours) == mirred.Sent(9)
    stops = ours.replace(struct.pack("=i", -1), struct.pack("=i", 3))
    assert mirred.decode(stops) is None
    once = bpf.BpfOptions((), 0, mirred.Sent(9))
    twice = attribute(1, attribute(1, ours) + attribute(2, ours)) + attribute(5, b"")
    assert bpf.decode(bpf.encode(once)) == once
    assert bpf.decode(twice) is None


def kernel_time(microseconds: int) -> int:
    """What the kernel does to a time: kept in units of 1024 ns, dumped in us, rounded down each time."""
    return (microseconds * 1000 >> 10) * 1024 // 1000


@given(fq_codels)
def test_fq_codel_comes_back_through_the_kernels_rounding(options: FqCodelOptions) -> None:
    dumped = options._replace(target=kernel_time(options.target), interval=kernel_time(options.interval))
    assert round_trip("fq_codel", dumped) == options


@given(st.integers(0, 4_000_000))
def test_a_canonical_time_stays(microseconds: int) -> None:
    time = codel_canonical(microseconds)
    assert time <= microseconds
    assert codel_canonical(time) == time
    assert kernel_time(time) == kernel_time(microseconds)


@given(st.integers(1, 4000))
def test_whole_milliseconds_are_canonical(milliseconds: int) -> None:
    assert codel_canonical(milliseconds * 1000) == milliseconds * 1000


def test_fq_codel_leaves_the_flows_out_of_a_change() -> None:
    options = FqCodelOptions(1000, 5000, 100_000, 1514, 1024, 32 << 20, True)
    data = encode_qdisc("fq_codel", options, creating=False)
    whole = encode_qdisc("fq_codel", options, creating=True)
    assert data is not None
    assert whole is not None
    assert attributes(whole) == attributes(data) | {5: struct.pack("=I", 1024)}


def test_foreign_options_are_kept_as_they_are() -> None:
    assert decode_qdisc("netem", b"abc") == RawOptions(b"abc")
    assert encode_qdisc("netem", RawOptions(b"abc"), creating=True) == b"abc"
    assert decode_qdisc("clsact", b"") is None


def test_options_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="a htb qdisc takes no FifoOptions"):
        encode_qdisc("htb", FifoOptions(1), creating=True)
