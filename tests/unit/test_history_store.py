"""The store on a real file: what goes in comes out, and every way a file can fail is told apart."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import BULK, DECISION, OBSERVATION, PROBED, READ_ONCE, RUNNING, VOICE

from shaper.history.failures import HistoryCorruptError, HistoryError
from shaper.history.schema import MIGRATIONS, open_database
from shaper.history.store import History
from shaper.model.decision import Decision
from shaper.model.sla import SlaState

HELD = Decision(DECISION.allocation, held="too few samples")


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "state" / "history.db") as made:
        yield made


def decide(history: History, decision: Decision, *, at: float = 1.0) -> None:
    history.decide(
        at=at, device="eth1", decision=decision, applied=True, read_back=decision.allocation, inputs=OBSERVATION
    )


def test_a_class_is_one_row_a_second(history: History) -> None:
    for at in (10.0, 10.25, 10.5, 10.75, 11.0):
        history.observe(at=at, device="eth1", status=RUNNING)
    rows = history.observations(device="eth1", since=0)
    assert [(row.second, row.path) for row in rows] == [
        (second, path) for second in (10, 11) for path in ("bulk", "office/business", "video", "voice")
    ]
    voice = rows[3]
    assert (voice.at, voice.sent_bytes, voice.sla) == (10.0, VOICE.sent_bytes, SlaState.MET)
    assert (voice.rate, voice.ceil, voice.queue) == (2_000_000, 5_000_000, 20_000)
    assert (voice.delay_p50, voice.delay_p99, voice.delay_count) == (0.00011, 0.0009, 250)
    assert rows[0].sla is SlaState.NONE
    assert rows[0].dropped_packets == BULK.dropped_packets


def test_no_data_is_null_never_zero(history: History) -> None:
    history.observe(at=1, device="eth1", status=READ_ONCE)
    for row in history.observations(device="eth1", since=0):
        assert row.delay_p50 is row.delay_p95 is row.delay_p99 is row.delay_count is None


def test_observations_are_taken_from_a_span(history: History) -> None:
    for at in range(10):
        history.observe(at=at, device="eth1", status=RUNNING)
    history.observe(at=5, device="eth2", status=RUNNING)
    assert {row.at for row in history.observations(device="eth1", since=3, until=6)} == {3, 4, 5}


def test_a_journal_line_is_complete(history: History) -> None:
    decide(history, DECISION)
    (line,) = history.decisions(device="eth1")
    assert (line.decision, line.inputs, line.read_back) == (DECISION, OBSERVATION, DECISION.allocation)
    assert line.applied


def test_a_decision_that_was_not_applied_has_nothing_read_back(history: History) -> None:
    history.decide(at=1, device="eth1", decision=DECISION, applied=False, read_back=None, inputs=OBSERVATION)
    (line,) = history.decisions(device="eth1")
    assert line.read_back is None
    assert not line.applied


def test_a_decision_without_news_leaves_no_line(history: History) -> None:
    nothing = Decision(DECISION.allocation)
    other = replace(HELD, held="the capture lost too much")
    for decision in (nothing, HELD, HELD, other, other, HELD, nothing, nothing, HELD, DECISION, DECISION):
        decide(history, decision)
    lines = history.decisions(device="eth1")
    assert [line.decision for line in lines] == [HELD, other, HELD, HELD, DECISION, DECISION]


def test_the_last_lines_come_oldest_first(history: History) -> None:
    for at in range(5):
        decide(history, DECISION, at=at)
    assert [line.at for line in history.decisions(device="eth1", last=2)] == [3, 4]


def test_prune_keeps_what_is_younger(history: History) -> None:
    for at in range(10):
        history.observe(at=at, device="eth1", status=RUNNING)
        decide(history, DECISION, at=at)
    history.prune(before=8)
    assert {row.at for row in history.observations(device="eth1", since=0)} == {8, 9}
    assert [line.at for line in history.decisions(device="eth1")] == [8, 9]


def test_reading_what_is_not_there_finds_nothing_and_makes_nothing(history: History) -> None:
    assert history.observations(device="eth1", since=0) == ()
    assert history.decisions(device="eth1") == ()
    history.prune(before=1)
    assert not history.path.parent.exists()


def test_it_stays_after_closing_and_a_reader_sees_it_beside_the_writer(history: History) -> None:
    history.observe(at=1, device="eth1", status=RUNNING)
    with History(history.path) as reader:
        assert len(reader.observations(device="eth1", since=0)) == 4
    history.close()
    assert len(history.observations(device="eth1", since=0)) == 4


def test_a_probe_has_rows_of_its_own(history: History) -> None:
    history.observe(at=1.5, device="eth1", status=PROBED)
    history.observe(at=2.5, device="eth1", status=RUNNING)
    (row,) = history.probes(device="eth1", since=0)
    assert (row.second, row.path, row.kind, row.target) == (1, "office/business", "stamp", "192.0.2.10")
    assert (row.sent, row.lost, row.judges, row.round_trip_p99, row.waited_count) == (210, 2, True, 0.031, 15)
    delays = {one.path: one.delay_p99 for one in history.observations(device="eth1", since=0)}
    assert delays["office/business"] is None  # what was probed is no delay of the class's own packets
    history.prune(before=2)
    assert history.probes(device="eth1", since=0) == ()


def test_a_file_of_an_older_schema_is_brought_forward(history: History) -> None:
    history.observe(at=1, device="eth1", status=RUNNING)
    history.close()
    later = (*MIGRATIONS, ("CREATE TABLE later (id INTEGER PRIMARY KEY)",))
    with closing(open_database(history.path, busy=0.0, migrations=later)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)
        assert connection.execute("SELECT count(*) FROM observation").fetchone() == (4,)
        assert connection.execute("SELECT count(*) FROM later").fetchone() == (0,)


def test_a_migration_that_fails_leaves_the_file_as_it_was(history: History) -> None:
    history.observe(at=1, device="eth1", status=RUNNING)
    history.close()
    broken = (*MIGRATIONS, ("CREATE TABLE later (id INTEGER PRIMARY KEY)", "this is no statement"))
    with pytest.raises(HistoryError, match="could not be opened"):
        open_database(history.path, busy=0.0, migrations=broken)
    with closing(sqlite3.connect(history.path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert not connection.execute("SELECT * FROM sqlite_master WHERE name = 'later'").fetchall()


def test_a_file_of_a_newer_schema_is_left_alone(history: History) -> None:
    history.observe(at=1, device="eth1", status=RUNNING)
    history.close()
    with closing(sqlite3.connect(history.path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = history.path.read_bytes()
    with pytest.raises(HistoryError, match="written by a newer shaper") as raised:
        history.observe(at=2, device="eth1", status=RUNNING)
    assert not isinstance(raised.value, HistoryCorruptError)
    assert history.path.read_bytes() == before


def test_a_locked_file_is_an_error_and_works_again_afterwards(history: History) -> None:
    history.observe(at=1, device="eth1", status=RUNNING)
    with closing(sqlite3.connect(history.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="locked") as raised:
            history.observe(at=2, device="eth1", status=RUNNING)
        assert "another program" in raised.value.hint
        other.execute("ROLLBACK")
    history.observe(at=2, device="eth1", status=RUNNING)
    assert {row.at for row in history.observations(device="eth1", since=0)} == {1, 2}


def test_what_could_not_be_written_is_not_taken_for_written(history: History) -> None:
    history.observe(at=1, device="eth1", status=RUNNING)
    with closing(sqlite3.connect(history.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError):
            decide(history, HELD)
    decide(history, HELD)
    assert [line.decision for line in history.decisions(device="eth1")] == [HELD]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with History(tmp_path / "file" / "history.db") as history, pytest.raises(HistoryError) as raised:
        history.observe(at=1, device="eth1", status=RUNNING)
    assert "--state" in raised.value.hint


def test_what_is_no_database_is_corrupt(history: History) -> None:
    history.path.parent.mkdir()
    history.path.write_text("this is not a database" * 100)
    with pytest.raises(HistoryCorruptError):
        history.observations(device="eth1", since=0)
    aside = history.set_aside(at=1234.5)
    assert aside.name == "history.db.corrupt-1234"
    assert aside.read_text().startswith("this is not")
    history.observe(at=1, device="eth1", status=RUNNING)
    assert len(history.observations(device="eth1", since=0)) == 4


def test_a_row_that_cannot_be_read_is_an_error_with_a_name(history: History) -> None:
    decide(history, DECISION)
    with closing(sqlite3.connect(history.path, isolation_level=None)) as other:
        other.execute("UPDATE decision SET payload = '{}'")
    with pytest.raises(HistoryError, match="cannot be read"):
        history.decisions(device="eth1")
