"""The store as the control loop uses it: it never fails, it keeps what could not be written, and it says so."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Self

from shaper.history.failures import HistoryCorruptError, HistoryError
from shaper.history.records import Recorder, Write
from shaper.history.store import History

_RETRY = 1.0
"""Seconds of the caller's clock between attempts while the store fails."""


class BufferedHistory(Recorder):
    """Wraps the History in `path`. What can't be written waits, up to `bound` calls; then the oldest are lost, counted.

    `alarm` says what is wrong, "" when nothing is. A damaged file is moved aside and a new one begun; that alarm stays.
    """

    def __init__(self, path: Path, *, bound: int = 4096) -> None:
        super().__init__()
        self.history = History(path)
        self.dropped = 0
        self._bound = bound
        self._waiting: deque[Write] = deque()
        self._failed_at: float | None = None
        self._failure = ""
        self._aside = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """How many calls wait to be written."""
        return len(self._waiting)

    @property
    def alarm(self) -> str:
        """What an operator has to know, "" when all is well."""
        if not self._failure:
            return self._aside
        lost = f", {self.dropped} lost" if self.dropped else ""
        return f"history: {self._failure} ({self.waiting} records wait{lost})"

    def prune(self, *, before: float) -> None:
        """As History.prune; a failure is an alarm."""
        try:
            self.history.prune(before=before)
        except HistoryError as error:
            self._failure = error.message

    def flush(self, *, at: float) -> None:
        """Tries to write all that waits. A failure is an alarm."""
        if not self._waiting:
            return
        try:
            try:
                self.history.write(self._waiting)
            except HistoryCorruptError:
                aside = self.history.set_aside(at=at)
                self._setup = None  # went with it
                self._aside = f"history: the file was damaged; it is now {aside}, and a new one was begun"
                self.history.write(self._waiting)
        except HistoryError as error:
            self._failure, self._failed_at = error.message, at
        else:
            self._waiting.clear()
            self._failure, self._failed_at = "", None

    def close(self) -> None:
        """One last attempt to write what waits, then gives the file back."""
        if self._waiting:
            self.flush(at=self._waiting[-1].at)
        try:
            self.history.close()
        except HistoryError as error:
            self._failure = error.message

    def _put(self, write: Write) -> None:
        if len(self._waiting) >= self._bound:
            self._waiting.popleft()
            self._setup = None  # which may have been what is lost
            self.dropped += 1
        self._waiting.append(write)
        # Either way round: a wall clock may be set back.
        if self._failed_at is None or abs(write.at - self._failed_at) >= _RETRY:
            self.flush(at=write.at)
