"""The tables of the store, and how a file of an older version is brought forward."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from shaper.history.failures import HistoryError, translated

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        """CREATE TABLE observation (
            device TEXT NOT NULL,
            second INTEGER NOT NULL,
            class TEXT NOT NULL,
            at REAL NOT NULL,
            sent_bytes INTEGER NOT NULL,
            sent_packets INTEGER NOT NULL,
            dropped_packets INTEGER NOT NULL,
            backlog_bytes INTEGER NOT NULL,
            throughput_bit_s REAL NOT NULL,
            offered_bit_s REAL NOT NULL,
            delay_p50_s REAL,
            delay_p95_s REAL,
            delay_p99_s REAL,
            delay_count INTEGER,
            sla TEXT NOT NULL,
            rate_bit_s INTEGER NOT NULL,
            ceil_bit_s INTEGER NOT NULL,
            queue_bytes INTEGER NOT NULL,
            PRIMARY KEY (device, second, class)
        ) WITHOUT ROWID""",
        """CREATE TABLE decision (
            id INTEGER PRIMARY KEY,
            at REAL NOT NULL,
            device TEXT NOT NULL,
            payload TEXT NOT NULL
        )""",
        "CREATE INDEX decision_at ON decision (device, at)",
    ),
    ("CREATE TABLE setup (digest TEXT PRIMARY KEY, payload TEXT NOT NULL) WITHOUT ROWID",),
    (
        """CREATE TABLE probe (
            device TEXT NOT NULL,
            second INTEGER NOT NULL,
            class TEXT NOT NULL,
            at REAL NOT NULL,
            kind TEXT NOT NULL,
            target TEXT NOT NULL,
            judges INTEGER NOT NULL,
            sent_packets INTEGER NOT NULL,
            lost_packets INTEGER NOT NULL,
            dropped_packets INTEGER NOT NULL,
            duplicates INTEGER NOT NULL,
            reordered_packets INTEGER NOT NULL,
            round_trip_p50_s REAL,
            round_trip_p95_s REAL,
            round_trip_p99_s REAL,
            round_trip_count INTEGER,
            waited_p50_s REAL,
            waited_p95_s REAL,
            waited_p99_s REAL,
            waited_count INTEGER,
            PRIMARY KEY (device, second, class)
        ) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE shortage (
            device TEXT NOT NULL,
            class TEXT NOT NULL,
            target TEXT NOT NULL,
            began REAL NOT NULL,
            ended REAL,
            need_bit_s INTEGER NOT NULL,
            granted_bit_s INTEGER NOT NULL,
            capacity_bit_s INTEGER NOT NULL,
            given_up TEXT NOT NULL,
            PRIMARY KEY (device, class, target, began)
        ) WITHOUT ROWID""",
    ),
    ("ALTER TABLE shortage ADD COLUMN bound TEXT NOT NULL DEFAULT 'link'",),
)
"""Entry n brings a file of version n to version n + 1; what was released is never edited, only added to."""


def is_journal(path: Path) -> bool:
    """Whether the file holds decisions of ours. Reads only: opening it as ours would make our tables in it."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.Error:
        return False
    return {("decision",), ("observation",)} <= set(tables)


def open_database(path: Path, *, busy: float, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """An open connection in WAL mode with the newest schema; the file and its folder are made where missing.

    `busy` is how many seconds to wait for another writer. Raises HistoryError.
    """
    with translated(path, "opened"):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=busy, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may cost the last second, never the file; no fsync in the control loop but at checkpoints.
            connection.execute("PRAGMA synchronous = NORMAL")
            _migrate(connection, path, migrations)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. Whatever is raised inside, or by the commit itself, rolls back and is passed on."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]]) -> None:
    if _version(connection) == len(migrations):
        return
    with transaction(connection):
        version = _version(connection)  # again: another process may have been first
        if version > len(migrations):
            raise HistoryError(
                f"{path}: was written by a newer shaper (schema {version}, this one knows {len(migrations)})",
                hint="use the newer shaper, or another --state folder",
            )
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
