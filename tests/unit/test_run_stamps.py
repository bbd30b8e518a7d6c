"""Programs that measure in the kernel, on the verified fake: lent for an apply, kept without who lent them, cleared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shaper.compile.program import Program
from shaper.kernel.fake import FULL, FakeKernel, Killed
from shaper.model.change import Who
from shaper.model.policy import Direction
from shaper.plan.describe import describe
from shaper.policy import parse_policy
from shaper.run import apply, changes
from shaper.run.apply import Prepared
from shaper.run.changes import Order
from shaper.run.look import look
from shaper.run.state import DeviceState
from shaper.tree import CLSACT, BpfFilter, Ifb, LoadedFilter, Qdisc, tree

TEXT = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit, ingress: 100mbit}, policy: office}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 5%, limit: 10%, match: [{dscp: ef}], sla: {delay-p99: 20ms}}
      marked: {match: [{vlan: 7}]}
      rest: {guarantee: 50%, default: true}
"""
SEEN = TEXT.replace("      marked: {match: [{vlan: 7}]}\n", "")
"""Nothing in it is asked that a captured packet does not show."""
ABLE = replace(FULL, features=FULL.features | {"ebpf"})
ORDER = Order(Who("tester", 1, "", "test"), 0.0)


class Lending:
    """Lends what it is asked for, or nothing."""

    copies = True

    def __init__(self, kernel: FakeKernel, instance: str, *, able: bool = True) -> None:
        self.instance = instance
        self._kernel = kernel
        self._able = able

    def lend(self, program: Program) -> bool:
        if self._able:
            self._kernel.programs[program.stamp] = 5
        return self._able


class World:
    """A kernel, a state folder, and one direction of a device."""

    def __init__(self, folder: Path, direction: Direction) -> None:
        self.kernel = FakeKernel("eth1", capabilities=ABLE)
        self.state = DeviceState(folder, "eth1", direction)

    def prepare(self, text: str = TEXT, lender: Lending | None = None) -> Prepared:
        policy = parse_policy(text, source="office.yaml")
        (interface,) = (one for one in policy.interfaces if one.direction is self.state.direction)
        return apply.prepare(self.kernel, self.state, policy, interface, lender=lender)

    def run(self, text: str = TEXT, instance: str = "1.0") -> Prepared:
        prepared = self.prepare(text, Lending(self.kernel, instance))
        return changes.make(self.kernel, self.state, prepared, what="run", order=ORDER)

    def stamps(self) -> list[str]:
        held = apply.read(self.kernel, self.state)
        return [node.name for node in held.filters if isinstance(node, LoadedFilter) and not node.device]

    def copies(self) -> bool:
        held = apply.read(self.kernel, self.state)
        return any(isinstance(node, BpfFilter) and node.mirror for node in held.filters)


@pytest.fixture(params=list(Direction))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


def test_a_run_stamps_what_a_captured_packet_would_not_show_and_copies_nothing(world: World) -> None:
    prepared = world.run()
    assert prepared.program.measured
    assert not [note for note in prepared.program.notes if note.startswith("delay:")]
    assert world.stamps() == [prepared.program.stamp]
    assert not world.copies()
    assert prepared.program.limits == {prepared.program.handles["voice"]: (0.02,)}
    seen = look(world.kernel, world.state, now=0.0)
    assert (seen.alarms, seen.drift) == ((), ())


def test_a_class_with_a_probe_is_stamped_too(tmp_path: Path) -> None:
    world = World(tmp_path, Direction.EGRESS)
    probed = SEEN.replace(", ingress: 100mbit", "").replace(
        "{delay-p99: 20ms}", "{delay-p99: 20ms}, probe: {to: 192.0.2.10}"
    )
    prepared = world.run(probed)
    assert prepared.program.unstamped == ""
    assert world.stamps() == [prepared.program.stamp]


