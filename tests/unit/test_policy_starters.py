"""The policies that ship, on the verified fake: applied, again, cleared, and from one to its neighbour and back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from compile_samples import FLOWER_KERNEL, FULL_KERNEL, SMALL_KERNEL
from starters import NEIGHBOURS, STARTERS, on_device

from shaper.errors import UnavailableError
from shaper.kernel.fake import FakeKernel
from shaper.model.policy import Direction, Policy
from shaper.plan.impact import impacts
from shaper.plan.steps import Plan
from shaper.policy import parse_policy, read_policy
from shaper.run import apply
from shaper.run.prepare import prepare
from shaper.run.state import DeviceState
from shaper.tree import GSO_MAX_SEGS, Tree, tree

KERNELS = {"small": SMALL_KERNEL, "full": FULL_KERNEL, "flower": FLOWER_KERNEL}
WITH_BPF = ("small", "full")
NOON = datetime.fromisoformat("2026-11-25T12:00+00:00").timestamp()
"""A Wednesday."""
SCHEDULED = {"branch-office", "home-cable", "satellite"}
BOTH_WAYS = {"branch-office", "home-cable", "home-dsl", "voip-trunk", "satellite"}


SLOW = {*BOTH_WAYS, "video-site"}
"""Below 1 Gbit/s; the demo is none of these sites."""


class Machine:
    """One device, and what is ours on it in each direction."""

    def __init__(self, name: str, folder: Path) -> None:
        self.kernel = FakeKernel("eth1", capabilities=KERNELS[name])
        self._sides = [DeviceState(folder, "eth1", direction) for direction in Direction]

    def put(self, path: Path, *, at: float = NOON) -> list[Plan]:
        """Applies a starter policy, whichever device it names; the steps that it took in each direction."""
        policy = parse_policy(on_device(path, "eth1"), source=str(path))
        wanted = {interface.direction: interface.at(at) for interface in policy.interfaces}
        plans = []
        for side in self._sides:
            if side.direction in wanted:
                prepared = prepare(self.kernel, side, policy, wanted[side.direction])
                apply.apply(self.kernel, side, prepared)
                plans.append(prepared.plan)
        for side in self._sides:
            if side.direction not in wanted:
                apply.clear(self.kernel, side)
        return plans

    def held(self) -> list[Tree | None]:
        return [apply.read(self.kernel, side) if side.record() else None for side in self._sides]

    def clear(self) -> None:
        for side in reversed(self._sides):
            apply.clear(self.kernel, side)
            assert side.record() is None


def of(stem: str) -> Policy:
    return read_policy(next(path for path in STARTERS if path.stem == stem))


def test_there_is_one_for_each_kind_of_site() -> None:
    sites = {"branch-office", "home-cable", "home-dsl", "isp-subscribers", "data-centre", "voip-trunk", "satellite"}
    assert sites <= {path.stem for path in STARTERS}


def test_they_show_what_can_be_said() -> None:
    """Both directions, schedules, service classes and contracted profiles, where an engineer would look for them."""
    directions = {path.stem for path in STARTERS if len({one.direction for one in read_policy(path).interfaces}) == 2}
    assert directions == BOTH_WAYS
    assert {path.stem for path in STARTERS if any(one.timetable for one in read_policy(path).interfaces)} == SCHEDULED
    for stem in ("branch-office", "voip-trunk"):
        assert "telephony" in {cls.service for cls in of(stem).at(NOON).interfaces[0].walk()}
    assert "profile:" in next(path for path in STARTERS if path.stem == "isp-subscribers").read_text()


@pytest.mark.parametrize("name", WITH_BPF)
@pytest.mark.parametrize("path", STARTERS, ids=lambda path: path.stem)
def test_applied_again_and_cleared(tmp_path: Path, path: Path, name: str) -> None:
    machine = Machine(name, tmp_path)
    offloads = machine.kernel.offloads(["eth1"])
    assert all(plan.steps for plan in machine.put(path))
    small = [one for one in machine.kernel.offloads(["eth1"]) if one.name == GSO_MAX_SEGS]
    assert (small != [one for one in offloads if one.name == GSO_MAX_SEGS]) == (path.stem in SLOW)
    assert not any(plan.steps for plan in machine.put(path))
    machine.clear()
    assert machine.kernel.offloads(["eth1"]) == offloads
    assert machine.kernel.read("eth1") == tree("eth1", ())


@pytest.mark.parametrize("name", WITH_BPF)
@pytest.mark.parametrize("path", [path for path in STARTERS if path.stem in SCHEDULED], ids=lambda path: path.stem)
def test_through_a_week_of_its_schedule_and_back(tmp_path: Path, path: Path, name: str) -> None:
    """Every change of its numbers changes something; hitless, but for fq_codel where it is told to hold less."""
    machine = Machine(name, tmp_path)
    machine.put(path)
    before, at, turns = machine.held(), NOON, 0
    timetable = read_policy(path).interfaces[0].timetable
    assert timetable is not None
    while (change := timetable.next_change(at)) is not None and change < NOON + 7 * 86400:
        plans = machine.put(path, at=change)
        assert any(plan.steps for plan in plans)
        assert not [impact.reason for plan in plans for impact in impacts(plan) if impact.disruptive]
        at, turns = change, turns + 1
    assert turns >= 12
    machine.put(path, at=NOON + 7 * 86400)
    assert machine.held() == before


@pytest.mark.parametrize("path", STARTERS, ids=lambda path: path.stem)
def test_a_kernel_with_flower_alone_carries_it_or_refuses_a_line_of_it(tmp_path: Path, path: Path) -> None:
    machine = Machine("flower", tmp_path)
    try:
        assert all(plan.steps for plan in machine.put(path))
    except UnavailableError as error:
        (problem,) = error.problems()
        assert problem.hint
        assert problem.where is not None
        line = path.read_text().splitlines()[problem.where.line - 1]
        if "what comes in" in problem.message:  # which is redirected by a program of cls_bpf
            assert "device:" in line
        else:
            assert "{" in line


@pytest.mark.parametrize("name", WITH_BPF)
@pytest.mark.parametrize(("first", "second"), NEIGHBOURS, ids=lambda path: path.stem)
def test_to_a_neighbour_and_back_is_the_same_tree(tmp_path: Path, first: Path, second: Path, name: str) -> None:
    machine = Machine(name, tmp_path)
    machine.put(first)
    before = machine.held()
    assert any(plan.steps for plan in machine.put(second))
    machine.put(first)
    assert machine.held() == before
