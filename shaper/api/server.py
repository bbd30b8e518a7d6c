"""The answering side: checks who asks, hands the request to the loop, writes the answer."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

from shaper.api.wire import MAX_REQUEST, SCHEMA, answer_json, refusal_json
from shaper.bounded import BoundedThreads
from shaper.errors import NotPermittedError, ShaperError, TryAgainError
from shaper.run.inbox import Inbox, Request
from shaper.run.state import DeviceState, StateError

_ANSWER_SECONDS = 30.0
_READ_SECONDS = _IDLE = 10.0


class _Handler(socketserver.StreamRequestHandler):
    """One connection: one request."""

    timeout = _IDLE

    def handle(self) -> None:
        # Whoever sends a byte now and then is not idle, and would hold a place for ever.
        hung = threading.Timer(_READ_SECONDS, self._hang_up)
        hung.daemon = True
        hung.start()
        try:
            result = answer_json(self._ask(hung))
        except ShaperError as error:
            result = refusal_json(error)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            result = refusal_json(ShaperError(f"the request can't be read: {error}"))
        except OSError:  # who asks is gone, or too slow
            return
        finally:
            hung.cancel()
        with contextlib.suppress(OSError):  # who asked is gone
            self.wfile.write(json.dumps(result).encode() + b"\n")

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def _ask(self, hung: threading.Timer) -> object:
        server = cast("_Server", self.server)
        credentials = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        if uid not in (0, os.geteuid()):
            raise NotPermittedError(f"user {uid} may not command this shaper", hint="run as root, or as its own user")
        line = self.rfile.readline(MAX_REQUEST)
        hung.cancel()
        data: dict[str, Any] = json.loads(line)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ShaperError("the request is of another version", hint=f"this shaper speaks schema {SCHEMA}")
        arguments = {key: value for key, value in data.items() if key not in ("schema", "command")}
        request = Request(str(data["command"]), {**arguments, "device": server.device, "uid": uid})
        server.inbox.put(request)
        try:
            return request.wait(_ANSWER_SECONDS)
        except queue.Empty:
            raise TryAgainError("the running shaper did not answer", hint="look at its log, or end it") from None


class _Server(BoundedThreads, socketserver.UnixStreamServer):
    request_queue_size = 128

    def __init__(self, state: DeviceState, inbox: Inbox) -> None:
        self.device = state.spot
        self.inbox = inbox
        # A socket's address holds 107 bytes; through the folder's descriptor any depth of folder will do.
        folder = os.open(state.folder, os.O_PATH)
        try:
            state.socket.unlink(missing_ok=True)
            old = os.umask(0o177)
            try:
                super().__init__(f"/proc/self/fd/{folder}/{state.socket.name}", _Handler)
            finally:
                os.umask(old)
        except OSError as error:
            raise StateError(f"no socket at {state.socket}: {error.strerror}", hint="see --state DIR") from error
        finally:
            os.close(folder)


@contextlib.contextmanager
def listening(states: Sequence[DeviceState], inbox: Inbox) -> Iterator[None]:
    """Answers on the socket of every device until left. Raises StateError when a socket can't be made."""
    with contextlib.ExitStack() as stack:
        for state in states:
            server = stack.enter_context(_Server(state, inbox))
            stack.callback(state.socket.unlink, missing_ok=True)
            thread = threading.Thread(target=server.serve_forever, args=(0.1,), name=f"socket {state.device}")
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield
