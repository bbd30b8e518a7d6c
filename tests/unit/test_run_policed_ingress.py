"""Applying what polices what comes in, on the verified fake: beside the other direction, from a queue and back."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from test_run_directions import OUT, TEXT, World

from shaper.cli import adopt as adopting
from shaper.errors import UnavailableError
from shaper.kernel.fake import Killed
from shaper.kernel.protocol import StepError, VerdictCounters
from shaper.model.policy import Direction
from shaper.plan.codec import from_json, to_json
from shaper.policy import parse_policy
from shaper.report.as_json import status_from_json, status_json
from shaper.report.tables import status_title
from shaper.run import apply
from shaper.run.look import look
from shaper.run.state import DeviceState, record_from_json, record_to_json
from shaper.tree import CLSACT, CLSACT_HANDLE, CLSACT_INGRESS, BpfFilter, Finish, Insn, Qdisc, tree

POLICED = TEXT.replace("policy: office}", "ingress: police, policy: office}").replace("sla: {", "sla: {loss: 1%, ")
FLOWER = POLICED.replace("ingress: police", "classifier: flower, ingress: police")
ALONE = POLICED.replace("egress: 20mbit, ", "")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def part(world: World) -> tuple[object, ...]:
    """What does something with what comes in; the hook is the other direction's too."""
    held = world.held()[1]
    return held.links, held.classes, tuple(one for one in held.filters if one.parent == CLSACT_INGRESS)


def ingress(world: World) -> DeviceState:
    return world.sides()[1]


@pytest.mark.parametrize("first", [OUT, TEXT, POLICED, FLOWER, ALONE], ids=["out", "queue", "both", "flower", "alone"])
@pytest.mark.parametrize("then", [OUT, TEXT, POLICED, FLOWER, ALONE], ids=["out", "queue", "both", "flower", "alone"])
def test_whatever_was_there_it_ends_as_if_nothing_had_been(world: World, tmp_path: Path, first: str, then: str) -> None:
    straight = World(tmp_path / "straight")
    straight.apply(then)
    world.apply(first)
    world.apply(then)
    assert world.held() == straight.held()
    assert world.apply(then) == 0
    assert not any(alarm for one in world.sides() if one.record() for alarm in look(world.kernel, one, now=0.0).alarms)
    world.clear()
    assert world.bare()


@pytest.mark.parametrize("order", [0, 1], ids=["egress first", "ingress first"])
def test_either_may_be_cleared_first(world: World, order: int) -> None:
    world.apply(POLICED)
    one, other = world.sides() if order == 0 else reversed(world.sides())
    apply.clear(world.kernel, one)
    assert other.record() is not None
    assert not look(world.kernel, other, now=0.0).drift
    apply.clear(world.kernel, other)
    assert world.bare()


@pytest.mark.parametrize(("before", "text"), [("", POLICED), (TEXT, ALONE)], ids=["from nothing", "from queues"])
def test_killed_or_refused_at_any_step_it_is_before_or_after(tmp_path: Path, text: str, before: str) -> None:
    for step in range(100):
        world, killed = World(tmp_path / str(step)), step % 2
        if before:
            world.apply(before)
        held = part(world)
        if killed:
            world.kernel.die_at(step)
        else:
            world.kernel.fail_at(step, errno.ENOMEM)
        try:
            world.apply(text)
        except (Killed, StepError):
            world.kernel.revive()
        else:
            return
        for one in world.sides():
            apply.recover(world.kernel, one)
        assert part(world) == held or look(world.kernel, ingress(world), now=0.0).drift == ()
        world.apply(text)
        world.clear()
        assert world.bare()
    raise AssertionError("it never came through")


def test_what_is_counted_is_what_passed_and_what_did_not(world: World) -> None:
    world.apply(POLICED)
    (policed,) = [one for state, one in world.prepared(POLICED) if state.direction is Direction.INGRESS]
    passed, dropped = policed.program.verdicts["voice"]
    counts = {passed: VerdictCounters(90, 9000), dropped: VerdictCounters(10, 1000)}
    world.kernel.count("eth1", {}, verdicts=counts)
    status = look(world.kernel, ingress(world), now=0.0)
    (voice,) = (one for one in status.classes if one.path == "voice")
    assert (voice.sent_packets, voice.dropped_packets, voice.loss) == (90, 10, 0.1)
    assert voice.sent_bytes == 9000 + 90 * 14, "the hook sees packets without their link-layer header"
    assert (voice.guarantee, voice.granted.ceil) == (5_000_000, 10_000_000)
    assert status_from_json(status_json(status)) == status
    assert "ingress" in status_title(status)


