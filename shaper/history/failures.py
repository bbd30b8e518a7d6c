"""What can go wrong with the store, and how sqlite3 says it."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shaper.errors import Exit, ShaperError


class HistoryError(ShaperError):
    """The store could not be opened, read or written. `because` of EACCES or EPERM the exit code says so."""

    def __init__(self, message: str, *, hint: str = "", because: OSError | None = None) -> None:
        super().__init__(message, hint=hint)
        if because is not None and because.errno in (errno.EACCES, errno.EPERM):
            self.exit = Exit.NOT_PERMITTED


class HistoryCorruptError(HistoryError):
    """The file is no database, or a damaged one. `History.set_aside` moves it out of the way."""


_HINTS = {
    sqlite3.SQLITE_FULL: "make room on the file system that holds it",
    sqlite3.SQLITE_READONLY: "give the shaper a folder that it may write to, with --state",
    sqlite3.SQLITE_CANTOPEN: "give the shaper a folder that it may write to, with --state",
    sqlite3.SQLITE_PERM: "give the shaper a folder that it may write to, with --state",
    sqlite3.SQLITE_BUSY: "another program holds the file; try again when it is done",
    sqlite3.SQLITE_LOCKED: "another program holds the file; try again when it is done",
    sqlite3.SQLITE_IOERR: "look at the disk and its free space",
}
_CORRUPT = "move the file away; a new one is begun at the next write"


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Turns what sqlite3 and the operating system raise into HistoryError, with a way out."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        message = f"{path}: could not be {doing}: {error}"
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise HistoryCorruptError(message, hint=_CORRUPT) from error
        raise HistoryError(message, hint=_HINTS.get(code, "")) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = _HINTS[sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_CANTOPEN]
        raise HistoryError(f"{path}: could not be {doing}: {error.strerror}", hint=hint, because=error) from error
