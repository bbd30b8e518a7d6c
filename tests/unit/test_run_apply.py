"""Applying to the verified fake: before or after, never between; and never somebody else's."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shaper.errors import Exit, ShaperError, UnavailableError
from shaper.kernel.fake import FakeKernel, Killed
from shaper.kernel.protocol import StepError
from shaper.model.decision import Grant
from shaper.model.policy import Policy
from shaper.plan import diff
from shaper.plan.steps import Step
from shaper.policy import parse_policy
from shaper.run import apply
from shaper.run.apply import Prepared
from shaper.run.look import look
from shaper.run.state import DeviceState
from shaper.tree import CLSACT, CLSACT_HANDLE, ROOT, HtbOptions, Qdisc, Tree, tree

TEXT = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
policies:
  office:
    classes:
      voice:
        tier: special
        guarantee: 1mbit
        limit: 2mbit
        match: [{dscp: ef}]
        sla: {delay-p99: 20ms}
      rest: {guarantee: 12mbit, adapt: {min: 2mbit}, default: true}
"""
WIDER = TEXT.replace("voice:", "video: {guarantee: 3mbit, match: [{dscp: af41}]}\n      voice:").replace(
    "limit: 2mbit", "limit: 3mbit"
)
FLOWER, FLOWER_WIDER = (
    text.replace("policy: office}", "policy: office, classifier: flower}") for text in (TEXT, WIDER)
)
EMPTY = tree("eth1", ())


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel("eth1")


@pytest.fixture
def state(tmp_path: Path) -> DeviceState:
    return DeviceState(tmp_path, "eth1")


def prepared(kernel: FakeKernel, state: DeviceState, text: str = TEXT, **how: bool) -> Prepared:
    policy: Policy = parse_policy(text, source="office.yaml")
    return apply.prepare(kernel, state, policy, policy.interfaces[0], **how)


def applied(kernel: FakeKernel, state: DeviceState, text: str = TEXT) -> Tree:
    apply.apply(kernel, state, prepared(kernel, state, text))
    return kernel.read("eth1")


def test_planning_changes_nothing(kernel: FakeKernel, state: DeviceState) -> None:
    assert prepared(kernel, state).plan.steps
    assert not kernel.sent
    assert not state.folder.exists()


def test_a_second_apply_sends_nothing(kernel: FakeKernel, state: DeviceState) -> None:
    held = applied(kernel, state)
    sent = len(kernel.sent)
    assert not prepared(kernel, state).plan.steps
    assert applied(kernel, state) == held
    assert len(kernel.sent) == sent


def test_clear_leaves_the_device_as_it_was_found(kernel: FakeKernel, state: DeviceState) -> None:
    applied(kernel, state)
    apply.clear(kernel, state)
    assert kernel.read("eth1") == EMPTY
    assert state.record() is None
    assert not apply.clear(kernel, state).steps


class Interrupted:
    """A kernel during whose step a signal comes: an exception from the handler, as Python delivers it."""

    def __init__(self, kernel: FakeKernel, at: int) -> None:
        self._kernel = kernel
        self._at = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def send(self, device: str, steps: Sequence[Step]) -> None:
        for step in steps:
            self._kernel.send(device, [step])
            self._at -= 1
            if self._at == -1:
                raise KeyboardInterrupt


def steps_of(kernel: FakeKernel, state: DeviceState, text: str) -> int:
    return len(prepared(kernel, state, text).plan.steps)


@pytest.mark.parametrize("first", ["", TEXT], ids=["fresh", "over another policy"])
@pytest.mark.parametrize("how", ["error", "signal", "killed"])
def test_at_every_step_it_is_before_or_after(tmp_path: Path, first: str, how: str) -> None:
    before_or_after(tmp_path, first, WIDER, how)


@pytest.mark.slow
@pytest.mark.parametrize("first", [FLOWER, TEXT], ids=["flower", "bpf"])
@pytest.mark.parametrize("how", ["error", "killed"])
def test_at_every_step_of_flower_it_is_before_or_after(tmp_path: Path, first: str, how: str) -> None:
    before_or_after(tmp_path, first, FLOWER_WIDER, how)


