"""A target that moved, wherever it is told: journal and replay, the explained decision, metrics, top, a run's lines."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_samples import RUNNING, VIDEO
from rich.console import Console
from test_cli_replay import ran
from test_control_aqm import COMPILED, HEALTHY, TICK, leaf, seen
from test_report_metrics import exposed, of, samples
from test_top import press, shown
from test_top import seen as on_screen

from shaper.control import LinkSetup, Setup, initial, step
from shaper.history.records import JournalLine, Premise
from shaper.history.store import History
from shaper.model.observation import Observation
from shaper.report.decision import decision_view, explained
from shaper.report.run_lines import second_line

SHORT = replace(VIDEO, granted=replace(VIDEO.granted, target=2_432))


def journal(folder: Path, target: tuple[int, int], *, tins: bool = False) -> list[JournalLine]:
    """The lines of a class that misses its delay for a while, whose AQM's target has these bounds; or of a tin."""
    setup = Setup(LinkSetup(20_000_000), (leaf(target=target),), tins=tins)
    state = initial(setup)
    with History(folder / "history.db") as history:
        for number in range(1, 25):
            premise = Premise(setup, state, number * TICK)
            inputs = Observation(TICK, {"web": seen(0.4)}, HEALTHY)
            state, decision = step(setup, state, inputs, now=premise.now)
            held = replace(decision, held=f"tick {number}")  # so that each has its line
            history.decide(
                at=1000 + premise.now,
                device="wan0",
                decision=held if not decision.changes else decision,
                applied=True,
                read_back=decision.allocation,
                inputs=inputs,
                premise=premise,
            )
        return list(history.journal(last=100))


@pytest.mark.parametrize("tins", [False, True])
def test_its_moves_are_journaled_and_come_out_again(tmp_path: Path, tins: bool) -> None:
    lines = journal(tmp_path, (1_024, COMPILED), tins=tins)
    moves = [line.decision.changes[0].after.target for line in lines if line.decision.changes]
    assert moves == [2_432, 1_536]
    assert lines[-1].read_back is not None and lines[-1].read_back["web"].target == moves[-1]
    changed = tmp_path / "moves"
    changed.mkdir()
    copy_lines(tmp_path, changed, lambda data: bool(data["decision"]["changes"]))
    assert ran(changed) == (0, f"{len(moves)} decisions replayed, 0 differ\n")


def copy_lines(source: Path, folder: Path, wanted: Any, change: Any = lambda data: None) -> None:
    """The journal with the lines that are wanted, changed."""
    path = folder / "history.db"
    path.write_bytes((source / "history.db").read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, payload in connection.execute("SELECT id, payload FROM decision").fetchall():
            data = json.loads(payload)
            change(data)
            connection.execute("UPDATE decision SET payload = ? WHERE id = ?", (json.dumps(data), number))
            if not wanted(data):
                connection.execute("DELETE FROM decision WHERE id = ?", (number,))
        for digest, payload in connection.execute("SELECT * FROM setup").fetchall():
            data = json.loads(payload)
            change(data)
            connection.execute("UPDATE setup SET payload = ? WHERE digest = ?", (json.dumps(data), digest))


def without_targets(data: Any) -> None:
    """As a shaper wrote it that moved no targets."""
    if isinstance(data, dict):
        for key in ("target_us", "aimed_at", "longer_since"):
            data.pop(key, None)
        for each in data.values():
            without_targets(each)
    elif isinstance(data, list):
        for each in data:
            without_targets(each)


def test_a_journal_from_before_is_replayed_without(tmp_path: Path) -> None:
    journal(tmp_path, (COMPILED, COMPILED))
    older = tmp_path / "older"
    older.mkdir()
    copy_lines(tmp_path, older, lambda data: True, lambda data: [without_targets(data), unheld(data)])
    with History(older / "history.db") as history:
        lines = history.journal(last=100)
    assert {line.decision.allocation["web"].target for line in lines} == {0}
    assert lines[0].premise is not None and lines[0].premise.setup.classes[0].bounds.target == (0, 0)
    assert ran(older) == (0, f"{len(lines)} decisions replayed, 0 differ\n")


def unheld(data: dict[str, Any]) -> None:
    if "decision" in data:
        data["decision"]["held"] = ""


def test_replay_says_what_another_law_would_do(tmp_path: Path) -> None:
    journal(tmp_path, (1_024, COMPILED))

    def untouched(data: dict[str, Any]) -> None:
        for one in data.get("decision", {}).get("allocation", {}).values():
            one["target_us"] = COMPILED

    other = tmp_path / "other"
    other.mkdir()
    copy_lines(tmp_path, other, lambda data: bool(data["decision"]["changes"]), untouched)
    code, said = ran(other)
    assert code == 2
    assert "AQM target 4.99ms; now 12mbit, queue 100kb, AQM target 2.43ms, AQM target 2.43ms: p95 400ms" in said


@pytest.mark.parametrize("tins", [False, True])
def test_the_decision_is_explained(tmp_path: Path, tins: bool) -> None:
    line = next(line for line in journal(tmp_path, (1_024, COMPILED), tins=tins) if line.decision.changes)
    out = io.StringIO()
    found = explained(line, (), place="wan0", seconds=10.0, later=())
    decision_view(found, now=1010.0, out=Console(file=out, width=200))
    assert "web: AQM target 4.99ms -> 2.43ms: AQM target 2.43ms: p95 400ms over 50ms, and TCP in it" in out.getvalue()


def test_the_metrics_have_it_in_seconds_and_nothing_where_there_is_none() -> None:
    found = samples(replace(RUNNING, classes=(SHORT,)))
    assert found["shaper_class_aqm_target_seconds", of("video", "priority")] == pytest.approx(0.002432)
    assert "shaper_class_aqm_target_seconds{" not in exposed(RUNNING)


def test_top_and_a_runs_lines_say_it() -> None:
    status = replace(RUNNING, classes=(SHORT,))
    assert any("AQM target 2.43ms" in line for line in shown(press(on_screen(status), "enter")))
    assert not any("AQM" in line for line in shown(press(on_screen(RUNNING), "enter")))
    assert second_line(status, at=1.0)["classes"]["video"]["aqm_target_s"] == pytest.approx(0.002432)
    assert "aqm_target_s" not in second_line(RUNNING, at=1.0)["classes"]["video"]
