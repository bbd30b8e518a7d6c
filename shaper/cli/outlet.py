"""What a run says: a reader that stops reading, or a terminal that is held (Ctrl-S), must not stop the run."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import TextIO

_PLACES = 1024
"""Lines that wait for the reader: of one interface, as JSON, a quarter of an hour and a few megabytes."""
_PATIENCE = 5.0
"""Seconds that the last words have to get out."""


class Outlet(io.TextIOBase):
    """A text stream in front of another: `write` never waits, a thread does.

    Beyond 1,024 writes that wait the newest are left out; `lost` makes the line that says how many, once there is
    room. Where the reader has gone, the next write raises BrokenPipeError.
    """

    def __init__(self, stream: TextIO, lost: Callable[[int], str]) -> None:
        stream.flush()
        self._stream = stream
        self._lost = lost
        self._left_out = 0
        self._failure: OSError | None = None
        self._waiting: queue.Queue[str | None] = queue.Queue(_PLACES)
        # Not through the stream's own buffer: who is held there holds a lock that the program's end waits for.
        self._descriptor = stream.fileno()
        self._thread = threading.Thread(target=self._carry, name="outlet", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Puts it in line."""
        if self._failure is not None:
            raise self._failure
        try:
            if self._left_out:
                self._waiting.put_nowait(self._lost(self._left_out))
                self._left_out = 0
            self._waiting.put_nowait(text)
        except queue.Full:
            self._left_out += 1
        return len(text)

    def isatty(self) -> bool:
        """As the stream behind it."""
        return self._stream.isatty()

    def close(self) -> None:
        """Waits for what is in line, a few seconds long."""
        if self.closed:
            return
        with contextlib.suppress(queue.Full):
            if self._thread.is_alive():
                self._waiting.put(None, timeout=_PATIENCE)
                self._thread.join(_PATIENCE)
        super().close()

    def _carry(self) -> None:
        while (text := self._waiting.get()) is not None:
            data = text.encode(errors="backslashreplace")
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                self._failure = error
                return