def test_without_who_lent_it_a_program_stays_as_long_as_it_says_the_same(world: World) -> None:
    world.run(SEEN)
    (stamp,) = world.stamps()
    world.kernel.programs.clear()
    assert not world.prepare(SEEN).plan.steps
    wider = world.prepare(SEEN.replace("limit: 10%", "limit: 15%"))
    assert [describe(step) for step in wider.plan.steps if isinstance(step.node, LoadedFilter)] == []
    changes.make(world.kernel, world.state, wider, what="apply", order=ORDER)
    assert world.stamps() == [stamp]
    other = world.prepare(SEEN.replace("dscp: ef", "dscp: cs5"))
    changes.make(world.kernel, world.state, other, what="apply", order=ORDER)
    assert world.stamps() == []
    assert world.copies() == (world.state.direction is Direction.EGRESS)
    assert not world.prepare(SEEN.replace("dscp: ef", "dscp: cs5")).plan.steps


def test_another_run_exchanges_the_program_in_one_step(world: World) -> None:
    world.run()
    (first,) = world.stamps()
    world.kernel.programs.clear()
    prepared = world.prepare(lender=Lending(world.kernel, "2.0"))
    (step,) = prepared.plan.steps
    assert (step.verb, type(step.before), type(step.after)) == ("change", LoadedFilter, LoadedFilter)
    changes.make(world.kernel, world.state, prepared, what="run", order=ORDER)
    (second,) = world.stamps()
    assert second != first


def test_where_none_is_lent_packets_are_copied(world: World) -> None:
    prepared = world.prepare(SEEN, Lending(world.kernel, "1.0", able=False))
    assert not prepared.program.stamp
    assert prepared.program.measured
    assert prepared.after.stamp == ""


def test_clear_and_release_leave_nothing_of_it(world: World) -> None:
    bare = world.kernel.read("eth1")
    world.run()
    changes.clear(world.kernel, world.state, order=ORDER)
    assert world.kernel.read("eth1") == bare
    world.run(instance="2.0")
    changes.release(world.kernel, world.state, order=ORDER)
    held = [*world.kernel.read("eth1").filters, *world.kernel.read("eth1").qdiscs]
    assert not [node for node in held if isinstance(node, LoadedFilter)]


@pytest.mark.parametrize("before", ["nothing", "copies", "another program"])
def test_killed_at_any_step_it_is_taken_back_without_the_programs_of_the_dead(tmp_path: Path, before: str) -> None:
    """What was stamped before is not stamped again: nobody has that program any more."""
    count, at = 1, 0
    while at < count:
        world = World(tmp_path / f"{at}", Direction.EGRESS)
        if before == "copies":
            changes.make(world.kernel, world.state, world.prepare(SEEN), what="apply", order=ORDER)
        elif before == "another program":
            world.run(SEEN, "1.0")
        held = world.kernel.read("eth1")
        count = len(world.prepare(SEEN.replace("dscp: ef", "dscp: cs5"), Lending(world.kernel, "2.0")).plan.steps)
        world.kernel.die_at(at)
        with pytest.raises(Killed):
            world.run(SEEN.replace("dscp: ef", "dscp: cs5"), "2.0")
        world.kernel.revive()
        world.kernel.programs.clear()
        apply.recover(world.kernel, world.state)
        now = world.kernel.read("eth1")
        kept = [node for node in held.nodes() if not isinstance(node, LoadedFilter) or node in now.filters]
        assert now == tree("eth1", kept), f"killed before step {at}"
        world.run(SEEN, "3.0")
        assert len(world.stamps()) == 1
        changes.clear(world.kernel, world.state, order=ORDER)
        assert world.kernel.read("eth1") == tree("eth1", ())
        at += 1
    assert count >= 2


def test_the_ifb_of_what_comes_in_has_a_hook_of_its_own(tmp_path: Path) -> None:
    both = World(tmp_path, Direction.INGRESS)
    out = World(tmp_path, Direction.EGRESS)
    out.kernel = both.kernel
    both.run(instance="1.0")
    out.run(instance="1.1")
    ifb = both.state.shaped
    held = both.kernel.read(ifb, fed_by="eth1")
    assert [node for node in held.qdiscs if node.parent == CLSACT and not node.device]
    assert both.stamps() != out.stamps()
    changes.clear(both.kernel, both.state, order=ORDER)
    assert len(out.stamps()) == 1
    assert not [node for node in out.kernel.read("eth1").links if isinstance(node, Ifb)]
    changes.clear(out.kernel, out.state, order=ORDER)
    assert both.kernel.read("eth1") == tree("eth1", ())
    assert not [node for node in both.kernel.read("eth1").qdiscs if isinstance(node, Qdisc)]
