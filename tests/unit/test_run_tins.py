"""CAKE's round trip as the controller's own field: kept by an apply, no drift inside its bounds, static at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from compile_samples import ETHERNET
from test_run_service import Bench, Watching

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.kernel.fake import FULL, FakeKernel
from shaper.plan import adopt_live, diff
from shaper.plan.fingerprint import fingerprint
from shaper.policy import parse_policy
from shaper.run import apply
from shaper.run.apply import Prepared
from shaper.run.look import look
from shaper.run.setups import setup_of
from shaper.run.state import DeviceState
from shaper.tree import CakeOptions, Tree

M = 10**6
TEXT = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, backend: cake, policy: office}
policies:
  office:
    classes:
      all: {default: true, sla: {delay-p95: 20ms}}
"""
SAID = TEXT.replace("cake,", "cake, cake: {rtt: 50ms},")
FASTER = TEXT.replace("20mbit", "30mbit")
MOVING = TEXT.replace(
    "bandwidth: {egress: 20mbit}",
    "bandwidth: {egress: {min: 5mbit, base: 20mbit, max: 25mbit}}, reflectors: {to: [192.0.2.1]}",
)


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel("eth1", capabilities=FULL)


@pytest.fixture
def state(tmp_path: Path) -> DeviceState:
    return DeviceState(tmp_path, "eth1")


def prepared(kernel: FakeKernel, state: DeviceState, text: str = TEXT, **how: bool) -> Prepared:
    policy = parse_policy(text, source="office.yaml")
    return apply.prepare(kernel, state, policy, policy.interfaces[0], **how)


def compiled(text: str) -> Program:
    return compile_interface(parse_policy(text, source="office.yaml").interfaces[0], FULL, ETHERNET)


def aimed(program: Program, target: int, *, link: int | None = None) -> Tree:
    """The tree after the controller has moved the target, in microseconds, and perhaps the link."""
    return program.with_allocation(
        {path: replace(grant, target=target) for path, grant in program.static.items()}, link=link
    )


def held(kernel: FakeKernel) -> tuple[int, int, int]:
    """Rate in bit/s, round trip and target in microseconds."""
    root = kernel.read("eth1").root()
    assert root is not None and isinstance(root.options, CakeOptions)
    return root.options.rate, root.options.rtt, root.options.target


def test_a_round_trip_that_was_moved_stays_until_the_policy_says_one(kernel: FakeKernel, state: DeviceState) -> None:
    apply.apply(kernel, state, prepared(kernel, state))
    program = prepared(kernel, state).program
    (step,) = diff(program.tree, aimed(program, 2_048), bounds={}).steps
    kernel.send("eth1", [step])
    assert held(kernel) == (20 * M, 40_960, 2_048)
    assert program.allocation_in(kernel.read("eth1"))["all"].target == 2_048
    assert not prepared(kernel, state).plan.steps
    (back,) = prepared(kernel, state, keep_live=False).plan.steps  # as a rollback to the static allocation
    assert back.after == program.tree.root()
    status = look(kernel, state, now=0.0)
    assert not status.drift
    assert status.classes[0].granted.target == 2_048
    assert "holds no static allocation" in status.alarms[0]

    apply.apply(kernel, state, prepared(kernel, state, FASTER))
    assert held(kernel) == (30 * M, 40_960, 2_048)
    apply.apply(kernel, state, prepared(kernel, state, SAID))
    assert held(kernel) == (20 * M, 50_000, 2_500)
    apply.apply(kernel, state, prepared(kernel, state))
    assert held(kernel) == (20 * M, 100_000, 5_000)


@pytest.mark.parametrize(("target", "rtt"), [(512, 10_240), (2_048, 100_000), (5_000, 40_000), (6_016, 120_320)])
def test_what_is_out_of_bounds_or_does_not_go_together_is_drift(
    kernel: FakeKernel, state: DeviceState, target: int, rtt: int
) -> None:
    apply.apply(kernel, state, prepared(kernel, state))
    root = kernel.read("eth1").root()
    assert root is not None and isinstance(root.options, CakeOptions)
    wrong = replace(root, options=root.options._replace(target=target, rtt=rtt))
    kernel.put("eth1", wrong)
    (drift,) = look(kernel, state, now=0.0).drift
    assert "rtt" in drift
    apply.apply(kernel, state, prepared(kernel, state, keep_live=False))
    assert held(kernel) == (20 * M, 100_000, 5_000)


@pytest.mark.parametrize("text", [TEXT, MOVING])
def test_a_saved_plan_does_not_mind_what_was_moved_meanwhile(text: str) -> None:
    program = compiled(text)
    bounds = program.field_bounds()
    moved = aimed(program, 1_536, link=8 * M if text is MOVING else None)
    assert fingerprint(moved, bounds) == fingerprint(program.tree, bounds)
    assert adopt_live(moved, program.tree, bounds=bounds) == moved
    outside = aimed(program, 640)
    assert fingerprint(outside, bounds) != fingerprint(program.tree, bounds)
    assert adopt_live(outside, program.tree, bounds=bounds) == program.tree


def test_the_link_moves_and_the_round_trip_stays_where_it_was() -> None:
    program = compiled(MOVING)
    moved = aimed(program, 1_536, link=8 * M)
    assert program.link_in(moved) == 8 * M
    assert program.allocation_in(moved)["all"].target == 1_536
    faster = program.with_allocation(program.allocation_in(moved), link=12 * M)
    assert (program.link_in(faster), program.allocation_in(faster)["all"].target) == (12 * M, 1_536)


def test_a_record_of_a_shaper_that_moved_no_round_trip(kernel: FakeKernel, state: DeviceState) -> None:
    apply.apply(kernel, state, prepared(kernel, state))
    record = state.record()
    assert record is not None
    state.write_record(replace(record, static={path: [*grant[:3], 0] for path, grant in record.static.items()}))
    assert not prepared(kernel, state).plan.steps


def test_what_the_law_knows_of_it() -> None:
    setup = setup_of(compiled(TEXT))
    assert setup.tins
    assert not setup_of(compiled(TEXT.replace("backend: cake, ", ""))).tins


def test_what_a_run_has_moved_is_told_and_static_again_once_it_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.kernel, bench.policy = FakeKernel("eth1", capabilities=FULL), parse_policy(TEXT, source="office.yaml")
    told: list[tuple[int, str, tuple[str, ...]]] = []

    def moves() -> None:
        (status,) = watcher.statuses
        told.append((status.classes[0].granted.target, status.controller.held, status.drift))
        run = next(iter(bench.service._fleet))
        if len(told) == 1:
            run._holding.send(aimed(run._holding.program, 2_048))
            run.loop.controlling.resume()
        if len(told) == 4:
            bench.stop()

    watcher = Watching(moves)
    bench.serve(watcher)
    first, *later = [target for target, _, _ in told]
    assert (first, set(later)) == (5_000, {2_048})
    assert not any(drift for _, _, drift in told)
    assert all(why.startswith("capture not trusted") for _, why, _ in told), "the fake has no packets"
    assert held(bench.kernel) == (20 * M, 100_000, 5_000)