def before_or_after(tmp_path: Path, first: str, then: str, how: str) -> None:
    probe, scratch = FakeKernel("eth1"), DeviceState(tmp_path / "probe", "eth1")
    if first:
        applied(probe, scratch, first)
    count = steps_of(probe, scratch, then)
    assert count >= 3
    for at in range(count):
        kernel, state = FakeKernel("eth1"), DeviceState(tmp_path / f"{at}", "eth1")
        before = applied(kernel, state, first) if first else EMPTY
        record = state.record()
        change = prepared(kernel, state, then)
        if how == "error":
            kernel.fail_at(at, errno.EINVAL)
            with pytest.raises(StepError):
                apply.apply(kernel, state, change)
        elif how == "signal":
            with pytest.raises(KeyboardInterrupt):
                apply.apply(Interrupted(kernel, at), state, change)
        else:
            kernel.die_at(at)
            with pytest.raises(Killed):
                apply.apply(kernel, state, change)
            kernel.revive()
            assert state.pending() is not None
            if first:
                assert any("killed" in alarm for alarm in look(kernel, state, now=0.0).alarms)
            assert apply.recover(kernel, state) is not None
        assert kernel.read("eth1") == before
        assert state.pending() is None
        assert state.record() == record
        applied(kernel, state, then)
        assert not steps_of(kernel, state, then)


@pytest.mark.slow
def test_clear_killed_at_every_step_is_taken_back(tmp_path: Path) -> None:
    probe, scratch = FakeKernel("eth1"), DeviceState(tmp_path / "probe", "eth1")
    applied(probe, scratch)
    for at in range(len(apply.plan_clear(probe, scratch).steps)):
        kernel, state = FakeKernel("eth1"), DeviceState(tmp_path / f"{at}", "eth1")
        before = applied(kernel, state)
        kernel.die_at(at)
        with pytest.raises(Killed):
            apply.clear(kernel, state)
        kernel.revive()
        apply.recover(kernel, state)
        assert kernel.read("eth1") == before
        apply.clear(kernel, state)
        assert kernel.read("eth1") == EMPTY


def test_a_plan_after_a_kill_reckons_with_the_taking_back(kernel: FakeKernel, state: DeviceState) -> None:
    kernel.die_at(2)
    with pytest.raises(Killed):
        applied(kernel, state)
    kernel.revive()
    again = prepared(kernel, state)
    assert any("taken back first" in note for note in again.program.notes)
    assert again.mine == EMPTY


@pytest.mark.parametrize(
    "foreign",
    [Qdisc(0x00010000, ROOT, "htb", HtbOptions(0x10)), Qdisc(0x5A000000, ROOT, "htb", HtbOptions(0x10))],
    ids=["another's", "ours without a record"],
)
def test_a_foreign_root_is_refused_with_the_policy_line(kernel: FakeKernel, state: DeviceState, foreign: Qdisc) -> None:
    kernel.put("eth1", foreign)
    before = kernel.read("eth1")
    with pytest.raises(UnavailableError) as caught:
        applied(kernel, state)
    assert caught.value.exit is Exit.UNAVAILABLE
    assert caught.value.where is not None
    assert caught.value.where.line == 3
    assert "tc qdisc del" in caught.value.hint
    apply.clear(kernel, state)
    assert kernel.read("eth1") == before


def test_a_foreign_hook_is_left_alone_and_delay_is_no_data(kernel: FakeKernel, state: DeviceState) -> None:
    hook = Qdisc(CLSACT_HANDLE, CLSACT, "clsact")
    kernel.put("eth1", hook)
    change = prepared(kernel, state)
    assert change.program.tap == ""
    assert any("somebody else's" in note for note in change.program.notes)
    apply.apply(kernel, state, change)
    assert not steps_of(kernel, state, TEXT)
    apply.clear(kernel, state)
    assert kernel.read("eth1").qdiscs == (hook,)


def test_a_missing_device_and_a_missing_permission_name_the_line(kernel: FakeKernel, state: DeviceState) -> None:
    with pytest.raises(UnavailableError) as caught:
        prepared(FakeKernel("eth7"), state)
    assert caught.value.where is not None
    kernel.deny()
    with pytest.raises(ShaperError) as denied:
        applied(kernel, state)
    assert denied.value.exit is Exit.NOT_PERMITTED
    assert denied.value.where == caught.value.where
    assert state.pending() is None


def test_an_apply_keeps_the_live_allocation_where_it_fits(kernel: FakeKernel, state: DeviceState) -> None:
    applied(kernel, state)
    program = prepared(kernel, state).program
    moved = {**program.static, "rest": replace(program.static["rest"], rate=9_000_000)}
    kernel.send("eth1", diff(program.tree, program.with_allocation(moved), bounds={}).steps)
    assert not prepared(kernel, state).plan.steps
    assert prepared(kernel, state, keep_live=False).plan.steps
    kept = prepared(kernel, state, WIDER)
    apply.apply(kernel, state, kept)
    grants = kept.program.allocation_in(kernel.read("eth1"))
    assert grants["rest"].rate == 9_000_000
    assert isinstance(grants["voice"], Grant)


