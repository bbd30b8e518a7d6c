"""The kill switch: frozen, the controller judges and journals and moves nothing, until it is thawed or time is up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_run_service import NEW, Bench, Talk, say, told

import shaper.cli.asking
import shaper.cli.freeze
from shaper.cli.entry import cli
from shaper.errors import ShaperError
from shaper.history.changes import ChangeLog
from shaper.history.records import JournalLine
from shaper.history.store import History
from shaper.kernel.protocol import ClassCounters
from shaper.model.change import Who
from shaper.model.freeze import Freeze
from shaper.model.policy import Direction
from shaper.report.metrics import families
from shaper.run.changes import Order
from shaper.run.freezing import freeze, read_freeze, thaw, write_freeze
from shaper.run.look import look
from shaper.run.state import DeviceState

VOICE = 0x5A000011
HALF_AN_HOUR = 1800.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)


def state(bench: Bench) -> DeviceState:
    return DeviceState(bench.folder, "eth1")


def asking(bench: Bench, why: str = "") -> Order:
    return Order(Who(7, "eve"), bench.clock.wall(), why)


def rate(bench: Bench) -> int:
    return next(cls.rate for cls in bench.kernel.read("eth1").classes if cls.handle == VOICE)  # type: ignore[union-attr]


class Calls:
    """More and more calls: each time so many bytes of voice since the last, far beyond its guarantee."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._sent = self._packets = 0

    def __call__(self) -> None:
        self._sent += 400_000
        self._packets += 2000
        counters = ClassCounters(self._sent, self._packets, 0, 0, 0, 0)
        self._bench.kernel.count("eth1", {VOICE: counters})


def journal(bench: Bench) -> tuple[JournalLine, ...]:
    with History(state(bench).history) as history:
        return history.journal(last=100)


def test_the_traffic_of_these_tests_moves_the_controller(bench: Bench) -> None:
    rates: list[int] = []
    calls = Calls(bench)
    Talk(bench, calls, calls, lambda: rates.append(rate(bench))).hold()
    assert rates == [2_000_000]


def test_frozen_it_says_what_it_would_do_and_does_not(bench: Bench) -> None:
    rates: list[int] = []
    asked: list[Any] = []
    calls = Calls(bench)
    talk = Talk(
        bench,
        lambda: asked.append(say(bench, "freeze", why="ticket 4711")),
        calls,
        calls,
        lambda: rates.append(rate(bench)),
        lambda: asked.append(say(bench, "thaw", why="done")),
        calls,
        calls,
        lambda: rates.append(rate(bench)),
        lambda: asked.append(say(bench, "thaw")),
    ).hold()
    assert rates == [1_000_000, 2_000_000]
    freezing, thawing, again = (request.wait(0) for request in asked)
    assert freezing["freeze"]["why"] == "ticket 4711"
    assert freezing["freeze"]["who"]["uid"] == 7
    assert freezing["unnoted"] == ""
    assert (thawing["was_frozen"], again["was_frozen"]) == (True, False)
    assert told(bench) == [("run", "done"), ("freeze", "done"), ("thaw", "done")]
    assert ChangeLog(state(bench).folder).find(2).why == "ticket 4711"

    held = [line for line in journal(bench) if line.decision.held.startswith("frozen by")]
    assert any(change.path == "voice" for line in held for change in line.decision.changes), "what it would have done"
    assert not any(line.applied for line in held)
    assert any(line.applied for line in journal(bench) if not line.decision.held.startswith("frozen"))
    (frozen,) = {status.frozen for status in talk.status[2:5]}
    assert frozen is not None
    assert "frozen by" in talk.status[2].controller.held
    assert talk.status[-1].frozen is None
    samples = {
        status.frozen is not None: sample.value
        for status in (talk.status[0], talk.status[3])
        for family in families([status])
        for sample in family.samples
        if sample.name == "shaper_frozen"
    }
    assert samples == {False: 0.0, True: 1.0}


def test_what_was_decided_while_it_was_frozen_is_decided_again_when_replayed(bench: Bench) -> None:
    calls = Calls(bench)
    Talk(bench, lambda: say(bench, "freeze"), calls, calls).hold()
    assert any(line.decision.changes and line.premise and line.premise.frozen for line in journal(bench))
    done = CliRunner().invoke(cli, ["replay", str(state(bench).history)], standalone_mode=False)
    assert (done.return_value, "0 differ" in done.output) == (0, True), done.output


def test_a_file_is_enough_and_outlives_the_run(bench: Bench) -> None:
    rates: list[int] = []
    calls = Calls(bench)
    Talk(bench, lambda: freeze(state(bench), asking(bench), seconds=None), calls, calls).hold()
    talk = Talk(bench, calls, calls, lambda: rates.append(rate(bench)), lambda: thaw(state(bench), at=0)).hold()
    assert rates == [1_000_000]
    assert all(status.frozen for status in talk.status[:4])
    assert talk.status[-1].frozen is None


def test_a_schedule_an_apply_and_a_mend_go_on(bench: Bench) -> None:
    ceils: list[int] = []

    def look() -> None:
        ceils.append(next(cls.ceil for cls in bench.kernel.read("eth1").classes if cls.handle == VOICE))  # type: ignore[union-attr]

    freeze(state(bench), asking(bench), seconds=None)
    applied: list[Any] = []
    Talk(bench, look, lambda: applied.append(say(bench, "apply", text=NEW, source="new.yaml")), look).hold()
    assert applied[0].wait(0)
    assert ceils == [2_000_000, 3_000_000]


