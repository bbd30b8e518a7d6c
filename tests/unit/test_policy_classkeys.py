"""Class keys beyond rates: profiles held against the bound they stand on, bursts, priorities and the grid of grants."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from compile_samples import ETHERNET, MBIT, SMALL_KERNEL, VETH, a_class, an_interface
from hypothesis import assume, given
from hypothesis import strategies as st

from shaper.compile import compile_interface
from shaper.control.setup import ClassSetup, setup_from
from shaper.errors import PolicyError, UnavailableError
from shaper.model.decision import Bounds, Grant
from shaper.model.policy import Burst, Tier
from shaper.model.service import SERVICE_CLASSES
from shaper.model.sla import Sla
from shaper.policy import parse_policy
from shaper.policy.names import DSCP_NAMES
from shaper.tree import HtbClass, ticks_to_bytes


def policy_of(cls: str, bandwidth: int = 100_000) -> str:
    return (
        f"version: 1\ninterfaces: {{wan: {{device: eth1, bandwidth: {{egress: {bandwidth}kbit}}, policy: p}}}}\n"
        f"policies: {{p: {{classes: {{a: {{{cls}, match: [{{dscp: ef}}]}}, rest: {{default: true}}}}}}}}\n"
    )


def profiled(guarantee: str, cbs: int, delay: int) -> str:
    return policy_of(f"guarantee: {guarantee}, profile: {{cir: 64kbit, cbs: {cbs}b}}, sla: {{delay-p99: {delay}us}}")


@given(guarantee=st.integers(64, 90_000), cbs=st.integers(1, 200_000), delay=st.integers(1, 1_000_000))
def test_the_guarantee_that_is_named_does(guarantee: int, cbs: int, delay: int) -> None:
    try:
        parse_policy(profiled(f"{guarantee}kbit", cbs, delay), source="p.yaml")
    except PolicyError as error:
        (problem,) = error.problems()
        assert problem.kind == "profile-infeasible"
        named = re.match(r"a guarantee of (\S+?)( would do| would do,.*)$", problem.hint)
        assume(named is not None and "more than the link" not in problem.hint)
        assert named is not None
        try:
            parse_policy(profiled(named[1], cbs, delay), source="p.yaml")
        except PolicyError as again:  # the guarantee fits the profile, though perhaps not beside network control
            assert {one.kind for one in again.problems()} == {"guarantees-exceed-bandwidth"}
        if burst := re.search(r"a burst of (\d+)b", problem.hint):
            assert parse_policy(profiled(f"{guarantee}kbit", int(burst[1]), delay), source="p.yaml").interfaces


def htb_class(**more: object) -> HtbClass:
    interface = an_interface([a_class("a", 2 * MBIT, 10 * MBIT, **more), a_class("rest", 0, 20 * MBIT, default=True)])
    program = compile_interface(interface, SMALL_KERNEL, ETHERNET)
    return next(cls for cls in program.tree.classes if cls.handle == program.handles["a"])


@given(st.integers(1, 6 * 10**7))
def test_a_burst_in_bytes_is_what_the_kernel_gets(size: int) -> None:
    cls = htb_class(burst=Burst(size=size), cburst=Burst(size=size))
    for count, rate in ((cls.burst, cls.rate), (cls.cburst, cls.ceil)):
        got = ticks_to_bytes(count, rate)
        assert max(1514, size) <= got <= max(1514, size) + rate * 64 // (8 * 10**9) + 1


@given(st.floats(0.000_001, 10))
def test_a_burst_in_time_is_that_of_its_rate(seconds: float) -> None:
    cls = htb_class(burst=Burst(seconds=seconds), cburst=Burst(seconds=seconds))
    for count, rate in ((cls.burst, cls.rate), (cls.cburst, cls.ceil)):
        got = ticks_to_bytes(count, rate)
        assert abs(got - max(1514, rate * seconds / 8)) <= rate * 64 / (8 * 10**9) + 2


def test_a_burst_that_the_clock_cannot_hold_is_refused() -> None:
    with pytest.raises(UnavailableError, match="too long for HTB's clock"):
        htb_class(burst=Burst(size=10**8))


def test_a_burst_holds_a_super_packet_where_they_reach_the_queue() -> None:
    interface = an_interface([a_class("a", 2 * MBIT, 10 * MBIT, burst=Burst(size=3000), default=True)])
    program = compile_interface(interface, SMALL_KERNEL, VETH)
    cls = next(cls for cls in program.tree.classes if cls.handle == program.handles["a"])
    assert ticks_to_bytes(cls.burst, cls.rate) >= VETH.super_packet


def test_a_priority_is_the_leafs_and_the_static_tree_has_none() -> None:
    assert htb_class().prio == int(Tier.STANDARD)
    assert htb_class(priority=6).prio == 6
    interface = an_interface([a_class("a", 2 * MBIT, 10 * MBIT, priority=6, default=True)])
    static = compile_interface(interface, SMALL_KERNEL, ETHERNET, structure=False)
    assert {cls.prio for cls in static.tree.classes} == {0}


def test_what_is_never_granted_beyond_bounds_the_controller() -> None:
    interface = an_interface([a_class("a", 2 * MBIT, 10 * MBIT, most=4 * MBIT, step=500_001, default=True)])
    program = compile_interface(interface, SMALL_KERNEL, ETHERNET)
    assert program.bounds["a"].rate == (2 * MBIT, 4 * MBIT)
    assert program.bounds["a"].ceil == (2 * MBIT, 10 * MBIT)
    setup = setup_from(interface, program.bounds, program.static)
    cls = next(cls for cls in setup.classes if cls.path == "a")
    assert (cls.highest, cls.step) == (4 * MBIT, 500_000)


rates = st.integers(1, 2_000_000).map(lambda size: size * 8)


@given(lowest=rates, guarantee=rates, highest=rates, step=st.integers(0, 200_000).map(lambda n: n * 8), rate=rates)
def test_a_grant_lies_on_the_grid_and_never_grows(
    lowest: int, guarantee: int, highest: int, step: int, rate: int
) -> None:
    lowest, guarantee, highest = sorted((lowest, guarantee, highest))
    bounds = Bounds((lowest, highest), (lowest, highest), (1000, 1000))
    cls = ClassSetup(
        "a", Tier.STANDARD, 1.0, guarantee, lowest, highest, Sla(), bounds, Grant(lowest, highest, 1000), step
    )
    rate = min(max(rate, lowest), highest)
    on_grid = cls.on_grid(rate)
    assert lowest <= on_grid <= rate
    assert rate - on_grid < max(step, 1)
    assert on_grid >= guarantee or rate < guarantee
    if step and on_grid not in (lowest, guarantee, highest):
        assert (on_grid - lowest) % step == 0
    assert cls.on_grid(on_grid) == on_grid
    stepped = cls.stepped(rate)
    assert rate <= stepped <= highest
    assert stepped - rate < max(step, 1)


@pytest.mark.parametrize("name", sorted(SERVICE_CLASSES))
def test_a_service_class_says_what_it_stands_for(name: str) -> None:
    limit = "limit: 25%, " if SERVICE_CLASSES[name].tier is Tier.SPECIAL else ""
    text = policy_of("share: 1%").replace("share: 1%, match: [{dscp: ef}]", f"{limit}service-class: {name}")
    interface = parse_policy(text, source="p.yaml").interfaces[0]
    cls = next(cls for cls in interface.classes if cls.path == "a")
    preset = SERVICE_CLASSES[name]
    assert (cls.service, cls.tier, cls.priority) == (name, preset.tier, preset.priority)
    assert [match.dscp for match in cls.matches] == [preset.dscp]
    notes = compile_interface(interface, SMALL_KERNEL, ETHERNET).notes
    assert any(note.startswith(f"a is {name} ({preset.source}), so: match {{dscp:") for note in notes)


def test_the_code_points_are_those_of_the_rfcs() -> None:
    """RFC 4594, figure 3; RFC 5865, section 4; RFC 8622, section 10."""
    wanted = {
        "network-control": "cs6", "telephony": "ef", "signaling": "cs5", "multimedia-conferencing": "af41 af42 af43",
        "real-time-interactive": "cs4", "multimedia-streaming": "af31 af32 af33", "broadcast-video": "cs3",
        "low-latency-data": "af21 af22 af23", "oam": "cs2", "high-throughput-data": "af11 af12 af13",
        "standard": "df", "low-priority-data": "cs1", "lower-effort": "le", "voice-admit": "va",
    }  # fmt: skip
    found = {name: preset.dscp for name, preset in SERVICE_CLASSES.items()}
    assert found == {name: tuple(DSCP_NAMES[dscp] for dscp in names.split()) for name, names in wanted.items()}


def test_queuing_and_aqm_are_those_of_rfc_4594() -> None:
    """Figure 4: telephony alone is queued by priority, and in four classes (with RFC 5865's, five) no AQM drops."""
    assert {name for name, preset in SERVICE_CLASSES.items() if preset.tier is Tier.SPECIAL} == {
        "telephony", "voice-admit",
    }  # fmt: skip
    assert {name for name, preset in SERVICE_CLASSES.items() if not preset.managed} == {
        "telephony", "voice-admit", "signaling", "real-time-interactive", "broadcast-video",
    }  # fmt: skip


def test_explicit_keys_win() -> None:
    text = policy_of("service-class: telephony, tier: priority, priority: 1, aqm: fq_codel, sla: {loss: 1%}")
    cls = parse_policy(text, source="p.yaml").interfaces[0].classes[1]
    assert (cls.tier, cls.priority, cls.sla.loss, cls.presets) == (Tier.PRIORITY, 1, 0.01, ())
    assert replace(cls, service="").presets == ()