def test_a_new_limit_is_in_force_though_the_rate_was_moved(kernel: FakeKernel, state: DeviceState) -> None:
    """Of a leaf's fields those that the controller moved are its own, and no others."""
    applied(kernel, state)
    program = prepared(kernel, state).program
    moved = {**program.static, "voice": replace(program.static["voice"], rate=1_200_000)}
    kernel.send("eth1", diff(program.tree, program.with_allocation(moved), bounds={}).steps)
    wider = prepared(kernel, state, TEXT.replace("limit: 2mbit", "limit: 3mbit"))
    apply.apply(kernel, state, wider)
    voice = wider.program.allocation_in(kernel.read("eth1"))["voice"]
    assert (voice.rate, voice.ceil) == (1_200_000, 3_000_000)


def test_a_target_that_was_moved_stays_until_the_policy_says_one(kernel: FakeKernel, state: DeviceState) -> None:
    applied(kernel, state)
    program = prepared(kernel, state).program
    assert program.bounds["voice"].target == (1_024, 4_992)
    moved = {**program.static, "voice": replace(program.static["voice"], target=2_048)}
    kernel.send("eth1", diff(program.tree, program.with_allocation(moved), bounds={}).steps)
    assert not prepared(kernel, state).plan.steps
    (back,) = prepared(kernel, state, keep_live=False).plan.steps  # as a rollback to the static allocation
    assert back.after == program.tree.leaf_of(program.handles["voice"])
    status = look(kernel, state, now=0.0)
    assert not status.drift
    assert "holds no static allocation" in status.alarms[0]

    def target(of: Prepared) -> int:
        apply.apply(kernel, state, of)
        return of.program.allocation_in(kernel.read("eth1"))["voice"].target

    assert target(prepared(kernel, state, WIDER)) == 2_048
    assert target(
        prepared(kernel, state, TEXT.replace("tier: special", "tier: special\n        aqm: {target: 3ms}"))
    ) == (2_944)
    assert target(prepared(kernel, state, TEXT)) == 4_992
    outside = {**program.static, "voice": replace(program.static["voice"], target=512)}
    kernel.send("eth1", diff(program.tree, program.with_allocation(outside), bounds={}).steps)
    (drift,) = look(kernel, state, now=0.0).drift
    assert "target" in drift
    assert target(prepared(kernel, state)) == 4_992


def test_a_record_of_a_shaper_that_moved_no_target_says_nothing_of_it(kernel: FakeKernel, state: DeviceState) -> None:
    applied(kernel, state)
    record = state.record()
    assert record is not None
    state.write_record(replace(record, static={path: grant[:3] for path, grant in record.static.items()}))
    assert not prepared(kernel, state).plan.steps
    program = prepared(kernel, state).program
    moved = {**program.static, "rest": replace(program.static["rest"], rate=9_000_000)}
    kernel.send("eth1", diff(program.tree, program.with_allocation(moved), bounds={}).steps)
    assert not prepared(kernel, state).plan.steps


def test_by_flower_and_back_leaves_the_same_and_clear_leaves_nothing(kernel: FakeKernel, state: DeviceState) -> None:
    first, flower = applied(kernel, state), applied(kernel, state, FLOWER)
    assert {type(one).__name__ for one in flower.filters} == {"BpfFilter", "FlowerFilter"}  # the tap stays
    assert not steps_of(kernel, state, FLOWER)
    assert applied(kernel, state, FLOWER_WIDER) != flower
    assert applied(kernel, state, FLOWER) == flower
    assert applied(kernel, state) == first
    applied(kernel, state, FLOWER)
    apply.clear(kernel, state)
    assert kernel.read("eth1") == EMPTY


def test_a_policy_and_back_leaves_the_same(kernel: FakeKernel, state: DeviceState) -> None:
    first = applied(kernel, state)
    assert applied(kernel, state, TEXT.replace("12mbit", "11mbit").replace("2mbit}", "3mbit}")) != first
    assert applied(kernel, state) == first


def test_what_somebody_changed_is_seen(kernel: FakeKernel, state: DeviceState) -> None:
    held = applied(kernel, state)
    assert not look(kernel, state, now=0.0).alarms
    missing = tree("eth1", [node for node in held.nodes() if node.key != held.filters[-1].key])
    kernel.send("eth1", diff(held, missing, bounds={}).steps)
    assert look(kernel, state, now=0.0).alarms
