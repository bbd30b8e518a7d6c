"""CAKE, ETS and prio: what a policy becomes on them, and CAKE's tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compile_samples import ETHERNET, FULL_KERNEL

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.errors import ShaperError, UnavailableError
from shaper.model.cake import TINS, dscp_sets, fit, nearest
from shaper.model.match import Packet, classify
from shaper.model.policy import Backend
from shaper.policy import parse_policy
from shaper.tree import CakeOptions, Capabilities, Diffserv, EtsOptions, PrioOptions

TOP = 0x5A000000
KERNEL = replace(FULL_KERNEL, qdiscs=FULL_KERNEL.qdiscs | {"cake", "ets", "prio"})
VOICE, VIDEO = "[cs4, cs5, va, ef, cs6, cs7]", "[4, cs2, 18, 20, 22, cs3, 26, 28, 30, 34, 36, 38]"
TINNED = f"""
      video: {{tier: priority, match: [{{dscp: {VIDEO}}}]}}
      voice: {{tier: special, guarantee: 20%, match: [{{dscp: {VOICE}}}], sla: {{delay-p99: 10ms}}}}
      bulk: {{match: [{{dscp: [le, cs1]}}]}}
      rest: {{default: true}}
"""
ORDERED = """
      web: {share: 75%, match: [{proto: tcp, dport: 443}]}
      voice: {tier: special, match: [{dscp: ef}]}
      rest: {share: 25%, default: true}
"""
STRICT = """
      web: {tier: priority, match: [{proto: tcp, dport: 443}]}
      voice: {tier: special, match: [{dscp: ef}]}
      rest: {default: true}
