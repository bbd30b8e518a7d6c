"""How other threads and signals speak to the loop: one queue, one answer each."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shaper.errors import ShaperError


@dataclass(slots=True)
class Request:
    """Something the loop is asked to do. `wait` gives what `answer` or `refuse` was called with."""

    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    _box: queue.SimpleQueue[object] = field(default_factory=queue.SimpleQueue)

    def answer(self, result: object) -> None:
        self._box.put(result)

    def refuse(self, error: ShaperError) -> None:
        self._box.put(error)

    def wait(self, timeout: float) -> object:
        """Raises the ShaperError it was refused with, and queue.Empty after `timeout` seconds."""
        result = self._box.get(timeout=timeout)
        if isinstance(result, ShaperError):
            raise result
        return result


class Inbox:
    """Requests to the loop. `put` may be called from signal handlers and other threads."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._signalled: set[str] = set()

    def signal(self, command: str) -> None:
        """Asks for a command unless it waits already: a storm of signals must not keep the loop from stopping."""
        if command not in self._signalled:
            self._signalled.add(command)
            self.put(Request(command))

    def put(self, request: Request) -> None:
        self._queue.put(request)

    def get(self, timeout: float) -> Request | None:
        """The next request, or None after `timeout` seconds."""
        try:
            request = self._queue.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None
        self._signalled.discard(request.command)
        return request
