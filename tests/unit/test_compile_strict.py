"""`priority: strict` and CAKE's settings at the root, compiled."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compile_samples import ETHERNET, FULL_KERNEL, MBIT, a_class, an_interface

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.model.aqm import CakeSettings
from shaper.model.match import ETHERTYPE_IPV4, Match, Packet, classify
from shaper.model.policy import STRICT, Backend, Direction, Tier, TrafficClass
from shaper.plan.diff import diff
from shaper.plan.impact import impacts
from shaper.policy import parse_policy
from shaper.tree import AckFilter, CakeOptions, EtsOptions, FlowMode, HtbClass, PrioOptions

KERNEL = replace(FULL_KERNEL, qdiscs=FULL_KERNEL.qdiscs | {"hfsc", "cake", "ets", "prio"})
EF, AF = Match(dscp=(46,)), Match(dscp=(34,))


def classes() -> list[TrafficClass]:
    return [
        a_class("calls", 2 * MBIT, 2 * MBIT, tier=Tier.SPECIAL, priority=STRICT, matches=(EF,)),
        a_class("video", 3 * MBIT, 20 * MBIT, tier=Tier.SPECIAL, matches=(AF,)),
        a_class("rest", 0, 20 * MBIT, default=True),
    ]


def compiled(backend: Backend, *, structure: bool = True) -> Program:
    return compile_interface(replace(an_interface(classes()), backend=backend), KERNEL, ETHERNET, structure=structure)


@pytest.mark.parametrize("structure", [True, False])
def test_on_htb_it_is_first_and_never_borrows(structure: bool) -> None:
    program = compiled(Backend.HTB, structure=structure)
    found = {cls.handle: cls for cls in program.tree.classes if isinstance(cls, HtbClass)}
    calls = found[program.handles["calls"]]
    assert (calls.rate, calls.ceil, calls.prio) == (2 * MBIT, 2 * MBIT, 0)
    others = {path: found[program.handles[path]].prio for path in ("network-control", "video", "rest")}
    assert others == ({"network-control": 1, "video": 1, "rest": 3} if structure else dict.fromkeys(others, 1))
    assert program.bounds["calls"].rate == program.bounds["calls"].ceil == (2 * MBIT, 2 * MBIT)


@pytest.mark.parametrize(("backend", "kind"), [(Backend.ETS, EtsOptions), (Backend.PRIO, PrioOptions)])
def test_on_bands_it_is_the_first_after_network_control(backend: Backend, kind: type) -> None:
    program = compiled(backend)
    root = program.tree.root()
    assert root is not None and isinstance(root.options, kind)
    assert sorted(program.handles, key=lambda path: program.handles[path]) == [
        "network-control",
        "calls",
        "video",
        "rest",
    ]
    if isinstance(root.options, EtsOptions):
        assert root.options.strict == 3


@pytest.mark.parametrize("backend", [Backend.HFSC, Backend.CAKE])
def test_who_serves_nobody_strictly_refuses(backend: Backend) -> None:
    with pytest.raises(UnavailableError, match="calls: "):
        compiled(backend)


def test_without_htb_auto_refuses_it_too() -> None:
    kernel = replace(KERNEL, qdiscs=KERNEL.qdiscs - {"htb"})
    with pytest.raises(UnavailableError, match="calls: hfsc has no priority"):
        compile_interface(an_interface(classes()), kernel, ETHERNET)


@pytest.mark.parametrize(("key", "rate"), [("limit: 10%", 2 * MBIT), ("guarantee: 3mbit", 3 * MBIT)])
def test_one_rate_is_both(key: str, rate: int) -> None:
    text = (
        "{version: 1, interfaces: {wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: p}}, "
        f"policies: {{p: {{classes: {{calls: {{priority: strict, {key}, match: [{{dscp: ef}}]}}, "
        "rest: {default: true}}}}}"
    )
    calls = parse_policy(text, source="p.yaml").interfaces[0].leaves()[1]
    assert (calls.guarantee, calls.floor, calls.limit) == (rate, rate, rate)
    assert calls.strict


SETTINGS = CakeSettings(
    FlowMode.DUAL_SRCHOST, 0.05, 4_000_000, True, True, AckFilter.FILTER, split_gso=False, fwmark=0xF0
)


def cake(direction: Direction = Direction.EGRESS) -> Program:
    rest = a_class("rest", 0, 20 * MBIT, default=True)
    interface = replace(an_interface([rest]), backend=Backend.CAKE, cake=SETTINGS, direction=direction)
    return compile_interface(interface, replace(KERNEL, actions=frozenset({"mirred"})), ETHERNET)


def test_cakes_settings_are_in_its_options() -> None:
    root = cake().tree.root()
    assert root is not None and isinstance(root.options, CakeOptions)
    options = root.options
    assert (options.flows, options.rtt, options.target) == (FlowMode.DUAL_SRCHOST, 50_000, 2_500)
    assert (options.memory, options.nat, options.wash, options.fwmark) == (4_000_000, True, True, 0xF0)
    assert (options.ack_filter, options.split_gso) == (AckFilter.FILTER, False)


def test_of_what_comes_in_the_hosts_are_turned_round() -> None:
    root = cake(Direction.INGRESS).tree.root()
    assert root is not None and isinstance(root.options, CakeOptions)
    assert root.options.flows is FlowMode.DUAL_DSTHOST


def test_a_mark_names_a_tin_as_the_kernel_numbers_them() -> None:
    text = (
        "{version: 1, interfaces: {wan: {device: eth1, bandwidth: {egress: 20mbit}, backend: cake, policy: p, "
        "cake: {fwmark: 0xf0}}}, policies: {p: {classes: {"
        "voice: {tier: special, match: [{dscp: [cs4, cs5, va, ef, cs6, cs7]}]}, "
        "video: {tier: priority, match: [{dscp: [4, cs2, 18, 20, 22, cs3, 26, 28, 30, 34, 36, 38]}]}, "
        "bulk: {match: [{dscp: [le, cs1]}]}, rest: {default: true}}}}}"
    )
    program = compile_interface(parse_policy(text, source="p.yaml").interfaces[0], KERNEL, ETHERNET)
    by_number = {handle & 0xFFFF: path for path, handle in program.handles.items()}
    for number in range(1, 5):
        packet = Packet(ETHERTYPE_IPV4, dscp=46, mark=number << 4 | 0xF00)
        assert classify(program.rules, packet) == by_number[number]
    assert classify(program.rules, Packet(ETHERTYPE_IPV4, dscp=46, mark=0x500)) == "voice"


def test_a_filter_that_tells_hosts_apart_costs_the_traffic_nothing() -> None:
    plain, fair = (
        compile_interface(
            an_interface([a_class("rest", 0, 20 * MBIT, default=True, **more)]), FULL_KERNEL, ETHERNET
        ).tree
        for more in ({}, {"fairness": FlowMode.SRCHOST})
    )
    for before, after in ((plain, fair), (fair, plain)):
        plan = diff(before, after, bounds={})
        assert len(plan.steps) == 1
        assert not impacts(plan)[0].disruptive