def test_what_somebody_does_to_it_is_drift_and_put_right(world: World) -> None:
    world.apply(POLICED)
    held = world.held()[1]
    one = next(each for each in held.filters if isinstance(each, BpfFilter) and each.actions)
    other = Finish(0, one.actions[2].index)  # type: ignore[union-attr]
    world.kernel.put("shi-eth1", BpfFilter(**{**_fields(one), "actions": (*one.actions[:2], other, *one.actions[3:])}))
    assert look(world.kernel, ingress(world), now=0.0).drift
    assert world.apply(POLICED)
    assert world.held()[1] == held


def _fields(one: BpfFilter) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def test_a_filter_of_somebody_elses_on_the_hook_stays(world: World) -> None:
    theirs = BpfFilter(CLSACT_INGRESS, 5, 1, (Insn(6, 0, 0, 0),), actions=(Finish(),), device="eth1")
    world.apply(POLICED)
    world.kernel.put("shi-eth1", theirs)
    assert world.apply(POLICED) == 0
    world.clear()
    assert world.held()[1] == tree("shi-eth1", (Qdisc(CLSACT_HANDLE, CLSACT, "clsact", device="eth1"), theirs))


def test_a_hook_of_somebody_elses_is_refused(world: World) -> None:
    world.kernel.put("eth1", Qdisc(CLSACT_HANDLE, CLSACT, "clsact"))
    with pytest.raises(UnavailableError, match="somebody else's"):
        world.apply(ALONE)


def test_what_is_kept_of_it_comes_back_from_json(world: World) -> None:
    prepared = dict(zip(("out", "in"), (one for _, one in world.prepared(POLICED)), strict=True))["in"]
    assert from_json(to_json(prepared.plan)) == prepared.plan
    record = prepared.after
    assert record.policed and record.hooked and not record.root
    assert record_from_json(record_to_json(record)) == record
    with pytest.raises(ValueError, match="another type"):
        record_from_json({**record_to_json(record), "policed": "yes"})


@pytest.mark.parametrize("text", [ALONE, POLICED, FLOWER], ids=["alone", "both", "flower"])
def test_what_a_release_leaves_polices_on_and_can_be_taken_back(world: World, text: str) -> None:
    world.apply(text)
    held = world.held()
    for state in world.sides():
        apply.release(world.kernel, state)
    assert part(world)[2] == tuple(one for one in held[1].filters if one.parent == CLSACT_INGRESS)
    with pytest.raises(UnavailableError):
        world.apply(text)
    planned = adopting._planned(world.kernel, world.sides(), parse_policy(text, source="office.yaml"), {}, now=0.0)
    assert not [step for state, one in planned if state is ingress(world) for step in one.plan.steps]
    for state, one in planned:
        apply.apply(world.kernel, state, one)
    assert world.held() == held
    assert world.apply(text) == 0
    world.clear()
    assert world.bare()


def test_there_is_nothing_to_take_over_where_nothing_of_ours_polices(world: World) -> None:
    theirs = BpfFilter(CLSACT_INGRESS, 5, 1, (Insn(6, 0, 0, 0),), actions=(Finish(),), device="eth1")
    for found in (), (Qdisc(CLSACT_HANDLE, CLSACT, "clsact", device="eth1"), theirs):
        world.kernel.put("shi-eth1", *found)
        with pytest.raises(UnavailableError, match="nothing of the shaper's polices what comes in by eth1"):
            adopting._planned(world.kernel, world.sides(), parse_policy(ALONE, source="office.yaml"), {}, now=0.0)


def test_a_class_of_what_is_policed_cannot_be_named(world: World) -> None:
    world.apply(ALONE)
    apply.release(world.kernel, ingress(world))
    with pytest.raises(UnavailableError, match="nothing waits in classes"):
        adopting._planned(
            world.kernel, world.sides(), parse_policy(ALONE, source="office.yaml"), {"voice": 0x10010}, now=0.0
        )
