"""Both directions of one device on the verified fake: they share its hook, and neither takes it from the other."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import replace
from pathlib import Path

import pytest

from shaper.errors import Exit, UnavailableError
from shaper.kernel.fake import FULL, FakeKernel, Killed
from shaper.kernel.protocol import StepError
from shaper.model.change import Who
from shaper.plan import diff
from shaper.plan.steps import Step, Verb
from shaper.policy import parse_policy
from shaper.report.as_json import status_from_json, status_json
from shaper.report.metrics import families
from shaper.report.tables import status_title
from shaper.run import apply, changes
from shaper.run.apply import Prepared
from shaper.run.changes import Order
from shaper.run.look import look
from shaper.run.state import DeviceState, both_directions, known_devices
from shaper.tree import (
    CLSACT,
    CLSACT_HANDLE,
    CLSACT_INGRESS,
    BpfFilter,
    Capabilities,
    Ifb,
    Insn,
    OtherFilter,
    Qdisc,
    Tree,
    tree,
)

TEXT = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit, ingress: 100mbit}, policy: office}
policies:
  office:
    classes:
      voice:
        tier: special
        guarantee: 5%
        limit: 10%
        match: [{dscp: ef}]
        sla: {delay-p99: 20ms}
      rest: {guarantee: {egress: 12mbit, ingress: 60mbit}, adapt: {min: 10%}, default: true}
"""
OUT, IN = TEXT.replace(", ingress: 100mbit", ""), TEXT.replace("egress: 20mbit, ", "")
WIDER = TEXT.replace("limit: 10%", "limit: 15%").replace("voice:", "video: {match: [{dscp: af41}]}\n      voice:", 1)
HOOK = Qdisc(CLSACT_HANDLE, CLSACT, "clsact")


class World:
    """A kernel and a state folder."""

    def __init__(self, folder: Path, capabilities: Capabilities = FULL) -> None:
        self.kernel = FakeKernel("eth1", capabilities=capabilities)
        self.folder = folder

    def sides(self) -> tuple[DeviceState, ...]:
        return both_directions(self.folder, "eth1")

    def prepared(self, text: str = TEXT) -> list[tuple[DeviceState, Prepared]]:
        """As the command plans them: one after the other, before anything is applied."""
        policy = parse_policy(text, source="office.yaml")
        found: list[tuple[DeviceState, Prepared]] = []
        for interface in policy.interfaces:
            state = DeviceState(self.folder, interface.device, interface.direction)
            hooked = any(apply.adds_hook(one.plan) for _, one in found)
            found.append((state, apply.prepare(self.kernel, state, policy, interface, hooked=hooked)))
        return found

    def apply(self, text: str = TEXT) -> int:
        """All or none, as the command does it; how many steps it took."""
        for state in self.sides():
            apply.recover(self.kernel, state)
        prepared = self.prepared(text)
        wanted = {state.shaped for state, _ in prepared}
        with contextlib.ExitStack() as undoing:
            for state, one in prepared:
                apply.apply(self.kernel, state, one)
                undoing.callback(apply.undo, self.kernel, state, one)
            order = Order(Who(0), 1.7e9)
            gone = [
                changes.let_go(self.kernel, one, order=order, undoing=undoing)
                for one in self.sides()
                if one.shaped not in wanted
            ]
            undoing.pop_all()
        return sum(len(plan.steps) for plan in [*(one.plan for _, one in prepared), *gone])

    def clear(self) -> None:
        for state in self.sides():
            apply.recover(self.kernel, state)
            apply.clear(self.kernel, state)

    def held(self) -> tuple[Tree, Tree]:
        return self.kernel.read("eth1"), self.kernel.read("shi-eth1", fed_by="eth1")

    def bare(self) -> bool:
        """Whether the kernel is as it was found."""
        with pytest.raises(UnavailableError):
            self.kernel.link("shi-eth1")
        with pytest.raises(UnavailableError):
            self.kernel.link("shp-eth1")
        return self.held() == (tree("eth1", ()), tree("shi-eth1", ()))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_queue_is_up_before_packets_are_sent_to_it_and_the_filter_goes_first(world: World) -> None:
    world.apply(IN)
    added = [step.node for step in world.kernel.sent]
    assert added[0] == Ifb("shi-eth1", "sla-shaper eth1 ingress")
    assert isinstance(added[-1], BpfFilter)
    assert (added[-1].redirect, added[-1].device, added[-1].parent) == ("shi-eth1", "eth1", CLSACT_INGRESS)
    world.kernel.sent.clear()
    world.clear()
    assert world.kernel.sent[0].node == added[-1]
    assert world.kernel.sent[-1].node == added[0]
    assert world.bare()


