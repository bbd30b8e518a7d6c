"""Rule edits under traffic are atomic where the plan says so; `scripts/bench edits` is the full size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rule_edits import edited_under

from collectors.bpf import lookup

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

COUNT = 12


def test_no_packet_sees_a_program_half_exchanged(netns: Lab, tmp_path: Path) -> None:
    outcome = edited_under(netns, tmp_path, classifier="bpf", count=COUNT, seed=3)
    print(outcome)
    assert not outcome.problems(), "\n".join([f"{outcome}", *outcome.problems()])
    assert outcome.filters == {1: COUNT}
    assert outcome.strays == 0
    assert outcome.moved > 0
    assert outcome.during > COUNT


def test_an_exchange_in_two_messages_is_found_out(netns: Lab, tmp_path: Path) -> None:
    outcome = edited_under(netns, tmp_path, classifier="bpf", count=COUNT, seed=3, half_done=True)
    assert outcome.strays, outcome
    assert outcome.problems()


def test_no_packet_sees_tables_half_exchanged(netns: Lab, tmp_path: Path) -> None:
    if why := lookup.refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    outcome = edited_under(netns, tmp_path, classifier="tables", count=COUNT // 3, seed=5)
    print(outcome)
    assert not outcome.problems(), "\n".join([f"{outcome}", *outcome.problems()])
    assert outcome.filters == {1: COUNT // 3}
    assert outcome.refused == outcome.strays == 0
    assert outcome.moved > 0
    held = netns.run("tc filter show dev q0")
    assert "shaper-lookup-" in held


@pytest.mark.full
def test_flower_filters_are_as_atomic_as_the_plan_says(netns: Lab, tmp_path: Path) -> None:
    outcome = edited_under(netns, tmp_path, classifier="flower", count=COUNT, seed=4)
    print(outcome)
    assert not outcome.problems(), "\n".join([f"{outcome}", *outcome.problems()])
    assert max(outcome.filters) > 1