"""


def compiled(backend: str, classes: str, capabilities: Capabilities = KERNEL) -> Program:
    head = f"{{device: eth1, bandwidth: {{egress: 20mbit}}, policy: p, backend: {backend}}}"
    text = f"version: 1\ninterfaces:\n  wan: {head}\npolicies:\n  p:\n    classes:{classes}"
    return compile_interface(parse_policy(text, source="p.yaml").interfaces[0], capabilities, ETHERNET)


def test_cake_is_one_qdisc_with_the_link_as_its_shaper_and_a_class_for_each_tin() -> None:
    program = compiled("cake", TINNED)
    (root, _clsact) = sorted(program.tree.qdiscs, key=lambda one: one.kind)
    assert (root.handle, root.options) == (TOP, CakeOptions(20_000_000, Diffserv.DIFFSERV4))
    # As the kernel shows them: bulk, best effort, video, voice.
    assert {path: number - TOP for path, number in program.handles.items()} == {
        "video": 3,
        "voice": 4,
        "bulk": 1,
        "rest": 2,
    }
    assert program.static["voice"].rate == program.bounds["voice"].rate[0] == 5_000_000
    assert program.tree.classes == ()
    assert any("voice is voice (first up to 5mbit)" in note for note in program.notes)


CALM = TINNED.replace(", sla: {delay-p99: 10ms}", "")


@pytest.mark.parametrize(
    ("classes", "more", "targets"),
    [
        (TINNED, "", (1_024, 5_000)),
        (CALM, "", (5_000, 5_000)),  # no delay that a shorter one would be for
        (TINNED, ", cake: {rtt: 30ms}", (1_500, 1_500)),  # as the policy says
    ],
)
def test_the_round_trip_of_cake_moves_where_a_delay_is_promised_and_none_is_said(
    classes: str, more: str, targets: tuple[int, int]
) -> None:
    program = compiled(f"cake{more}", classes)
    assert {bounds.target for bounds in program.bounds.values()} == {targets}
    assert program.movable == (targets[0] < targets[1])
    assert program.allocation_in(program.tree) == program.static
    assert program.with_allocation(program.static) == program.tree
    shorter = {path: replace(grant, target=targets[0]) for path, grant in program.static.items()}
    moved = program.with_allocation(shorter)
    assert program.allocation_in(moved) == shorter
    root = moved.root()
    assert root is not None and isinstance(root.options, CakeOptions)
    assert (root.options.target, root.options.rtt) == (targets[0], 20 * targets[0])


def test_the_rules_of_cake_are_its_own() -> None:
    rules = compiled("cake", TINNED).rules
    assert classify(rules, Packet(0x0806)) == "voice"  # ARP counts as CS7
    assert classify(rules, Packet(0x88CC)) == "rest"
    for dscp in range(64):
        tin = TINS[Diffserv.DIFFSERV4].tin_of[dscp]
        assert classify(rules, Packet(0x86DD, dscp=dscp)) == ("rest", "bulk", "video", "voice")[tin]


@pytest.mark.parametrize("way", TINS)
def test_every_way_to_sort_fits_itself_and_no_other(way: Diffserv) -> None:
    tins = TINS[way]
    sets = {name: tins.dscps(tin) for tin, name in enumerate(tins.names)}
    found = fit(sets)
    assert found is not None and (found.diffserv, [found.tins[name] for name in tins.names]) == (
        way,
        list(range(len(tins.names))),
    )
    assert sum(len(dscps) for dscps in sets.values()) == 64
    assert sum(tins.kept(tin) for tin in range(len(tins.names))) <= 1.0
    assert nearest(sets) == found
    assert dscp_sets(found.rules(), sets) == sets
    if len(sets) > 1:
        moved = dict(sets)
        first, second = tins.names[:2]
        taken = min(sets[first])
        moved[first], moved[second] = sets[first] - {taken}, sets[second] | {taken}
        assert fit(moved) is None


def test_what_each_tin_is_sure_of() -> None:
    assert [TINS[Diffserv.DIFFSERV4].kept(tin) for tin in range(4)] == [3 / 16, 1 / 16, 1 / 2, 1 / 4]
    assert [TINS[Diffserv.DIFFSERV3].kept(tin) for tin in range(3)] == [11 / 16, 1 / 16, 1 / 4]
    assert TINS[Diffserv.DIFFSERV8].kept(0) == 0


def test_ets_has_strict_bands_and_then_turns_by_share() -> None:
    program = compiled("ets", ORDERED)
    root = program.tree.root()
    assert root is not None
    options = root.options
    assert isinstance(options, EtsOptions)
    assert (options.bands, options.strict, options.quanta[:2]) == (16, 2, (3 * 1514, 1514))
    assert {path: number - TOP for path, number in program.handles.items()} == {
        "network-control": 1,
        "voice": 2,
        "web": 3,
        "rest": 4,
    }
    assert options.priomap == (3,) * 16
    assert {one.parent - TOP for one in program.tree.qdiscs if one.kind == "fq_codel"} == {1, 2, 3, 4}
    assert [one.kind for one in program.tree.nodes() if hasattr(one, "kind")][1] == "ets", "before what stands on it"


def test_prio_has_strict_bands_only() -> None:
    program = compiled("prio", STRICT)
    root = program.tree.root()
    assert root is not None and root.options == PrioOptions(16, (3,) * 16)
    order = sorted(program.handles, key=lambda path: program.handles[path])
    assert order == ["network-control", "voice", "web", "rest"]
    assert any("can starve all after it" in note for note in program.notes)
    assert not program.movable


@pytest.mark.parametrize(("backend", "classes"), [("cake", TINNED), ("ets", ORDERED), ("prio", STRICT)])
def test_a_kernel_without_it_is_refused(backend: str, classes: str) -> None:
    with pytest.raises(UnavailableError, match=f"lacks the {backend} qdisc"):
        compiled(backend, classes, FULL_KERNEL)


def test_cake_needs_no_classifier() -> None:
    assert compiled("cake", TINNED, replace(KERNEL, filters=frozenset())).tree.root() is not None


def test_classes_that_are_no_tins_are_refused_here_too() -> None:
    program = compiled("ets", ORDERED)
    with pytest.raises(ShaperError, match="are not CAKE's tins"):
        compile_interface(replace(program.interface, backend=Backend.CAKE), KERNEL, ETHERNET)
