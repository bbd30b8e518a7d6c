"""The UDP receiver: notes every packet with the kernel's own receive stamp, and knows nothing of the shaper.

`python -m shaper.lab.receiver PORT LOG [DEVICE]` prints `ready` once it listens on IPv4 and IPv6, and writes LOG when
it gets SIGTERM: three 64-bit words for every packet (`packet_key`, send stamp, receive stamp, both in ns), and last a
record of `OVERFLOW`, the packets that its own sockets had to drop, and 0. With a DEVICE the TCP segments that come in
by it are noted too, under `segment_key`.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from array import array
from contextlib import ExitStack, suppress
from pathlib import Path

from shaper.lab import segments
from shaper.lab.signals import Interrupted, interruptible
from shaper.lab.traffic import HEADER, packet_key

OVERFLOW = -1
_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40
_SO_RCVBUFFORCE = 33
_TIMESPEC = struct.Struct("@qq")
_COUNT = struct.Struct("@I")
_BUFFER = 8 << 20
_PAUSE = 0.02
"""Seconds between two looks: 80 packets of a 20 Mbit/s link, which fit into the smallest buffer."""


def segment_key(port: int) -> int:
    """The name in the log of the TCP segments to a port: a negative one that is not OVERFLOW."""
    return -1 - port


def listen(port: int) -> socket.socket:
    """A socket for the generator's packets, of both IP versions."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    _account(sock)
    sock.bind(("::", port))
    return sock


def _account(sock: socket.socket) -> None:
    """A large buffer, kernel receive stamps and the count of what it dropped."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    with suppress(PermissionError):  # beyond the system's maximum only for the machine's own root
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)


def watch(device: str) -> socket.socket:
    """A socket for the TCP segments that come in by the device."""
    sock = segments.tap()
    _account(sock)
    segments.start(sock, device)
    return sock


class Receiver:
    """Notes in `log` what comes in; the stamps are the kernel's, so it may read late, and many packets at once."""

    def __init__(self, datagrams: socket.socket, tap: socket.socket | None = None) -> None:
        self.log = array("q")
        self._notes = {datagrams: self._datagram, **({tap: self._segment} if tap else {})}
        self._overflow = dict.fromkeys(self._notes, 0)
        self._offset = time.time_ns() - time.monotonic_ns()
        self._buffer = bytearray(2048)

    def read(self) -> None:
        """Everything that has come in; never waits."""
        for sock, note in self._notes.items():
            with suppress(BlockingIOError):
                while True:
                    length, ancillary, _, _ = sock.recvmsg_into([self._buffer], 128, socket.MSG_DONTWAIT)
                    stamp = 0
                    for level, kind, data in ancillary:
                        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                            seconds, nanoseconds = _TIMESPEC.unpack(data)
                            stamp = seconds * 10**9 + nanoseconds
                        elif level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                            self._overflow[sock] = _COUNT.unpack(data)[0]
                    note(length, stamp)

    def end(self) -> None:
        """Closes the log with what was lost here."""
        self.log.extend((OVERFLOW, sum(self._overflow.values()), 0))

    def _datagram(self, length: int, stamp: int) -> None:
        if length >= HEADER.size:
            flow, sequence, sent = HEADER.unpack_from(self._buffer)
            self.log.extend((packet_key(flow, sequence), sent, stamp))

    def _segment(self, length: int, stamp: int) -> None:
        if found := segments.stamp_of(bytes(self._buffer[:length])):
            port, sent = found
            self.log.extend((segment_key(port), segments.sent_at(sent, arrived=stamp, offset=self._offset), stamp))


def main() -> int:
    """Listens until a signal, then writes the log."""
    port, path, *device = sys.argv[1:]
    with interruptible(), listen(int(port)) as datagrams, ExitStack() as stack:
        receiver = Receiver(datagrams, stack.enter_context(watch(*device)) if device else None)
        print("ready", flush=True)
        with suppress(Interrupted):
            while True:
                time.sleep(_PAUSE)
                receiver.read()
        receiver.read()
    receiver.end()
    Path(path).write_bytes(receiver.log.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