def test_it_ends_by_itself_and_the_history_says_so(bench: Bench) -> None:
    calls = Calls(bench)
    rates: list[int] = []
    begun = freeze(state(bench), asking(bench), seconds=6.0)
    talk = Talk(bench, *[calls] * 12, lambda: rates.append(rate(bench))).hold()
    assert rates == [2_000_000]
    frozen = [status.frozen == begun for status in talk.status]
    assert frozen == sorted(frozen, reverse=True), "frozen at first, then never again"
    assert 0 < sum(frozen) < len(frozen)
    assert told(bench) == [("run", "done"), ("thaw", "done")]
    assert ChangeLog(state(bench).folder).find(2).why == "its time was over"
    assert read_freeze(state(bench)) is None


def test_a_file_that_cannot_be_read_freezes_and_says_so(bench: Bench) -> None:
    calls = Calls(bench)
    rates: list[int] = []
    path = state(bench).home / "frozen.json"

    def scribble() -> None:
        path.write_text("not JSON")

    Talk(bench).hold()
    scribble()
    found = look(bench.kernel, state(bench), now=bench.clock.boot())
    assert found.frozen is not None
    assert any("frozen.json is damaged" in alarm for alarm in found.alarms)
    path.unlink()
    talk = Talk(bench, scribble, calls, calls, lambda: rates.append(rate(bench)), path.unlink, calls, calls).hold()
    assert rates == [1_000_000]
    assert any("frozen.json is damaged" in alarm and "shaper thaw" in alarm for alarm in talk.status[3].alarms)
    assert not any("frozen" in alarm for alarm in talk.status[-1].alarms)
    assert rate(bench) == 1_000_000, "the static allocation is put back at the end"


def test_what_it_would_have_done_is_forgotten_when_it_is_thawed(bench: Bench) -> None:
    """While it is frozen the law goes on as if its moves were made; what follows stands on what the kernel has."""
    calls = Calls(bench)
    Talk(
        bench,
        lambda: say(bench, "freeze"),
        *[calls] * 3,
        lambda: say(bench, "thaw"),
        *[calls] * 3,
    ).hold()
    after = next(line for line in journal(bench) if line.applied and line.decision.changes)
    (change,) = [change for change in after.decision.changes if change.path == "voice"]
    assert change.before.rate == 1_000_000
    assert after.premise is not None
    assert after.premise.state.classes["voice"].grant.rate == 1_000_000


def test_both_directions_have_one_file(tmp_path: Path) -> None:
    egress = DeviceState(tmp_path, "eth1")
    ingress = DeviceState(tmp_path, "eth1", Direction.INGRESS)
    made = Freeze(Who(0, "root"), 5.0, "why", 9.0)
    write_freeze(ingress, made)
    assert read_freeze(egress) == read_freeze(ingress) == made
    write_freeze(egress, None)
    assert read_freeze(ingress) is None


def asked(bench: Bench, *arguments: str) -> dict[str, Any]:
    command = [*arguments, "--state", str(bench.folder), "--json"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)
    data: dict[str, Any] = json.loads(done.output)
    return data


def test_the_commands_work_without_a_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    Talk(bench).hold()
    for module in (shaper.cli.asking, shaper.cli.freeze):
        monkeypatch.setattr(module, "CLOCK", bench.clock)
    (one,) = asked(bench, "freeze", "-i", "wan", "-m", "works on the link", "--for", "30m")["frozen"]
    assert (one["device"], one["unnoted"]) == ("eth1", "")
    assert one["freeze"]["until_unix_s"] == one["freeze"]["at_unix_s"] + HALF_AN_HOUR
    assert told(bench)[1:] == [("freeze", "done")]
    assert Talk(bench).hold().status[0].frozen is not None
    (one,) = asked(bench, "thaw")["thawed"]
    assert one["was_frozen"]
    assert told(bench)[-1] == ("thaw", "done")
    (one,) = asked(bench, "thaw", "-d", "eth1")["thawed"]
    assert not one["was_frozen"]
    assert told(bench)[-2:] == [("run", "done"), ("thaw", "done")], "nothing was thawed, and nothing is noted"


def test_somebody_who_holds_the_lock_and_hangs_does_not_keep_it_from_freezing(bench: Bench) -> None:
    Talk(bench).hold()
    with state(bench).lock():
        (one,) = asked(bench, "freeze")["frozen"]
    assert "is being changed by process" in one["unnoted"]
    assert read_freeze(state(bench)) is not None


@pytest.mark.parametrize("arguments", [["--for", "0s"], ["-i", "nowhere"]])
def test_what_cannot_be_meant_is_refused(bench: Bench, arguments: list[str]) -> None:
    Talk(bench).hold()
    done = CliRunner().invoke(cli, ["freeze", *arguments, "--state", str(bench.folder)])
    assert done.exit_code == 2, done.output  # click's own; 64 outside
    assert read_freeze(state(bench)) is None


def test_without_anything_of_ours_a_device_must_be_named(tmp_path: Path) -> None:
    def run(*arguments: str) -> Callable[[], object]:
        command = ["freeze", *arguments, "--state", str(tmp_path)]
        return lambda: CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)

    with pytest.raises(ShaperError, match="nothing of the shaper's is here"):
        run()()
    run("-d", "eth7")()
    assert read_freeze(DeviceState(tmp_path, "eth7")) is not None
    run("--for", "60m")()
    found = read_freeze(DeviceState(tmp_path, "eth7"))
    assert found is not None
    assert found.until is not None, "what is frozen already is known"
