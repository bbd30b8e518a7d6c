"""The rails that hold a running controller, each provoked; ARCHITECTURE.md lists them with the tests that do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from journal_samples import POLICY
from test_run_freeze import Calls, journal, rate
from test_run_service import NEW, TEXT, Bench, Talk, Watching, say

from collectors.sample import CaptureWindow
from shaper import control
from shaper.cli.run import _policy
from shaper.cli.simulate import compiled
from shaper.errors import PolicyError, UnavailableError
from shaper.lab.offered import from_scenario
from shaper.lab.scenario import read_scenario
from shaper.lab.simulator import Simulation
from shaper.lab.stage import laid_out, the_interface
from shaper.model.observation import CaptureHealth, ClassObservation, Observation
from shaper.run.inbox import Inbox
from shaper.run.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)


class Lossy(Simulation):
    """A simulation whose capture loses packets itself from the fourth second on."""

    def _window(self, seconds: float) -> CaptureWindow:
        window = super()._window(seconds)
        return replace(window, capture_drops=window.captured // 50) if self._last > 4e9 else window


def test_bad_data_freezes_the_feedback_and_not_the_feed_forward() -> None:
    interface, path = the_interface(POLICY), ROOT / "policies" / "scenarios" / "open-loop.yaml"
    traffic = laid_out(interface, read_scenario(path), name=path, seconds=9, seed=1)
    simulation = Lossy(compiled(interface, structure=True), from_scenario(traffic), mode="controlled")
    simulation.run()
    after = [move for move in simulation.moves if move.at > 4.5]
    assert after, "video goes on rising, and is followed by what the counters say"
    assert all("capture not trusted" in move.decision.held for move in after)
    (integral,) = {move.premise.state.classes["video"].integral for move in after}
    assert simulation._state.classes["video"].integral == integral


def test_without_fresh_counters_the_static_allocation_comes_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[int] = []
    calls = Calls(bench)

    def blind() -> None:
        rates.append(rate(bench))

        def gone(device: str) -> Any:
            raise UnavailableError(f"there is no device {device}")

        monkeypatch.setattr(bench.kernel, "counters", gone)

    talk = Talk(bench, calls, calls, blind, *[lambda: None] * 20, lambda: rates.append(rate(bench)))
    talk.hold()
    assert rates == [2_000_000, 1_000_000]
    assert journal(bench)[-1].decision.held == "stale"
    assert any("there is no device" in alarm for alarm in talk.status[-1].alarms)


def test_a_dry_run_decides_and_journals_and_moves_nothing(bench: Bench) -> None:
    calls, seconds = Calls(bench), list[int]()
    bench.stop()
    bench.serve(Watching())
    static = bench.kernel.read("eth1")

    def at() -> None:
        seconds.append(rate(bench))
        calls() if len(seconds) < 6 else bench.stop()

    bench.serve(Watching(at), Settings(dry_run=True))
    assert set(seconds) == {1_000_000}
    assert bench.kernel.read("eth1") == static
    would = [line for line in journal(bench) if any(change.path == "voice" for change in line.decision.changes)]
    assert would
    assert not any(line.applied for line in would)


def test_no_more_changes_a_minute_than_the_budget_has() -> None:
    """Two classes whose traffic is another at every tick, and misses nothing."""
    program = compiled(the_interface(POLICY), structure=True)
    setup = control.setup_from(program.interface, program.bounds, program.static)
    state, tuning, dice = control.initial(setup), control.Tuning(changes_per_minute=6), Random(1)
    times: list[float] = []
    held: list[str] = []
    for tick in range(1, 481):
        now = tick * 0.25
        offered = {path: dice.uniform(1e6, 8e6) for path in ("video", "web")}
        seen = {
            path: ClassObservation(path, 0.25, int(rate / 32), int(rate / 32_000), 0, 0, rate, rate)
            for path, rate in offered.items()
        }
        observation = Observation(0.25, seen, CaptureHealth(running=True, captured=1000))
        state, decision = control.step(setup, state, observation, now=now, tuning=tuning)
        if sum(now - at < 60 for at in times) >= tuning.changes_per_minute:
            assert decision.changes == ()
            held.append(decision.held)
        times += [now] * len(decision.changes)
    assert len(times) > 6, "it goes on in the second minute"
    assert "changes a minute used up" in held


def test_what_the_kernel_refuses_is_an_alarm_and_not_the_end(bench: Bench) -> None:
    rates: list[int] = []
    calls = Calls(bench)

    def allowed() -> None:
        rates.append(rate(bench))
        bench.kernel.deny(denied=False)

    talk = Talk(bench, bench.kernel.deny, calls, calls, allowed, calls, calls, lambda: rates.append(rate(bench)))
    talk.hold()
    assert rates == [1_000_000, 2_000_000]
    assert any("permit" in alarm for alarm in talk.status[3].alarms), talk.status[3].alarms
    assert not any("permit" in alarm for alarm in talk.status[-1].alarms)


def test_packets_that_passed_unshaped_are_an_alarm_for_a_minute(bench: Bench) -> None:
    passed = partial(bench.kernel.count, "eth1", {}, unshaped=2)
    talk = Talk(bench, passed, *[lambda: None] * 70).hold()
    told = {one.seconds: "2 packets passed the shaper without a class" in one.alarms for one in talk.status}
    stood = [seconds for seconds, said in told.items() if said]
    assert not told[min(told)] and not told[max(told)]
    assert 57 <= stood[-1] - stood[0] <= 60
    assert {one.unshaped_packets for one in talk.status[2:]} == {2}


BROKEN = TEXT.replace("20mbit", "20bps")


def test_a_file_that_is_wrong_at_the_start_leaves_the_last_good_policy_in_force(bench: Bench) -> None:
    Talk(bench, lambda: say(bench, "apply", text=NEW, source=bench.policy.source)).hold()
    path = Path(bench.policy.source)
    path.write_text(BROKEN)
    with pytest.raises(PolicyError):
        _policy(path, bench.folder, last_good=False)
    bench.policy, alarm = _policy(path, bench.folder, last_good=True)
    assert bench.policy.text == NEW
    assert alarm.startswith(f"{path} is wrong (")
    watching = Watching(lambda: None)
    alarms: list[tuple[str, ...]] = []

    def at() -> None:
        alarms.append(watching.statuses[0].alarms)
        if len(alarms) == 1:
            say(bench, "apply", text=TEXT, source=str(path))
        elif len(alarms) == 3:
            bench.stop()

    watching._at, bench.inbox = at, Inbox()
    bench.serve(watching, Settings(alarm=alarm))
    assert alarm in alarms[0]
    assert alarm not in alarms[-1], "another was applied"


def test_without_a_last_good_one_a_wrong_file_is_refused(bench: Bench) -> None:
    path = Path(bench.policy.source)
    path.write_text(BROKEN)
    with pytest.raises(PolicyError):
        _policy(path, bench.folder, last_good=True)


def test_every_rail_that_is_listed_has_its_test() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text.split("## Rails\n")[1].split("\n## ")[0]
    named = re.findall(r"`(?:(tests/\S+\.py)|(test_\w+))`", table)
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 10
    assert all(re.search(r"`(tests/\S+\.py|test_\w+)`", row) for row in rows), "a rail without a test"
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for file, name in named if name and f"def {name}(" not in tests] == []
    assert [file for file, _ in named if file and not (ROOT / file).is_file()] == []
