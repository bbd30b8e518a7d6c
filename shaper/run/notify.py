"""What a service manager is told: one datagram to the socket that it names (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(state: str) -> bool:
    """Tells `$NOTIFY_SOCKET`. False where there is none or it does not listen: that must not end the shaping."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.setblocking(False)
        out.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
        return True
    return False
