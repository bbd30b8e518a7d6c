"""The store in the control loop: it never raises, keeps what it can, and says what it could not."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from report_samples import DECISION, OBSERVATION, RUNNING

from shaper.history.buffered import BufferedHistory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 40 KiB: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def seconds(history: BufferedHistory) -> list[float]:
    return sorted({row.at for row in history.history.observations(device="eth1", since=0)})


def observe(history: BufferedHistory, *moments: float) -> None:
    for at in moments:
        history.observe(at=at, device="eth1", status=RUNNING)


def test_all_is_well(path: Path) -> None:
    with BufferedHistory(path) as history:
        observe(history, 1, 2)
        assert (history.alarm, history.waiting) == ("", 0)
        assert seconds(history) == [1, 2]


def test_what_waits_is_written_when_it_works_again(path: Path) -> None:
    with BufferedHistory(path) as history:
        observe(history, 1)
        with locked(path):
            observe(history, 2, 3)
            history.decide(at=3.5, device="eth1", decision=DECISION, applied=True, read_back=None, inputs=OBSERVATION)
            assert history.waiting == 3
            assert "locked (3 records wait)" in history.alarm
        observe(history, 4.5)
        assert (history.alarm, history.waiting, history.dropped) == ("", 0, 0)
        assert seconds(history) == [1, 2, 3, 4.5]
        assert len(history.history.decisions(device="eth1")) == 1


def test_the_oldest_are_lost_and_counted(path: Path) -> None:
    with BufferedHistory(path, bound=2) as history:
        observe(history, 1)
        with locked(path):
            observe(history, 2, 3, 4, 5)
            assert (history.waiting, history.dropped) == (2, 2)
            assert "2 lost" in history.alarm
        observe(history, 6)
        assert seconds(history) == [1, 5, 6]


def test_a_failing_store_is_tried_once_a_second(path: Path) -> None:
    with BufferedHistory(path) as history:
        observe(history, 1)
        with locked(path):
            observe(history, 2)
        for at in (2.25, 2.5, 2.75):
            history.decide(at=at, device="eth1", decision=DECISION, applied=True, read_back=None, inputs=OBSERVATION)
        assert history.waiting == 4
        observe(history, 3)
        assert history.waiting == 0


def test_a_full_disk_is_an_alarm(path: Path) -> None:
    with BufferedHistory(path) as history:
        observe(history, 0)
        with full_disk():
            observe(history, *range(1, 200))
            assert history.waiting
            assert history.alarm
        observe(history, 300)
        assert (history.alarm, history.waiting) == ("", 0)
        assert seconds(history) == [*range(200), 300]


def test_a_place_that_cannot_be_written_is_an_alarm(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with BufferedHistory(tmp_path / "file" / "history.db") as history:
        observe(history, 1)
        assert "Not a directory" in history.alarm or "exists" in history.alarm
        history.prune(before=1)


def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    with BufferedHistory(path) as history:
        observe(history, 1700000000)
        aside = path.with_name("history.db.corrupt-1700000000")
        assert aside.read_bytes() == b"garbage" * 1000
        assert str(aside) in history.alarm
        assert (seconds(history), history.waiting) == ([1700000000], 0)
        observe(history, 1700000001)
        assert "damaged" in history.alarm


def test_damage_found_in_the_middle_loses_nothing_that_waits(path: Path) -> None:
    with BufferedHistory(path) as history:
        observe(history, *range(100))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)  # all but the page with the schema
    path.write_bytes(data)
    with BufferedHistory(path) as history:
        observe(history, 200)
        assert "damaged" in history.alarm
        assert seconds(history) == [200]
