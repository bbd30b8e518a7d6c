"""After a crash: the last allocation stays until somebody, or the service manager, asks for the static one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_run_freeze import Calls, rate
from test_run_service import Bench, Talk, changed, told

from shaper.errors import TryAgainError
from shaper.kernel.fake import Killed
from shaper.model.change import Who
from shaper.run.changes import Order
from shaper.run.state import DeviceState
from shaper.run.static import to_static


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)


def order(bench: Bench) -> Order:
    return Order(Who(0, "root"), bench.clock.wall(), "it crashed")


def crashed(bench: Bench) -> DeviceState:
    """A run that has moved a rate and whose process is gone then, without a word."""
    calls = Calls(bench)

    def die() -> None:
        assert rate(bench) == 2_000_000
        bench.kernel.die_at(0)

    with pytest.raises(Killed):
        Talk(bench, calls, calls, die).hold()
    bench.kernel.revive()
    return DeviceState(bench.folder, "eth1")


def test_killed_the_last_allocation_stays_and_the_static_one_comes_back_once_asked_for(bench: Bench) -> None:
    state = crashed(bench)
    assert rate(bench) == 2_000_000
    assert to_static(bench.kernel, state, order(bench), now=bench.clock.boot()) == 1
    assert rate(bench) == 1_000_000
    assert told(bench) == [("run", "done"), ("static", "done")]
    assert to_static(bench.kernel, state, order(bench), now=bench.clock.boot()) == 0
    assert len(told(bench)) == 2, "nothing was to be done, and nothing is noted"


def test_the_next_run_begins_from_the_static_allocation(bench: Bench) -> None:
    crashed(bench)
    bench.kernel.count("eth1", {})
    rates: list[int] = []
    Talk(bench, lambda: rates.append(rate(bench))).hold()
    assert rates == [1_000_000]


def test_what_waits_for_its_confirmation_is_left_alone(bench: Bench) -> None:
    Talk(bench, lambda: changed(bench, seconds=600)).hold()
    with pytest.raises(TryAgainError, match="waits for its confirmation"):
        to_static(bench.kernel, DeviceState(bench.folder, "eth1"), order(bench), now=bench.clock.boot())


def test_nothing_of_this_boot_is_nothing_to_put_back(bench: Bench) -> None:
    state = DeviceState(bench.folder, "eth1")
    assert to_static(bench.kernel, state, order(bench), now=0.0) is None
    Talk(bench).hold()
    record = state.record()
    assert record is not None
    state.write_record(replace(record, boot="another"))
    assert to_static(bench.kernel, state, order(bench), now=0.0) is None
