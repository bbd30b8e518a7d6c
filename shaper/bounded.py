"""Servers that serve a thread a client, and no more than so many at a time."""

from __future__ import annotations

import socketserver
import threading
from typing import Any

_PLACES = 16


class BoundedThreads(socketserver.ThreadingMixIn):
    """Mixed into a server: whoever comes beyond 16 clients is turned away, so that the run keeps its files."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._places = threading.BoundedSemaphore(_PLACES)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)  # type: ignore[attr-defined] # of the server that it is mixed into

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing that a client does is news."""
