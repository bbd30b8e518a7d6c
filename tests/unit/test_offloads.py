"""Offloads on the verified fake: changed before the queue, given back after it, shared among those who need them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from change_samples import NEW, OLD, Desk, die_everywhere

from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.kernel.fake import FULL, FakeKernel
from shaper.plan.impact import impacts
from shaper.policy import parse_policy
from shaper.report.steps import step_text
from shaper.run import apply
from shaper.run.adopt import adoption
from shaper.run.apply import Prepared
from shaper.run.look import look
from shaper.run.state import DeviceState, both_directions
from shaper.tree import GSO_MAX_SEGS, Feeder, LinkFacts, Offload, queue_limit

AUTO = OLD.replace("policy: office}", "policy: office, offloads: auto}")
BOTH = AUTO.replace("{egress: 20mbit}", "{egress: 20mbit, ingress: 100mbit}")
SECOND = AUTO.replace("device: eth1", "device: eth2")
FOUND = {"eth1 gso_max_segs": 65535, "eth1 gro": 1, "eth2 gso_max_segs": 65535, "eth2 gro": 1, "lan0 gro": 1}
LAN = Feeder("lan0", ("gro", "lro"), feeds=True)
LINK = LinkFacts("eth1", 2, 1500, 14, 65550, True, joined_packet=65550, own=Feeder("eth1", ("gro",)), feeders=(LAN,))


class Net:
    """Two devices towards the world, one that feeds both, and a state folder."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel("eth1", "eth2", "lan0", "lan1")
        self.kernel.forward("lan0")
        self.folder = folder

    def prepared(self, text: str) -> list[tuple[DeviceState, Prepared]]:
        """As the command plans them: all before the first is applied."""
        policy = parse_policy(text, source="office.yaml")
        found: list[tuple[DeviceState, Prepared]] = []
        for one in policy.interfaces:
            state = DeviceState(self.folder, one.device, one.direction)
            first = [each for _, each in found]
            hooked = any(apply.adds_hook(each.plan) and each.link.name == one.device for each in first)
            found.append((state, apply.prepare(self.kernel, state, policy, one, hooked=hooked, first=first)))
        return found

    def apply(self, text: str) -> None:
        for state, one in self.prepared(text):
            apply.apply(self.kernel, state, one)

    def clear(self, device: str) -> None:
        for state in reversed(both_directions(self.folder, device)):
            apply.clear(self.kernel, state)

    def settings(self) -> dict[str, int]:
        """Of the three devices, those of `FOUND`."""
        there = self.kernel.offloads(["eth1", "eth2", "lan0"])
        return {label: one.value for one in there if (label := f"{one.device} {one.name}") in FOUND}


@pytest.fixture
def net(tmp_path: Path) -> Net:
    return Net(tmp_path)


def test_packets_become_small_before_the_queue_does_and_large_after_it(net: Net) -> None:
    net.apply(AUTO)
    steps = net.kernel.sent
    assert [step_text(step, {}) for step in steps[:2]] == [
        "~ offload of eth1: gso_max_segs 65535 -> 1",
        "~ offload of lan0: gro on -> off",
    ]
    assert not any(isinstance(step.node, Offload) for step in steps[2:])
    assert net.settings() == FOUND | {"eth1 gso_max_segs": 1, "lan0 gro": 0}
    net.clear("eth1")
    assert {step.node for step in net.kernel.sent[-2:]} == {
        Offload("eth1", GSO_MAX_SEGS, 65535),
        Offload("lan0", "gro", 1),
    }
    assert net.settings() == FOUND
    assert net.kernel.read("eth1").root() is None


def test_the_queues_are_sized_for_frames_then(net: Net) -> None:
    def limit() -> int:
        leaf = net.kernel.read("eth1").leaf_of(0x5A000011)
        return queue_limit(leaf.options) or 0 if leaf else 0

    net.apply(OLD)
    before = limit()
    net.apply(AUTO)
    assert limit() < 65550 * 3 * 2 <= before  # fq_codel counts the kernel's memory, twice the bytes
    net.apply(OLD)
    assert limit() == before
    assert net.settings() == FOUND


def test_without_the_key_no_device_is_touched(net: Net) -> None:
    net.apply(OLD)
    assert net.settings() == FOUND
    assert not any(isinstance(step.node, Offload) for step in net.kernel.sent)


