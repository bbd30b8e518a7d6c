"""Queues beside fq_codel: what the class asks for, in numbers that follow from its rate and delay; and stand-ins."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from bpf_machine import Skb, check, run
from compile_samples import ETHERNET, FULL_KERNEL, MBIT, SMALL_KERNEL, a_class, an_interface
from hypothesis import given
from hypothesis import strategies as st

from shaper.compile import compile_interface
from shaper.compile.hosts import host_filter
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.kernel.codec import encode_qdisc
from shaper.model.aqm import Aqm, AqmKind
from shaper.model.policy import Direction
from shaper.tree import (
    BpfFilter,
    CakeOptions,
    Capabilities,
    CodelOptions,
    Diffserv,
    FlowMode,
    FqCodelOptions,
    FqPieOptions,
    PieOptions,
    Qdisc,
    RedOptions,
    SfqOptions,
)

ALL_KERNEL = replace(FULL_KERNEL, qdiscs=FULL_KERNEL.qdiscs | {"cake", "codel", "pie", "fq_pie", "red", "sfq", "pfifo"})


def lacking(*kinds: str) -> Capabilities:
    return replace(ALL_KERNEL, qdiscs=ALL_KERNEL.qdiscs - set(kinds))


def compiled(kernel: Capabilities = ALL_KERNEL, *, incoming: bool = False, **more: Any) -> Program:
    interface = an_interface(
        [a_class("a", 2 * MBIT, 10 * MBIT, **{"delay": 0.05, **more}), a_class("rest", 0, 20 * MBIT, default=True)]
    )
    if incoming:
        interface = replace(interface, direction=Direction.INGRESS)
        kernel = replace(kernel, actions=kernel.actions | {"mirred"})
    return compile_interface(interface, kernel, ETHERNET)


def leaf(program: Program) -> Qdisc:
    found = program.tree.leaf_of(program.handles["a"])
    assert found is not None
    return found


def filters_of(program: Program) -> list[BpfFilter]:
    """On the leaf."""
    return [one for one in program.tree.filters if isinstance(one, BpfFilter) and one.parent == leaf(program).handle]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (AqmKind.CODEL, CodelOptions(1000, 4992, 99_968, True)),
        (AqmKind.PIE, PieOptions(1000, 15_000, True)),  # RFC 8033, 4.2
        (AqmKind.FQ_PIE, FqPieOptions(10_240, 1024, 15_000, 1514, 25_000, True)),
        (AqmKind.SFQ, SfqOptions(8, 1514, flows=8)),  # 12,500 bytes are 50 ms at 2 Mbit/s
        (
            AqmKind.CAKE,
            CakeOptions(0, Diffserv.BESTEFFORT, FlowMode.FLOWS, rtt=100_000, target=5_000, memory=25_000),
        ),
    ],
)
def test_the_numbers_follow_from_delay_and_rate(kind: AqmKind, options: object) -> None:
    assert leaf(compiled(aqm=Aqm(kind))).options == options


def test_only_queues_that_were_made_larger_for_super_packets_are_called_so() -> None:
    classes = [
        a_class(name, MBIT, MBIT, aqm=Aqm(AqmKind.FIFO, size=size)) for name, size in (("held", 20_000), ("made", None))
    ]
    link = replace(ETHERNET, super_packet=65_550)
    interface = an_interface([*classes, a_class("rest", 0, 20 * MBIT, default=True)])
    (note,) = (text for text in compile_interface(interface, ALL_KERNEL, link).notes if "these are larger" in text)
    larger = note.partition("these are larger")[2]
    assert ("made 196.65kb" in larger, "held" in larger) == (True, False)


def test_red_keeps_to_floyds_guidance_where_there_is_room() -> None:
    interface = an_interface([a_class("a", 90 * MBIT, 99 * MBIT, aqm=Aqm(AqmKind.RED), default=True)], 100 * MBIT)
    program = compile_interface(interface, ALL_KERNEL, ETHERNET)
    options = leaf(program).options
    assert isinstance(options, RedOptions)
    assert (options.least, options.most, options.limit) == (28_125, 84_375, 168_750)  # 5 ms of 90 Mbit/s are 56,250
    assert options.weight == 13  # 7,431 packets a second
    assert options.adaptive


def test_red_leaves_no_queue_longer_than_the_delay_target() -> None:
    options = leaf(compiled(aqm=Aqm(AqmKind.RED))).options
    assert isinstance(options, RedOptions)
    assert options.least < options.most <= options.limit == 12_500
    assert encode_qdisc("red", options, creating=True)


@pytest.mark.parametrize(
    ("aqm", "wanted"),
    [
        (Aqm(AqmKind.CODEL, False, 0.01, 0.2, 77), {"ecn": False, "target": 9984, "interval": 199_936, "limit": 77}),
        (
            Aqm(AqmKind.PIE, False, 0.02, packets=77, alpha=4, beta=30),
            {"ecn": False, "target": 20_000, "limit": 77, "alpha": 4, "beta": 30},
        ),
        (Aqm(AqmKind.FQ_PIE, size=99_000, flows=64, quantum=300), {"memory": 99_000, "flows": 64, "quantum": 300}),
        (
            Aqm(AqmKind.RED, size=60_000, least=9_000, most=30_000, probability=0.5),
            {"limit": 60_000, "least": 9_000, "most": 30_000, "probability": 2**31, "adaptive": False},
        ),
        (
            Aqm(AqmKind.SFQ, packets=100, flows=50, depth=10, perturb=10.0),
            {"limit": 100, "flows": 50, "depth": 10, "perturb": 10},
        ),
        (
            Aqm(AqmKind.CAKE, interval=0.05, size=10**6, nat=True, wash=True, split_gso=False),
            {"rtt": 50_000, "memory": 10**6, "nat": True, "wash": True, "split_gso": False},
        ),
    ],
)
def test_what_is_said_comes_before_what_is_worked_out(aqm: Aqm, wanted: dict[str, object]) -> None:
    options: Any = leaf(compiled(aqm=aqm)).options
    assert {key: getattr(options, key) for key in wanted} == wanted


@given(
    st.integers(8_000, 10**11),
    st.sampled_from([None, 0.001, 0.02, 0.5]),
    st.sampled_from(sorted(AqmKind)),
    st.sampled_from([1514, 9014, 65550]),
)
def test_every_rate_and_delay_gives_what_the_kernel_takes(
    rate: int, delay: float | None, kind: AqmKind, packet: int
) -> None:
    cls = a_class("a", rate, rate, aqm=Aqm(kind), default=True, delay=delay)
    link = replace(ETHERNET, super_packet=packet)
    found = leaf(compile_interface(an_interface([cls], rate * 2), ALL_KERNEL, link))
    assert encode_qdisc(found.kind, found.options, creating=True)


@pytest.mark.parametrize(
    ("kind", "lacks", "instead", "flows"),
    [
        (AqmKind.CODEL, ["codel"], "fq_codel", 1),
        (AqmKind.PIE, ["pie"], "fq_pie", 1),
        (AqmKind.PIE, ["pie", "fq_pie"], "codel", None),
        (AqmKind.RED, ["red"], "pie", None),
        (AqmKind.CAKE, ["cake"], "fq_codel", 1024),
        (AqmKind.SFQ, ["sfq"], "fq_codel", 1024),
        (AqmKind.FQ_CODEL, ["fq_codel"], "cake", None),
        (AqmKind.FQ_PIE, ["fq_pie", "fq_codel", "cake"], "bfifo", None),
    ],
)
def test_the_nearest_stands_in_and_it_is_said(kind: AqmKind, lacks: list[str], instead: str, flows: int | None) -> None:
    program = compiled(lacking(*lacks), aqm=Aqm(kind))
    found = leaf(program)
    assert found.kind == instead
    if flows is not None:
        assert isinstance(found.options, (FqCodelOptions, FqPieOptions))
        assert found.options.flows == flows
    assert any(f"the kernel lacks {kind}: " in note for note in program.notes)


@pytest.mark.parametrize(
    "more", [{"aqm": Aqm(AqmKind.SFQ)}, {"fairness": FlowMode.DUAL_SRCHOST}, {"fairness": FlowMode.FLOWS}]
)
def test_what_shares_is_not_replaced_by_what_does_not(more: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError, match=r"a: the kernel .* lacks") as caught:
        compiled(SMALL_KERNEL, **more)
    assert caught.value.hint and caught.value.where


def test_cake_shares_among_hosts_by_itself() -> None:
    program = compiled(fairness=FlowMode.DUAL_SRCHOST)
    options = leaf(program).options
    assert isinstance(options, CakeOptions)
    assert options.flows is FlowMode.DUAL_SRCHOST
    assert filters_of(program) == []


def test_what_comes_in_is_shared_among_the_same_hosts() -> None:
    options = leaf(compiled(incoming=True, fairness=FlowMode.DUAL_SRCHOST)).options
    assert isinstance(options, CakeOptions)
    assert options.flows is FlowMode.DUAL_DSTHOST


@pytest.mark.parametrize(
    ("kernel", "more", "kind"),
    [
        (lacking("cake"), {}, "fq_codel"),
        (lacking("cake", "fq_codel"), {}, "sfq"),
        (ALL_KERNEL, {"aqm": Aqm(AqmKind.SFQ)}, "sfq"),
    ],
)
def test_without_cake_a_filter_gives_each_host_a_flow(kernel: Capabilities, more: dict[str, Any], kind: str) -> None:
    program = compiled(kernel, fairness=FlowMode.DUAL_SRCHOST, **more)
    assert leaf(program).kind == kind
    assert len(filters_of(program)) == 1
    assert any("gives each a flow" in note for note in program.notes)


def test_what_only_cake_shares_by_is_refused_without_it() -> None:
    with pytest.raises(UnavailableError, match="lacks cake, for `fairness: triple-isolate`"):
        compiled(lacking("cake"), fairness=FlowMode.TRIPLE_ISOLATE)


def ipv4(src: str, dst: str) -> Skb:
    addresses = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    return Skb(bytes(14) + b"\x45" + bytes(11) + addresses, 14, 0x0800)


def ipv6(src: str, dst: str) -> Skb:
    addresses = ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed
    return Skb(bytes(14) + b"\x60" + bytes(7) + addresses, 14, 0x86DD)


@pytest.mark.parametrize("fairness", [FlowMode.SRCHOST, FlowMode.DSTHOST, FlowMode.HOSTS])
@given(data=st.data(), flows=st.integers(1, 65536))
def test_every_packet_has_a_flow_by_the_addresses_asked_for(
    fairness: FlowMode, data: st.DataObject, flows: int
) -> None:
    program = host_filter(0x5B100000, fairness, flows).program
    check(program)
    make, address = data.draw(
        st.sampled_from([(ipv4, st.ip_addresses(v=4).map(str)), (ipv6, st.ip_addresses(v=6).map(str))])
    )
    src, dst, other = (data.draw(address) for _ in range(3))
    flow = run(program, make(src, dst))
    assert 1 <= flow <= flows
    if fairness is FlowMode.SRCHOST:
        assert run(program, make(src, other)) == flow
    elif fairness is FlowMode.DSTHOST:
        assert run(program, make(other, dst)) == flow
    assert run(program, Skb(bytes(60), 14, 0x0806)) == 1  # what names no flow would be dropped


@pytest.mark.parametrize("fairness", [FlowMode.SRCHOST, FlowMode.DSTHOST, FlowMode.HOSTS])
def test_the_hosts_of_a_network_have_flows_of_their_own(fairness: FlowMode) -> None:
    program = host_filter(0x5B100000, fairness, 1024).program
    hosts = [f"192.168.7.{number}" for number in range(1, 255)]
    if fairness is not FlowMode.DSTHOST:  # by chance 225 of 254 would be alone
        assert len({run(program, ipv4(host, "203.0.113.9")) for host in hosts}) > 200
    if fairness is not FlowMode.SRCHOST:
        assert len({run(program, ipv4("203.0.113.9", host)) for host in hosts}) > 240
    if fairness is FlowMode.SRCHOST:
        hosts = [f"2001:db8::{number:x}" for number in range(1, 255)]
        assert len({run(program, ipv6(host, "2001:db8:1::9")) for host in hosts}) > 240