def test_percentages_and_rates_are_of_their_own_direction(world: World) -> None:
    world.apply()
    out, back = world.held()
    ceilings = [{cls.ceil for cls in held.classes if cls.handle & 0xFFFF == 0x11} for held in (out, back)]
    assert ceilings == [{2_000_000}, {10_000_000}]
    assert {cls.handle for cls in out.classes} == {cls.handle for cls in back.classes}


def test_a_second_apply_sends_nothing_and_a_policy_and_back_leaves_the_same(world: World) -> None:
    world.apply()
    held = world.held()
    assert world.apply() == 0
    assert world.apply(WIDER)
    assert world.apply()
    assert world.held() == held
    assert known_devices(world.folder) == ("eth1",)


@pytest.mark.parametrize("first", [OUT, IN], ids=["egress", "ingress"])
@pytest.mark.parametrize("then", [OUT, IN, TEXT], ids=["egress", "ingress", "both"])
def test_a_direction_that_is_taken_out_goes_and_leaves_the_hook_to_the_other(
    world: World, tmp_path: Path, first: str, then: str
) -> None:
    straight = World(tmp_path / "straight")
    straight.apply(then)
    world.apply(first)
    world.apply(then)
    assert world.held() == straight.held()
    assert world.apply(then) == 0
    assert not any(
        alarm for side in world.sides() if side.record() for alarm in look(world.kernel, side, now=0.0).alarms
    )
    world.clear()
    assert world.bare()


@pytest.mark.parametrize("order", [0, 1], ids=["egress first", "ingress first"])
def test_either_may_be_cleared_first(world: World, order: int) -> None:
    world.apply()
    one, other = world.sides() if order == 0 else reversed(world.sides())
    apply.clear(world.kernel, one)
    assert HOOK in world.kernel.read("eth1").qdiscs
    assert not look(world.kernel, other, now=0.0).alarms
    apply.clear(world.kernel, other)
    assert world.bare()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", OUT, IN, TEXT], ids=["fresh", "over egress", "over ingress", "over both"])
@pytest.mark.parametrize("how", ["error", "killed"])
def test_at_every_step_it_is_before_or_after(tmp_path: Path, first: str, how: str) -> None:
    probe = World(tmp_path / "probe")
    if first:
        probe.apply(first)
    for at in range(probe.apply(WIDER)):
        world = World(tmp_path / f"{at}")
        if first:
            world.apply(first)
        before = world.held()
        if how == "error":
            world.kernel.fail_at(at, errno.EINVAL)
            with pytest.raises(StepError):
                world.apply(WIDER)
            assert world.held() == before, f"failed at step {at}"
        else:
            world.kernel.die_at(at)
            with pytest.raises(Killed):
                world.apply(WIDER)
            world.kernel.revive()
        world.apply(WIDER)
        assert world.held() == probe.held(), f"{how} at step {at}"
        world.clear()
        assert world.bare(), f"{how} at step {at}"


