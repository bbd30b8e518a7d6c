"""The packet socket behind a queue, whose filter is a program that counts: the socket itself gets nothing."""

from __future__ import annotations

import errno
import os
import socket

from collectors.errors import CaptureError
from collectors.ring import captured_in, link, refused

_SO_ATTACH_BPF = 50
_ETH_P_ALL, _NOBODYS = 3, 0xFFFF
"""A packet socket of the second sees nothing and costs nothing, and hears that its device goes down all the same."""


class Behind:
    """Behind the queue of one device at a time, until `close`.

    `copied` says whether the kernel copies every packet now, to be looked at.
    """

    def __init__(self) -> None:
        self.copied = False
        self._device = ""
        self._socket: socket.socket | None = None

    @property
    def listening(self) -> bool:
        """Whether it stands behind a queue."""
        return self._socket is not None

    def listen(self, device: str, program: int, *, netns: str = "") -> None:
        """Has the program, by its descriptor, see what leaves the device in that network namespace, "" for this one.

        Raises CaptureError without the device or the permission, and for a device that is down.
        """

        def made() -> socket.socket:
            link(device)
            return _listen(device, program)

        self._socket = captured_in(netns, made)
        self._device = device
        self.check()
        self.copied = True

    def hear(self, *, packets: bool) -> None:
        """Has every packet copied from now on, or none. Raises CaptureError."""
        assert self._socket is not None
        try:
            self._socket.bind((self._device, _ETH_P_ALL if packets else _NOBODYS))
        except OSError as error:
            raise refused(self._device, error) from error
        self.copied = packets

    def check(self) -> None:
        """Raises CaptureError where packets are seen no more: the device is gone, or was down."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self._socket else errno.ENOTCONN
        if code:
            raise refused(self._device, OSError(code, os.strerror(code)))

    def close(self) -> None:
        """Gives back the socket. Harmless when done twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _listen(device: str, program: int) -> socket.socket:
    try:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, program)
            made.bind((device, _ETH_P_ALL))
        except BaseException:
            made.close()
            raise
    except OSError as error:
        raise CaptureError(
            f"{device}: packets behind its queue cannot be seen: {error.strerror}",
            "run it as root, or with CAP_NET_RAW and CAP_BPF",
            errno=error.errno or 0,
        ) from error
    return made
