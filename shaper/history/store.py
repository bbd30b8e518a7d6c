"""The embedded store of one state folder: SQLite in WAL mode, one transaction a call, readers beside the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from shaper.history.failures import HistoryError, translated
from shaper.history.probes import ProbeRow, to_probe
from shaper.history.records import (
    JournalLine,
    ObservationRow,
    Recorder,
    Write,
    to_journal_line,
    to_observation,
    to_setup,
)
from shaper.history.schema import open_database, transaction
from shaper.history.shortages import to_shortage
from shaper.model.shortage import Shortage
from shaper.model.sla import SlaState
from shaper.sla.attainment import Look

T = TypeVar("T")
_LARGEST = 2**63 - 1
_BUSY = 0.02
"""Seconds to wait for another writer: less than a tick of the control loop."""


class History(Recorder):
    """The store in the file `path`, opened at first use; whatever fails raises HistoryError.

    To be used by one thread at a time. A reader of a file that is not there finds nothing and makes nothing.
    """

    def __init__(self, path: Path, *, busy: float = _BUSY) -> None:
        super().__init__()
        self.path = path
        self._busy = busy
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file back. A later call opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with translated(self.path, "closed"):
                connection.close()

    def write(self, writes: Sequence[Write]) -> None:
        """All of them or none, in one transaction. After a failure the file is opened anew by the next call."""
        with self._opened("written") as connection, transaction(connection):
            for each in writes:
                connection.executemany(each.statement, each.rows)

    def _put(self, write: Write) -> None:
        self.write((write,))

    def observations(self, *, device: str, since: float, until: float | None = None) -> tuple[ObservationRow, ...]:
        """Rows at or after `since` and before `until` (wall-clock seconds), by time and class."""
        query = (
            "SELECT * FROM observation WHERE device = ? AND second >= ? AND at >= ? AND at < ? ORDER BY second, class"
        )
        end = float("inf") if until is None else until
        return self._read(query, (device, int(since), since, end), to_observation)

    def looks(self, *, device: str, since: float, until: float) -> dict[str, list[Look]]:
        """Of the classes that promise something, by path, what `observations` has of that span, by time."""
        query = (
            "SELECT class, second, sla, offered_bit_s = 0 AND backlog_bytes = 0 FROM observation"
            " WHERE device = ? AND second >= ? AND second < ? AND sla != ? ORDER BY second"
        )
        found: dict[str, list[Look]] = {}
        for path, look in self._read(query, (device, int(since), int(until), SlaState.NONE.value), _to_look):
            found.setdefault(path, []).append(look)
        return found

    def probes(self, *, device: str, since: float) -> tuple[ProbeRow, ...]:
        """What the probes of classes found, at or after `since` (wall-clock seconds), by time and class."""
        query = "SELECT * FROM probe WHERE device = ? AND at >= ? ORDER BY second, class"
        return self._read(query, (device, since), to_probe)

    def shortages_of(self, *, device: str, last: int = 50) -> tuple[Shortage, ...]:
        """The last SLAs that could not hold, as they began."""
        query = "SELECT * FROM shortage WHERE device = ? ORDER BY began DESC, class LIMIT ?"
        return self._read(query, (device, last), to_shortage)[::-1]

    def shortages_in(self, *, device: str, since: float, until: float) -> tuple[Shortage, ...]:
        """Those that stood at any time between the two (wall-clock seconds), as they began."""
        query = (
            "SELECT * FROM shortage WHERE device = ? AND began <= ? AND (ended IS NULL OR ended >= ?)"
            " ORDER BY began, class"
        )
        return self._read(query, (device, until, since), to_shortage)

    def decisions(self, *, device: str, last: int = 50) -> tuple[JournalLine, ...]:
        """The last lines of the journal, oldest first."""
        return self._last("decision", device, last, to_journal_line)

    def journal(self, *, last: int) -> tuple[JournalLine, ...]:
        """The last lines of the journal with what they stand on, of every device, oldest first."""
        return self._lines("ORDER BY id DESC LIMIT ?", (last,))[::-1]

    def decision(self, *, device: str, number: int | None = None, moved: str = "") -> JournalLine | None:
        """One line with what it stands on: that of a number, else the last, or the last that `moved` a class."""
        where, arguments = "device = ?", list[str | int]([device])
        if number is not None:
            where += " AND id = ?"
            arguments.append(number)
        elif moved:
            where += " AND ? IN (SELECT json_extract(value, '$.path') FROM json_each(payload, '$.decision.changes'))"
            arguments.append(moved)
        return next(iter(self._lines(f"WHERE {where} ORDER BY id DESC LIMIT 1", tuple(arguments))), None)

    def numbers(self, *, device: str, since: float = 0.0, until: float = float("inf")) -> tuple[int, ...]:
        """The numbers of the journal's lines later than `since` and no later than `until` (wall-clock seconds)."""
        query = "SELECT id FROM decision WHERE device = ? AND at > ? AND at <= ? ORDER BY id"
        return self._read(query, (device, since, until), lambda row: int(row[0]))

    def _lines(self, which: str, arguments: tuple[Any, ...]) -> tuple[JournalLine, ...]:
        found = self._read("SELECT digest, payload FROM setup", (), lambda row: (str(row[0]), to_setup(row[1])))
        setups = dict(found)
        return self._read(f"SELECT * FROM decision {which}", arguments, lambda row: to_journal_line(row, setups))

    def prune(self, *, before: float) -> None:
        """Removes observations, decisions, probes and shortages from before then."""
        if not self.path.exists():
            return
        with self._opened("pruned") as connection, transaction(connection):
            connection.execute("DELETE FROM observation WHERE at < ?", (before,))
            connection.execute("DELETE FROM decision WHERE at < ?", (before,))
            connection.execute("DELETE FROM probe WHERE at < ?", (before,))
            connection.execute("DELETE FROM shortage WHERE ended < ?", (before,))

    def set_aside(self, *, at: float) -> Path:
        """Moves the file to `<name>.corrupt-<at>`, its log with it, so that the next write begins a new one."""
        with suppress(HistoryError):
            self.close()
        aside = self.path.with_name(f"{self.path.name}.corrupt-{at:.0f}")
        with translated(self.path, "moved aside"):
            for suffix in ("", "-wal", "-shm"):
                part = self.path.with_name(self.path.name + suffix)
                if part.exists():
                    part.replace(aside.with_name(aside.name + suffix))
        return aside

    def _last(self, table: str, device: str, last: int, value: Callable[[Sequence[Any]], T]) -> tuple[T, ...]:
        query = f"SELECT * FROM {table} WHERE device = ? ORDER BY id DESC LIMIT ?"
        return self._read(query, (device, last), value)[::-1]

    def _read(self, query: str, arguments: tuple[Any, ...], value: Callable[[Sequence[Any]], T]) -> tuple[T, ...]:
        if not self.path.exists():
            return ()
        # No number and no count of rows is larger than what SQLite can hold.
        bounded = tuple(min(each, _LARGEST) if isinstance(each, int) else each for each in arguments)
        with self._opened("read") as connection:
            rows = connection.execute(query, bounded).fetchall()
        try:
            return tuple(value(row) for row in rows)
        except ValueError as error:
            raise HistoryError(
                f"{self.path}: holds a row that cannot be read: {error}",
                hint="it may come from another version of the shaper",
            ) from error

    @contextmanager
    def _opened(self, doing: str) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            self._connection = open_database(self.path, busy=self._busy)
        try:
            with translated(self.path, doing):
                yield self._connection
        except HistoryError:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            raise


def _to_look(row: Sequence[Any]) -> tuple[str, Look]:
    path, second, state, idle = row
    return str(path), Look(int(second), SlaState(state), bool(idle))