def test_what_comes_in_is_joined_by_the_device_itself(net: Net) -> None:
    net.apply(BOTH)
    assert net.settings() == FOUND | {"eth1 gso_max_segs": 1, "lan0 gro": 0, "eth1 gro": 0}
    net.apply(AUTO)
    net.clear("eth1")
    assert net.settings() == FOUND


@pytest.mark.parametrize("order", [("eth1", "eth2"), ("eth2", "eth1")])
def test_who_lets_go_last_gives_back_what_the_first_found(net: Net, order: tuple[str, str]) -> None:
    net.apply(AUTO)
    net.apply(SECOND)
    net.clear(order[0])
    assert net.settings()["lan0 gro"] == 0
    net.clear(order[1])
    assert net.settings() == FOUND


def test_two_interfaces_of_one_policy_change_their_feeder_once_and_back(net: Net) -> None:
    second = "  dsl: {device: eth2, bandwidth: {egress: 5mbit}, policy: other, offloads: auto}\n"
    classes = "  other: {classes: {rest: {default: true}}}\n"
    text = AUTO.replace("policies:\n", f"{second}policies:\n{classes}")
    net.apply(text)
    changed = [step.node for step in net.kernel.sent if isinstance(step.node, Offload)]
    assert changed.count(Offload("lan0", "gro", 0)) == 1
    net.apply(text.replace("offloads: auto", "offloads: keep"))
    assert net.settings() == FOUND
    assert all(not record.offloads for name in ("eth1", "eth2") if (record := DeviceState(net.folder, name).record()))


def test_what_somebody_else_made_of_it_since_stays(net: Net) -> None:
    net.apply(AUTO)
    net.kernel.set_offload("eth1", GSO_MAX_SEGS, 40)
    net.clear("eth1")
    assert net.settings() == FOUND | {"eth1 gso_max_segs": 40}


def test_a_release_leaves_them_and_a_clear_gives_them_back(net: Net) -> None:
    net.apply(AUTO)
    set_by_us = net.settings()
    for state in both_directions(net.folder, "eth1"):
        apply.release(net.kernel, state)
    assert net.settings() == set_by_us
    root = net.kernel.read("eth1").root()
    net.clear("eth1")
    assert net.settings() == FOUND
    assert net.kernel.read("eth1").root() == root, "a tree that is nobody's stays"
    net.kernel.set_offload("lan0", "gro", 0)
    net.clear("eth1")
    assert net.settings()["lan0 gro"] == 0, "what is somebody else's now stays"


@pytest.mark.parametrize("touched", [True, False])
def test_who_takes_a_released_tree_over_knows_what_they_were(net: Net, touched: bool) -> None:
    net.apply(AUTO)
    policy, state = parse_policy(AUTO, source="office.yaml"), DeviceState(net.folder, "eth1")
    apply.release(net.kernel, state)
    if touched:
        net.kernel.set_offload("eth1", GSO_MAX_SEGS, 7)
    apply.apply(net.kernel, state, adoption(net.kernel, state, policy, policy.interfaces[0], named={}))
    assert net.settings()["eth1 gso_max_segs"] == 1
    net.clear("eth1")
    assert net.settings() == FOUND | ({"eth1 gso_max_segs": 7} if touched else {})
    assert not state.has("released.json")


def test_drift_is_named_and_put_back(net: Net) -> None:
    net.apply(AUTO)
    net.kernel.set_offload("lan0", "gro", 1)
    assert look(net.kernel, DeviceState(net.folder, "eth1"), now=0.0).drift == ("device lan0: gro is on, ours is off",)
    net.apply(AUTO)
    assert net.settings()["lan0 gro"] == 0
    net.clear("eth1")
    assert net.settings() == FOUND


def test_a_device_that_begins_to_feed_is_taken_in_and_one_that_stops_let_go(net: Net) -> None:
    net.apply(AUTO)
    net.kernel.forward("lan1")
    net.kernel._forwards.discard("lan0")
    net.apply(AUTO)
    assert net.settings()["lan0 gro"] == 1
    assert Offload("lan1", "gro", 0) in net.kernel.offloads(["lan1"])


def test_a_shaped_device_that_is_gone_gives_its_feeders_back(net: Net) -> None:
    net.apply(AUTO)
    net.kernel.remove_device("eth1")
    net.clear("eth1")
    assert net.settings() == {name: value for name, value in FOUND.items() if not name.startswith("eth1")}


def test_a_feeder_that_is_gone_is_no_trouble(net: Net) -> None:
    net.apply(AUTO)
    net.kernel.remove_device("lan0")
    net.apply(NEW.replace("policy: office}", "policy: office, offloads: auto}"))
    net.clear("eth1")
    assert net.kernel.read("eth1").root() is None


