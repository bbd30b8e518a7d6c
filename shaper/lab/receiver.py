"""The UDP receiver: notes every packet with the kernel's own receive stamp, and knows nothing of the shaper.

`python -m shaper.lab.receiver PORT LOG` prints `ready` once it listens on IPv4 and IPv6, and writes LOG when it gets
SIGTERM: three 64-bit words for every packet (`packet_key`, send stamp, receive stamp, both in ns), and last a record of
`OVERFLOW`, the packets that its own socket had to drop, and 0.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from contextlib import suppress
from pathlib import Path

from shaper.lab.signals import Interrupted, interruptible
from shaper.lab.traffic import HEADER, packet_key

OVERFLOW = -1
_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40
_SO_RCVBUFFORCE = 33
_TIMESPEC = struct.Struct("@qq")
_COUNT = struct.Struct("@I")
_BUFFER = 8 << 20


def listen(port: int) -> socket.socket:
    """A socket for both IP versions with a large buffer, kernel receive stamps and the count of what it dropped."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    with suppress(PermissionError):  # beyond the system's maximum only for the machine's own root
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
    sock.bind(("::", port))
    return sock


def receive(sock: socket.socket, log: array[int]) -> None:
    """Notes packets in `log` until interrupted."""
    payload = bytearray(2048)
    overflow = 0
    try:
        while True:
            length, ancillary, _flags, _peer = sock.recvmsg_into([payload], 128)
            stamp = 0
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = _TIMESPEC.unpack(data)
                    stamp = seconds * 10**9 + nanoseconds
                elif level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    overflow = _COUNT.unpack(data)[0]
            if length >= HEADER.size:
                flow, sequence, sent = HEADER.unpack_from(payload)
                log.extend((packet_key(flow, sequence), sent, stamp))
    finally:
        log.extend((OVERFLOW, overflow, 0))


def main() -> int:
    """Listens until a signal, then writes the log."""
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    log = array("q")
    with interruptible(), listen(port) as sock:
        print("ready", flush=True)
        with suppress(Interrupted):
            receive(sock, log)
    path.write_bytes(log.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
