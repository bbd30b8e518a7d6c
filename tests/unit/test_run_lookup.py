"""Classifiers with tables of addresses, on the verified fake: applied and left, edited, killed, taken back, refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from shaper.compile import classifier, compile_interface
from shaper.compile.adopted import in_its_numbers
from shaper.compile.numbers import Adopted
from shaper.errors import UnavailableError
from shaper.kernel.fake import FULL, FakeKernel, Killed
from shaper.model.change import Who
from shaper.model.policy import Policy
from shaper.plan.describe import describe
from shaper.policy import parse_policy
from shaper.report.tc_script import rounded, script
from shaper.run import apply, changes
from shaper.run.apply import Prepared
from shaper.run.changes import Order
from shaper.run.look import look
from shaper.run.state import DeviceState, StateError
from shaper.tree import LoadedFilter, SetDscp, networks_in, tree

ORDER = Order(Who("tester", 1, "", "test"), 0.0)
SHORT = """\
version: 1
interfaces:
  wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: office}
policies:
  office:
    classes:
      voice: {guarantee: 5%, limit: 10%, match: [{dscp: ef}]}
      listed: {guarantee: 5%, match: [{dst: [192.0.2.0/24]}]}
      rest: {guarantee: 50%, default: true}
"""


def listing(count: int) -> str:
    """With a list of so many networks, none of them beside another."""
    networks = ", ".join(f"10.{number >> 7}.{number % 128 * 2}.0/24" for number in range(count))
    return SHORT.replace("192.0.2.0/24", networks)


@cache
def parsed(text: str) -> Policy:
    """Long texts take their time."""
    return parse_policy(text, source="office.yaml")


LONG, LONGER = listing(2000), listing(2001)


class World:
    """A kernel, a state folder, and what goes out by a device."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel("eth1")
        self.state = DeviceState(folder, "eth1")

    def prepare(self, text: str) -> Prepared:
        policy = parsed(text)
        return apply.prepare(self.kernel, self.state, policy, policy.interfaces[0])

    def apply(self, text: str) -> Prepared:
        return changes.make(self.kernel, self.state, self.prepare(text), what="apply", order=ORDER)

    def networks(self) -> list[tuple[int, int] | None]:
        held = self.kernel.read("eth1").filters
        return [networks_in(node.name) for node in held if isinstance(node, LoadedFilter)]

    def kept(self) -> set[str]:
        return {path.stem for path in self.state.folder.glob("shaper-lookup-*.json")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_command_alone_applies_what_stays_without_it(world: World) -> None:
    world.apply(LONG)
    assert world.networks() == [(2000, 2)]  # and OSPF's routers
    assert not world.kernel.programs
    assert not world.prepare(LONG).plan.steps
    seen = look(world.kernel, world.state, now=0.0)
    assert (seen.alarms, seen.drift) == ((), ())
    changes.clear(world.kernel, world.state, order=ORDER)
    assert world.kernel.read("eth1") == tree("eth1", ())


def test_an_edit_is_one_step_and_says_how_many_there_are(world: World) -> None:
    world.apply(SHORT)
    assert world.networks() == []
    for text, words in ((LONG, "2000 networks of IPv4"), (LONGER, "2001 networks of IPv4"), (SHORT, "instructions")):
        (step,) = (one for one in world.prepare(text).plan.steps if "filter" in describe(one))
        assert words in describe(step)
        assert len(describe(step)) < 300
        world.apply(text)
    assert world.networks() == []


def test_somebody_elses_classifier_in_its_place_is_drift(world: World) -> None:
    prepared = world.apply(LONG)
    (own,) = (node for node in prepared.target.filters if isinstance(node, LoadedFilter))
    (other,) = world.prepare(LONGER).program.lookups
    (step,) = (one for one in world.prepare(LONGER).plan.steps if isinstance(one.node, LoadedFilter))
    with world.kernel.lending(other):
        world.kernel.send("eth1", [step])
    assert look(world.kernel, world.state, now=0.0).drift
    world.apply(LONG)
    assert own in world.kernel.read("eth1").filters


@pytest.mark.parametrize("before", ["", SHORT, LONG])
def test_killed_at_any_step_what_stood_before_is_loaded_again(tmp_path: Path, before: str) -> None:
    count, at = 1, 0
    while at < count:
        world = World(tmp_path / f"{at}")
        if before:
            world.apply(before)
        held = world.kernel.read("eth1")
        steps = world.prepare(LONGER).plan.steps
        count = len(steps)
        world.kernel.die_at(at)
        with pytest.raises(Killed):
            world.apply(LONGER)
        world.kernel.revive()
        assert not world.kernel.programs
        apply.recover(world.kernel, world.state)
        assert world.kernel.read("eth1") == held, f"killed before step {at}"
        world.apply(LONGER)
        assert world.networks() == [(2001, 2)]
        at += 1
    assert count >= 1


def test_tables_are_kept_as_long_as_something_can_go_back_to_them(world: World) -> None:
    names = []
    for text in (LONG, LONGER, listing(2002)):
        (lookup,) = world.apply(text).program.lookups
        names.append(lookup.name)
    assert world.kept() == set(names[1:])
    world.apply(SHORT)
    assert world.kept() == {names[2]}
    world.apply(SHORT.replace("10%", "11%"))
    assert not world.kept()


def test_tables_that_are_gone_are_named(world: World) -> None:
    world.apply(LONG)
    world.kernel.die_at(0)
    with pytest.raises(Killed):
        world.apply(SHORT)
    world.kernel.revive()
    pending = world.state.pending()
    assert pending is not None
    world.kernel.send("eth1", pending.plan.steps)  # as far as it came
    for path in world.state.folder.glob("shaper-lookup-*.json"):
        path.unlink()
    with pytest.raises(StateError, match="is gone") as caught:
        apply.recover(world.kernel, world.state)
    assert "apply again" in caught.value.hint


def test_where_it_cannot_be_loaded_a_long_list_is_refused_at_its_line(world: World) -> None:
    world.kernel = FakeKernel("eth1", capabilities=replace(FULL, features=FULL.features - {"lookup"}))
    with pytest.raises(UnavailableError, match="more than one classifier holds") as caught:
        world.prepare(LONG)
    assert "doctor" in caught.value.hint
    assert caught.value.where is not None
    assert not world.prepare(SHORT).program.lookups


@pytest.mark.parametrize("limit", ["_MOST_IN_TURN", "_MOST_WITH_TABLES"])
def test_more_rules_than_extended_bpf_has_room_for_are_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, limit, 3000)
    ports, side = list(range(1, 30, 2)), "dst" if limit == "_MOST_WITH_TABLES" else "net"
    classes = "".join(
        f"      c{number}: {{match: [{{{side}: 10.{number >> 8}.{number & 255}.1, dport: {ports}}}]}}\n"
        for number in range(200)
    )
    policy = parse_policy(SHORT.replace("      rest:", f"{classes}      rest:"), source="office.yaml")
    kernel = FakeKernel("eth1")
    with pytest.raises(UnavailableError, match="without the addresses") as caught:
        compile_interface(policy.interfaces[0], kernel.capabilities(), kernel.link("eth1"))
    assert "one question" in caught.value.hint