@pytest.mark.slow
@pytest.mark.parametrize("then", [OUT, IN], ids=["egress stays", "ingress stays"])
def test_at_every_step_of_letting_go_it_is_before_or_after(tmp_path: Path, then: str) -> None:
    probe = World(tmp_path / "probe")
    probe.apply()
    for at in range(probe.apply(then)):
        world = World(tmp_path / f"{at}")
        world.apply()
        before = world.held()
        world.kernel.fail_at(at, errno.EINVAL)
        with pytest.raises(StepError):
            world.apply(then)
        assert world.held() == before
        world.kernel.die_at(at)
        with pytest.raises(Killed):
            world.apply(then)
        world.kernel.revive()
        for state in world.sides():
            apply.recover(world.kernel, state)
        assert world.held() == before
        world.apply(then)
        assert world.held() == probe.held()


@pytest.mark.parametrize("kind", ["clsact", "ingress"])
def test_a_foreign_hook_is_refused_for_what_comes_in_with_the_way_out(world: World, kind: str) -> None:
    world.kernel.put("eth1", Qdisc(CLSACT_HANDLE, CLSACT, kind))
    before = world.held()
    with pytest.raises(UnavailableError, match="somebody else's") as caught:
        world.apply()
    assert caught.value.exit is Exit.UNAVAILABLE
    assert caught.value.where is not None
    assert caught.value.where.line == 3
    assert "tc qdisc del dev eth1 clsact" in caught.value.hint
    assert world.held() == before
    world.apply(OUT)
    world.clear()
    assert world.held() == before


def test_a_foreign_filter_keeps_the_hook_when_we_go(world: World) -> None:
    world.apply()
    foreign = OtherFilter(CLSACT_INGRESS, 5, 1, 3, "u32")
    world.kernel.put("eth1", foreign)
    world.clear()
    out, back = world.held()
    assert out.qdiscs == (HOOK,)
    assert out.filters == (foreign,)
    assert not back.links


@pytest.mark.parametrize("lacking", ["clsact", "mirred", "ifb"])
def test_a_kernel_that_cannot_bring_packets_to_a_queue_is_refused(tmp_path: Path, lacking: str) -> None:
    parts = {name: getattr(FULL, name) - {lacking} for name in ("qdiscs", "filters", "actions", "links")}
    world = World(tmp_path, Capabilities("6.12", **parts))
    with pytest.raises(UnavailableError, match=lacking) as caught:
        world.apply()
    assert "modprobe" in caught.value.hint
    assert caught.value.where is not None
    assert world.bare()
    world.apply(OUT)


def test_a_backend_that_only_orders_has_nothing_to_order_in_what_comes_in(world: World) -> None:
    with pytest.raises(UnavailableError, match="orders what waits for a device"):
        world.apply(
            "version: 1\ninterfaces: {wan: {device: eth1, bandwidth: {ingress: 9mbit}, policy: p, backend: prio}}\n"
            "policies: {p: {classes: {a: {tier: priority, match: [{dscp: ef}]}, rest: {default: true}}}}\n"
        )


def test_a_mark_that_nftables_has_not_set_yet_is_refused(world: World) -> None:
    text = TEXT.replace("match: [{dscp: ef}]", "match: [{mark: 7}]")
    with pytest.raises(UnavailableError, match="no mark yet") as caught:
        world.apply(text)
    assert caught.value.where is not None
    assert caught.value.where.line == 11
    world.apply(text.replace(", ingress: 100mbit", ""))


def test_what_a_captured_packet_does_not_show_is_shaped_without_delay_figures(world: World) -> None:
    world.apply(TEXT.replace("match: [{dscp: ef}]", "match: [{vlan: 7}]"))
    for _, one in world.prepared(TEXT.replace("match: [{dscp: ef}]", "match: [{vlan: 7}]")):
        assert not one.plan.steps
        assert not one.program.measured
        assert any("does not show" in note for note in one.program.notes)
    world.clear()
    assert world.bare()


def test_an_ifb_that_somebody_removed_is_put_back(world: World) -> None:
    """Until then the kernel drops all that comes in: it must be said, and one apply must mend it."""
    world.apply()
    held = world.held()
    world.kernel.remove_device("shi-eth1")
    with pytest.raises(UnavailableError):
        look(world.kernel, world.sides()[1], now=0.0)
    assert world.apply()
    assert world.held() == held
    world.kernel.remove_device("shi-eth1")
    world.clear()
    assert world.bare()


