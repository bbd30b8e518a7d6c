"""The nftables table is one more thing of ours: applied, compared, put back, taken back and cleared with the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from change_samples import NEW, OLD, Desk, die_everywhere
from nat_samples import TRANSLATES

from shaper.errors import ShaperError
from shaper.kernel.fake import FULL, FakeKernel
from shaper.kernel.protocol import StepError
from shaper.plan.codec import tree_from_json, tree_to_json
from shaper.plan.drift import differences
from shaper.plan.impact import impacts
from shaper.policy import parse_policy
from shaper.run.apply import plan_clear
from shaper.run.look import look
from shaper.run.prepare import prepare
from shaper.tree import MarkTable

INSIDE = NEW.replace("[{dscp: af41}]", "[{src: 10.0.0.0/24}]").replace("policy: office}", "policy: office, nat: yes}")
OTHER = INSIDE.replace("10.0.0.0/24", "10.0.0.0/16")
FOREIGN = MarkTable("sla-shaper-eth2", (), ())


def test_a_table_comes_with_its_policy_and_goes_with_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.kernel.put("eth2", FOREIGN)
    old = desk.apply(OLD)
    assert not old.tables
    inside = desk.apply(INSIDE)
    assert [table.name for table in inside.tables] == ["sla-shaper-eth1"]
    assert desk.apply(OTHER).tables != inside.tables
    assert desk.apply(INSIDE) == inside
    assert desk.apply(OLD) == old
    assert desk.rollback() == inside
    assert not desk.clear().nodes()
    assert desk.kernel.tables("eth2") == (FOREIGN,)


def test_auto_is_as_the_machine_is(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    text = INSIDE.replace(", nat: yes", "")
    assert not desk.apply(text).tables
    desk.kernel.remove_device("eth1")
    desk.kernel.add_device("eth1", replace(TRANSLATES, name="eth1"))
    assert desk.apply(text).tables
    assert not desk.apply(text.replace("policy: office", "policy: office, nat: no")).tables


def test_what_somebody_did_to_the_table_is_named_and_mended(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    whole = desk.apply(INSIDE)
    (table,) = whole.tables
    desk.kernel.put("eth1", replace(table, chains=()))
    (found,) = differences(desk.held(), whole)
    assert found.startswith("nftables table inet sla-shaper-eth1: rules is 0 with ")
    assert "nftables table inet sla-shaper-eth1" in look(desk.kernel, desk.state, now=desk.now).alarms[0]
    assert desk.apply(INSIDE) == whole
    desk.kernel.forget_table("sla-shaper-eth1")
    assert differences(desk.held(), whole) == ("nftables table inet sla-shaper-eth1 is gone",)
    assert desk.apply(INSIDE) == whole


@pytest.mark.slow
def test_killed_at_any_step_it_is_before_or_after(tmp_path: Path) -> None:
    number = 0

    def fresh() -> Desk:
        nonlocal number
        number += 1
        desk = Desk(tmp_path / str(number))
        desk.apply(OLD)
        return desk

    first = fresh()
    old, inside = first.held(), first.apply(INSIDE)
    for _, desk in die_everywhere(lambda on: on[0].apply(INSIDE, kernel=on[1]), fresh):
        desk.tidy()
        desk.assert_whole(old, inside)
        assert desk.apply(INSIDE) == inside


def test_a_refused_step_takes_the_table_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    old = desk.apply(OLD)
    steps = len(prepared(desk, INSIDE).plan.steps)
    for at in range(steps):
        desk.kernel.fail_at(at, 12)
        with pytest.raises(StepError):
            desk.apply(INSIDE)
        assert desk.held() == old


def test_the_table_of_a_device_that_went_is_cleared(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.apply(INSIDE)
    desk.kernel.remove_device("eth1")
    assert desk.kernel.tables("eth1")
    (step,) = plan_clear(desk.kernel, desk.state).steps
    assert isinstance(step.node, MarkTable)
    desk.tidy()
    with pytest.raises(ShaperError):
        desk.held()
    desk.kernel.add_device("eth3")


def test_a_kernel_without_nftables_is_named_with_the_line(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.kernel = FakeKernel("eth1", capabilities=replace(FULL, features=frozenset()))
    with pytest.raises(ShaperError, match="lacks nftables with connection tracking") as error:
        desk.apply(INSIDE)
    assert error.value.where is not None
    assert (error.value.where.line, error.value.where.column) == (8, 41)


def test_an_edit_of_the_inside_is_not_atomic_and_says_so(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    fresh = prepared(desk, INSIDE).plan
    assert not any("not atomic" in impact.reason for impact in impacts(fresh))
    desk.apply(INSIDE)
    plan = prepared(desk, OTHER).plan
    assert [impact.reason[:10] for step, impact in zip(plan.steps, impacts(plan), strict=True)
            if isinstance(step.node, MarkTable)] == ["not atomic"]  # fmt: skip


def test_a_tree_with_a_table_in_a_file(tmp_path: Path) -> None:
    held = Desk(tmp_path).apply(INSIDE)
    assert tree_from_json(json.loads(json.dumps(tree_to_json(held)))) == held


def prepared(desk: Desk, text: str):  # type: ignore[no-untyped-def]
    policy = parse_policy(text, source="office.yaml")
    return prepare(desk.kernel, desk.state, policy, policy.interfaces[0])