@pytest.mark.slow
def test_killed_anywhere_the_offloads_are_as_before_or_after(tmp_path: Path) -> None:
    count = iter(range(10**6))

    def fresh() -> Desk:
        desk = Desk(tmp_path / f"{next(count)}")
        desk.kernel.add_device("lan0")
        desk.kernel.forward("lan0")
        return desk

    def settings(desk: Desk) -> set[Offload]:
        return {one for one in desk.kernel.offloads(["eth1", "lan0"]) if one.name != "lro"}

    before, desk = settings(fresh()), fresh()
    after = (desk.apply(AUTO), settings(desk))[1]
    assert len(after - before) == 2
    for _, dead in die_everywhere(lambda on: on[0].apply(AUTO, kernel=on[1]), fresh):
        dead.tidy()
        assert settings(dead) == (after if dead.held().classes else before)

    def applied() -> Desk:
        desk = fresh()
        desk.apply(AUTO)
        return desk

    for _, dead in die_everywhere(lambda on: on[0].clear(kernel=on[1]), applied):
        dead.tidy()
        assert settings(dead) == (after if dead.held().classes else before)
        dead.clear()
        assert settings(dead) == before


@pytest.mark.parametrize("first", [None, OLD, NEW.replace("policy: office}", "policy: office, offloads: auto}")])
def test_what_was_never_confirmed_on_a_device_that_went_is_given_back(tmp_path: Path, first: str | None) -> None:
    desk = Desk(tmp_path)
    desk.kernel.add_device("lan0")
    desk.kernel.forward("lan0")
    if first is not None:
        desk.apply(first)
    before = desk.kernel.offloads(["lan0"])
    desk.apply(AUTO, seconds=60)
    assert Offload("lan0", "gro", 0) in desk.kernel.offloads(["lan0"])
    desk.kernel.remove_device("eth1")
    desk.now += 61
    assert desk.tidy()
    assert desk.kernel.offloads(["lan0"]) == before


def compiled(text: str, link: LinkFacts = LINK) -> Program:
    (interface,) = parse_policy(text, source="office.yaml").interfaces
    return compile_interface(interface, FULL, link)


def test_at_a_gigabit_nothing_is_changed_unless_the_feeders_are_named() -> None:
    fast = AUTO.replace("20mbit}, policy", "2gbit}, policy")
    program = compiled(fast)
    assert not program.tree.offloads
    assert any("at 2gbit super-packets hold nobody up" in note for note in program.notes)
    named = compiled(fast.replace("offloads: auto", "offloads: {feeding: lan0}"))
    assert [(one.device, one.name) for one in named.tree.offloads] == [
        ("eth1", "gso_max_segs"),
        ("lan0", "gro"),
        ("lan0", "lro"),
    ]


def test_cake_cuts_super_packets_itself() -> None:
    program = compiled(
        AUTO[: AUTO.index("policies:")].replace("auto", "auto, backend: cake")
        + "policies: {office: {classes: {all: {default: true}}}}"
    )
    assert not program.tree.offloads
    assert any("CAKE cuts super-packets itself" in note for note in program.notes)


def test_named_feeders_that_are_not_there_are_refused_at_their_line() -> None:
    with pytest.raises(UnavailableError, match="cannot be fed by lan7") as caught:
        compiled(AUTO.replace("offloads: auto", "offloads: {feeding: lan7}"))
    assert caught.value.where is not None
    assert caught.value.where.line == 3
    assert "lan0" in caught.value.hint


def test_what_cannot_be_turned_off_keeps_the_queues_long() -> None:
    fixed = replace(LINK, feeders=(LAN._replace(joins=("gro",), fixed=("lro",)),))
    assert compiled(AUTO, fixed).bounds["voice"].queue[0] == compiled(OLD).bounds["voice"].queue[0]
    assert any("the driver of lan0 cannot turn off lro" in note for note in compiled(AUTO, fixed).notes)


def test_a_driver_that_may_start_anew_is_called_disruptive(net: Net) -> None:
    plan = net.prepared(AUTO)[0][1].plan
    lro = replace(
        plan, steps=(replace(plan.steps[1], before=Offload("lan0", "lro", 1), after=Offload("lan0", "lro", 0)),)
    )
    assert [impact.disruptive for impact in impacts(plan)[:2]] == [False, False]
    assert [impact.disruptive for impact in impacts(lro)] == [True]
