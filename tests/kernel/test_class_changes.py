"""Class changes under live traffic lose nothing and turn no order about; `scripts/bench changes` is the full size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from class_changes import BACKENDS, LOADS, Outcome, changed_under

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

COUNT = 40


@pytest.mark.parametrize("load", LOADS)
def test_every_packet_is_accounted_for_and_in_order(netns: Lab, tmp_path: Path, load: str) -> None:
    whole(changed_under(netns, tmp_path, backend="htb", load=load, count=COUNT, seed=7))


@pytest.mark.full
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_on_every_backend_whose_queues_are_aqms(netns: Lab, tmp_path: Path, backend: str, load: str) -> None:
    whole(changed_under(netns, tmp_path, backend=backend, load=load, count=COUNT, seed=8))


@pytest.mark.parametrize("load", LOADS)
def test_a_root_that_is_replaced_is_found_out(netns: Lab, tmp_path: Path, load: str) -> None:
    outcome = changed_under(netns, tmp_path, backend="htb", load=load, count=COUNT, seed=9, replace_root=True)
    assert outcome.roots == 1
    assert any("neither received nor counted" in problem for problem in outcome.problems()), outcome


def whole(outcome: Outcome) -> None:
    """Nothing wrong, with traffic and changes enough to find it."""
    print(outcome)
    assert not outcome.problems(), f"{outcome}"
    assert outcome.changes >= COUNT
    assert not outcome.roots
    assert all(flow.received > 20 for flow in outcome.flows.values())
