"""The policies that ship, on the verified fake: applied, again, cleared, and from one to its neighbour and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from compile_samples import FLOWER_KERNEL, FULL_KERNEL, SMALL_KERNEL
from starters import NEIGHBOURS, STARTERS, on_device

from shaper.errors import UnavailableError
from shaper.kernel.fake import FakeKernel
from shaper.plan.steps import Plan
from shaper.policy import parse_policy
from shaper.run import apply
from shaper.run.state import DeviceState
from shaper.tree import tree

KERNELS = {"small": SMALL_KERNEL, "full": FULL_KERNEL, "flower": FLOWER_KERNEL}
WITH_BPF = ("small", "full")


def on(name: str, folder: Path) -> tuple[FakeKernel, DeviceState]:
    return FakeKernel("eth1", capabilities=KERNELS[name]), DeviceState(folder, "eth1")


def put(kernel: FakeKernel, state: DeviceState, path: Path) -> Plan:
    """Applies a starter policy on eth1, whichever device it names; the steps that it took."""
    policy = parse_policy(on_device(path, "eth1"), source=str(path))
    prepared = apply.prepare(kernel, state, policy, policy.interfaces[0])
    apply.apply(kernel, state, prepared)
    return prepared.plan


def test_there_is_one_for_each_kind_of_site() -> None:
    sites = {"branch-office", "home-cable", "home-dsl", "isp-subscribers", "data-centre", "voip-trunk", "satellite"}
    assert sites <= {path.stem for path in STARTERS}


@pytest.mark.parametrize("name", WITH_BPF)
@pytest.mark.parametrize("path", STARTERS, ids=lambda path: path.stem)
def test_applied_again_and_cleared(tmp_path: Path, path: Path, name: str) -> None:
    kernel, state = on(name, tmp_path)
    assert put(kernel, state, path).steps
    assert not put(kernel, state, path).steps
    apply.clear(kernel, state)
    assert kernel.read("eth1") == tree("eth1", ())
    assert state.record() is None


@pytest.mark.parametrize("path", STARTERS, ids=lambda path: path.stem)
def test_a_kernel_with_flower_alone_carries_it_or_refuses_a_line_of_it(tmp_path: Path, path: Path) -> None:
    kernel, state = on("flower", tmp_path)
    try:
        assert put(kernel, state, path).steps
    except UnavailableError as error:
        (problem,) = error.problems()
        assert problem.hint
        assert problem.where is not None
        assert "{" in path.read_text().splitlines()[problem.where.line - 1]
        assert kernel.read("eth1") == tree("eth1", ())


@pytest.mark.parametrize("name", WITH_BPF)
@pytest.mark.parametrize(("first", "second"), NEIGHBOURS, ids=lambda path: path.stem)
def test_to_a_neighbour_and_back_is_the_same_tree(tmp_path: Path, first: Path, second: Path, name: str) -> None:
    kernel, state = on(name, tmp_path)
    put(kernel, state, first)
    before = kernel.read("eth1")
    assert put(kernel, state, second).steps
    put(kernel, state, first)
    assert kernel.read("eth1") == before
