"""The asking side: a command first tries the socket of a running shaper."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from shaper.api.wire import SCHEMA, refusal
from shaper.errors import NotPermittedError, ShaperError, TryAgainError
from shaper.run.state import DeviceState


def ask(state: DeviceState, command: str, **arguments: Any) -> Any | None:
    """The running shaper's answer for this device, as JSON; None when no shaper is running there.

    Raises RemoteError with what it refused, NotPermittedError when the socket is somebody else's.
    """
    try:
        folder = os.open(state.folder, os.O_PATH)
    except OSError:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(40.0)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{state.socket.name}")
            except PermissionError as error:
                raise NotPermittedError(
                    f"the shaper running on {state.device} is another user's", hint="run as root, or as that user"
                ) from error
            except (BlockingIOError, TimeoutError) as error:  # somebody is behind it
                raise TryAgainError(
                    f"the shaper running on {state.device} has too many callers", hint="find who asks it so often"
                ) from error
            except OSError:  # no socket, or nobody behind it
                return None
            request = {"schema": SCHEMA, "command": command, **arguments}
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
    finally:
        os.close(folder)
    if not line:
        raise ShaperError(f"the shaper running on {state.device} hung up", hint="look at its log; is it ending?")
    data = json.loads(line)
    if data.get("exit"):
        raise refusal(data)
    return data["result"]