def test_a_device_that_went_leaves_nothing_behind(world: World) -> None:
    world.apply(IN)
    world.kernel.remove_device("eth1")
    world.clear()
    with pytest.raises(UnavailableError):
        world.kernel.link("shi-eth1")
    assert known_devices(world.folder) == ()


def test_a_stranger_under_the_name_of_our_ifb_is_not_touched(world: World) -> None:
    world.kernel.add_device("shi-eth1")
    with pytest.raises(StepError):
        world.apply()
    assert world.held() == (tree("eth1", ()), tree("shi-eth1", ()))
    assert world.kernel.link("shi-eth1")


def test_what_joined_packets_cost_is_said_with_the_device_that_joins_them(world: World) -> None:
    (_, incoming) = world.prepared()[1]
    notes = " ".join(incoming.program.notes)
    assert "ethtool -K eth1 gro off" in notes
    assert "after it has crossed the line" in notes
    facts = world.kernel.link("eth1")
    for joined, told in ((65550, True), (1514, False)):
        world.kernel.add_device("eth1", facts.__class__("eth1", 0, 1500, 14, 65550, True, joined_packet=joined))
        (_, incoming) = world.prepared()[1]
        assert ("super-packets" in " ".join(incoming.program.notes)) is told


def test_both_directions_share_one_lock_and_have_records_of_their_own(world: World) -> None:
    world.apply()
    out, back = world.sides()
    assert (out.shaped, out.fed_by, back.shaped, back.fed_by) == ("eth1", "", "shi-eth1", "eth1")
    assert out.socket == back.socket
    assert out.history != back.history
    assert back.other().folder == out.folder
    records = [side.record() for side in (out, back)]
    assert [record.tap for record in records if record] == ["shp-eth1", "shi-eth1"]


def test_the_plan_of_both_names_the_hook_once(world: World) -> None:
    plans = [one.plan for _, one in world.prepared()]
    hooks = [
        step for plan in plans for step in plan.steps if isinstance(step.node, Qdisc) and step.node.kind == "clsact"
    ]
    assert [step.verb for step in hooks] == [Verb.ADD]
    assert [plan.device for plan in plans] == ["eth1", "shi-eth1"]


def test_a_class_of_one_direction_is_moved_without_the_other(world: World) -> None:
    world.apply()
    out, back = world.held()
    (_, incoming) = world.prepared()[1]
    program = incoming.program
    moved = {**program.static, "rest": replace(program.static["rest"], rate=50_000_000)}
    steps = diff(program.tree, program.with_allocation(moved), bounds={}).steps
    assert [step.node.key[0] for step in steps] == ["class"]
    world.kernel.send("shi-eth1", steps)
    assert world.kernel.read("eth1") == out
    assert world.held()[1] != back
    assert world.apply() == 0, "the controller's field stays where it fits"


def test_status_and_metrics_name_the_direction(world: World) -> None:
    world.apply()
    statuses = [look(world.kernel, side, now=0.0) for side in world.sides()]
    assert [status_title(one).plain.split(":")[0] for one in statuses] == ["wan (eth1)", "wan (eth1, ingress)"]
    bandwidths = {
        sample.labels["direction"]: sample.value * 8
        for family in families(statuses)
        for sample in family.samples
        if sample.name == "shaper_interface_bandwidth_bytes_per_second"
    }
    assert bandwidths == {"egress": 20e6, "ingress": 100e6}
    assert [status_from_json(status_json(one)) for one in statuses] == statuses


def test_a_filter_cannot_copy_and_redirect(world: World) -> None:
    both = BpfFilter(CLSACT_INGRESS, 1, 1, (Insn(6, 0, 0, 0),), mirror="lo", redirect="lo", device="eth1")
    with pytest.raises(StepError, match="not both"):
        world.kernel.send("eth1", [Step(Verb.ADD, None, both)])