def test_what_is_done_to_a_class_is_done_behind_tables_too(world: World) -> None:
    text = LONG.replace("listed: {", "listed: {set: {dscp: cs1}, ")
    program = world.apply(text).program
    assert len(program.lookups) == 3  # the classifier, IPv4's, IPv6's
    doing = [node for node in world.kernel.read("eth1").filters if isinstance(node, LoadedFilter) and node.actions]
    assert [node.actions[0] for node in doing] == [SetDscp(4, 8), SetDscp(6, 8)]
    assert not world.prepare(text).plan.steps


def test_in_a_tree_that_was_taken_over_it_names_that_trees_classes(world: World) -> None:
    program = world.prepare(LONG).program
    numbers = {0x5A000000: 0x10000, program.handles["listed"]: 0x10007}
    moved = in_its_numbers(program, Adopted(numbers, 0x30, 0, {}))
    (lookup,) = moved.lookups
    (node,) = (one for one in moved.tree.filters if isinstance(one, LoadedFilter))
    assert (node.name, node.parent) == (lookup.name, 0x10000)
    assert lookup.name != program.lookups[0].name
    assert 0x10007 in [one.k for one in lookup.program if one.code == 0x06]
    assert program.handles["listed"] not in [one.k for one in lookup.program]


def test_tc_has_no_words_for_it(world: World) -> None:
    held = world.apply(LONG).target
    assert "2000 networks of IPv4" in script([("", held)])
    assert any("cannot load" in note for note in rounded(held))


def test_notes_of_very_many_classes_name_the_first_and_count_the_rest() -> None:
    few, many = (
        SHORT.replace(
            "      rest:",
            "".join(f"      s{one}: {{match: [{{dst: 10.0.0.{one}}}]}}\n" for one in range(count)) + "      rest:",
        )
        for count in (30, 100)
    )
    lacking = replace(FULL, qdiscs=frozenset({"htb", "bfifo", "clsact"}))
    kernel = FakeKernel("eth1", capabilities=lacking)
    short, long = (
        compile_interface(parsed(text).interfaces[0], lacking, kernel.link("eth1")).notes for text in (few, many)
    )
    assert any("s29 " in note for note in short)
    assert any("and 94 more" in note for note in long)  # of 104: network control and the three others among them
    assert max(map(len, long)) < 1500
