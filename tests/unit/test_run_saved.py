"""Saved plans and snapshots: what was read is what is applied, or nothing is; and planning needs no kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shaper.errors import Exit, TryAgainError, UnavailableError
from shaper.kernel.fake import FULL, FakeKernel
from shaper.model.policy import Policy
from shaper.plan import diff
from shaper.plan.fingerprint import fingerprint
from shaper.plan.steps import Step, Verb
from shaper.policy import parse_policy
from shaper.run import apply, saved, snapshot
from shaper.run.apply import Prepared
from shaper.run.saved import PlanFileError, SavedPlan
from shaper.run.snapshot import SnapshotError, SnapshotKernel
from shaper.run.state import DeviceState
from shaper.tree import FieldBounds, HtbClass

OLD = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 20ms}}
      rest: {guarantee: 12mbit, adapt: {min: 2mbit}, default: true}
"""
NEW = (
    OLD.replace("limit: 2mbit", "limit: 3mbit")
    .replace("rest:", "video: {guarantee: 3mbit}\n      rest:")
    .replace("video: {guarantee: 3mbit}", "video: {guarantee: 3mbit, match: [{dscp: af41}]}")
)


class Desk:
    """A device with a policy on it, and a plan for another one in a file."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel("eth1")
        self.state = DeviceState(folder / "state", "eth1")
        self.file = folder / "change.plan"
        apply.apply(self.kernel, self.state, self.prepared(OLD))

    def prepared(self, text: str) -> Prepared:
        policy = self.policy(text)
        return apply.prepare(self.kernel, self.state, policy, policy.interfaces[0])

    def policy(self, text: str) -> Policy:
        return parse_policy(text, source="office.yaml")

    def save(self) -> SavedPlan:
        saved.save(self.file, self.kernel, self.policy(NEW), (self.prepared(NEW),))
        again = saved.read_saved(self.file)
        assert again is not None
        return again

    def check(self, plan: SavedPlan) -> Prepared:
        saved.check_kernel(self.kernel, plan)
        prepared = apply.prepare(self.kernel, self.state, plan.policy, plan.policy.interfaces[0])
        saved.check_unmoved(prepared, plan.expected("eth1"))
        return prepared

    def of_kind(self, kind: type, number: int = -1) -> Any:
        return [node for node in self.kernel.read("eth1").nodes() if isinstance(node, kind)][number]

    def move(self, rate: int) -> None:
        """A controller, or somebody, moves the class `rest`."""
        program = self.prepared(OLD).program
        to = {**program.static, "rest": replace(program.static["rest"], rate=rate)}
        held = apply.ours(self.kernel.read("eth1"), self.state.record())
        self.kernel.send("eth1", diff(held, program.with_allocation(to), bounds={}).steps)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_was_saved_is_what_is_applied(desk: Desk) -> None:
    plan = desk.save()
    prepared = desk.check(plan)
    assert prepared.plan == plan.expected("eth1").plan
    apply.apply(desk.kernel, desk.state, prepared)
    assert not desk.prepared(NEW).plan.steps


def test_what_the_controller_moves_inside_its_bounds_is_not_a_move(desk: Desk) -> None:
    plan = desk.save()
    desk.move(9_000_000)
    prepared = desk.check(plan)
    apply.apply(desk.kernel, desk.state, prepared)
    assert prepared.program.allocation_in(desk.kernel.read("eth1"))["rest"].rate == 9_000_000


def test_so_is_a_target_that_it_moves_and_an_older_plan_has_none(desk: Desk) -> None:
    desk.save()
    data = json.loads(desk.file.read_text())
    (interface,) = data["interfaces"]
    assert {len(row) for row in interface["bounds"]} == {5}
    program = desk.prepared(OLD).program
    to = {**program.static, "voice": replace(program.static["voice"], target=2_048)}
    desk.kernel.send("eth1", diff(program.tree, program.with_allocation(to), bounds={}).steps)
    plan = saved.read_saved(desk.file)
    assert plan is not None
    apply.apply(desk.kernel, desk.state, desk.check(plan))
    older = [row[:4] for row in interface["bounds"]]
    live = plan.expected("eth1").live
    kept = {number: FieldBounds(*map(tuple, ends)) for number, *ends in older}
    read = saved.interface_from_json({**interface, "bounds": older, "fingerprint": fingerprint(live, kept)})
    assert read.bounds == kept


def _no_filter(desk: Desk) -> None:
    first = next(node for node in desk.kernel.read("eth1").filters if node.parent == 0x5A000000)
    desk.kernel.send("eth1", [Step(Verb.DELETE, first, None)])


def _faster_voice(desk: Desk) -> None:
    voice = next(cls for cls in desk.kernel.read("eth1").classes if cls.handle == 0x5A000011)
    desk.kernel.send("eth1", [Step(Verb.CHANGE, voice, replace(voice, ceil=8_000_000))])


def _another_policy(desk: Desk) -> None:
    apply.apply(desk.kernel, desk.state, desk.prepared(OLD + "# again\n"))


def _all_gone(desk: Desk) -> None:
    apply.clear(desk.kernel, desk.state)


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        (_no_filter, "filter bpf at 5a00: preference 10: gone"),
        (_faster_voice, "class voice 5a00:11: ceil 2mbit -> 8mbit"),
        (lambda desk: desk.move(1_000_000), "class rest 5a00:12: rate 2mbit -> 1mbit"),
        (_another_policy, "another policy applied"),
        (_all_gone, "gone"),
    ],
    ids=["a filter", "a field", "beyond its bounds", "another policy", "cleared"],
)
def test_what_moved_is_named_and_nothing_is_sent(desk: Desk, meanwhile: Callable[[Desk], None], words: str) -> None:
    plan = desk.save()
    meanwhile(desk)
    sent = len(desk.kernel.sent)
    with pytest.raises(TryAgainError) as caught:
        desk.check(plan)
    assert words in caught.value.message
    assert caught.value.exit is Exit.TRY_AGAIN
    assert len(desk.kernel.sent) == sent


def test_another_link_and_another_kernel_are_refused(desk: Desk) -> None:
    plan = desk.save()
    with pytest.raises(TryAgainError, match=r"kernel 6\.12\.0-fake, this one is 5"):
        saved.check_kernel(FakeKernel("eth1", capabilities=replace(FULL, kernel="5")), plan)
    desk.kernel._links["eth1"] = replace(desk.kernel._links["eth1"], super_packet=9000, mtu=8986)
    with pytest.raises(TryAgainError, match="not what this machine would do now"):
        desk.check(plan)


def test_a_plan_is_known_by_its_content(desk: Desk, tmp_path: Path) -> None:
    policy = tmp_path / "policy.plan"
    policy.write_text(OLD)
    assert saved.read_saved(policy) is None
    assert saved.read_saved(tmp_path / "nowhere") is None
    (tmp_path / "odd.json").write_text('{"kind": "a shopping list"}')
    assert saved.read_saved(tmp_path / "odd.json") is None
    desk.save()
    desk.file.rename(tmp_path / "plan.yaml")
    assert saved.read_saved(tmp_path / "plan.yaml") is not None


def _damage(path: tuple[str | int, ...], value: Any) -> Callable[[Any], None]:
    def damage(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = value

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _damage(("schema",), 2),
        _damage(("policy", "text"), OLD),
        _damage(("policy",), []),
        _damage(("interfaces", 0, "live", "nodes", 0, "name"), "other"),
        _damage(("interfaces", 0, "plan", "steps", 0, "verb"), "paint"),
        _damage(("interfaces",), {"a": 1}),
    ],
)
def test_a_damaged_plan_is_refused_with_a_mend(desk: Desk, damage: Callable[[Any], None]) -> None:
    desk.save()
    data = json.loads(desk.file.read_text())
    damage(data)
    desk.file.write_text(json.dumps(data))
    with pytest.raises(PlanFileError) as caught:
        saved.read_saved(desk.file)
    assert caught.value.exit is Exit.POLICY
    assert caught.value.hint


def test_against_files_it_is_the_same_plan(desk: Desk, tmp_path: Path) -> None:
    here = desk.prepared(NEW)
    caps, there = tmp_path / "caps.json", tmp_path / "tree.json"
    caps.write_text(json.dumps({"capabilities": snapshot.capabilities_to_json(desk.kernel.capabilities())}))
    there.write_text(json.dumps({"interfaces": [{"device": "eth1", "live": snapshot.live_to_json(here)}]}))
    kernel = SnapshotKernel(snapshot.read_capabilities(caps), snapshot.read_devices(there))
    policy = desk.policy(NEW)
    away = apply.prepare(kernel, kernel.device("eth1"), policy, policy.interfaces[0])
    assert away.plan == here.plan
    assert away.target == here.target
    saved.save(desk.file, kernel, policy, (away,))
    plan = saved.read_saved(desk.file)
    assert plan is not None
    assert desk.check(plan).plan == here.plan
    with pytest.raises(UnavailableError, match="eth1"):
        kernel.device("eth7")
    with pytest.raises(UnavailableError):
        kernel.send("eth1", [])


def test_what_doctor_could_not_probe_is_said_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "caps.json"
    found = {"name": "program tc", "state": "needed", "detail": "no namespace may be made", "instead": "run as root"}
    path.write_text(json.dumps({"capabilities": None, "findings": [{**found, "state": "ok", "detail": "fine"}, found]}))
    with pytest.raises(UnavailableError) as error:
        snapshot.read_capabilities(path)
    assert error.value.exit is Exit.UNAVAILABLE
    assert error.value.message == f"{path}: no namespace may be made"
    assert error.value.hint == "run as root"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"interfaces": [{"device": "eth1", "live": {}}]}', "version: 1"])
def test_a_file_that_is_no_snapshot_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    if text != "{}":
        with pytest.raises(SnapshotError, match=r"odd\.json"):
            snapshot.read_devices(path)
    with pytest.raises(SnapshotError, match=r"odd\.json"):
        snapshot.read_capabilities(path)
    with pytest.raises(SnapshotError, match="nowhere"):
        snapshot.read_capabilities(tmp_path / "nowhere")


def test_only_classes_are_the_controllers(desk: Desk) -> None:
    plan = desk.save()
    assert isinstance(desk.of_kind(HtbClass), HtbClass)
    assert plan.expected("eth1").in_force == desk.policy(OLD).sha256
    with pytest.raises(UnavailableError):
        plan.expected("eth9")
