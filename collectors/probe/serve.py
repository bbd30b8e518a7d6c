"""The socket of a reflector, and the privileges that it does not keep."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator

from collectors.errors import ProbeError
from collectors.probe.endpoint import Arrival, arrival, receiving
from collectors.probe.reflector import Reflector
from collectors.probe.session import Clock

_LARGEST, _ROOM = 65_535, 512
_NAP_MS = 200
_BATCH = 64
_NOBODY = 65_534
_PR_SET_NO_NEW_PRIVS = 38


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that hears what is sent to an address; "::" hears IPv4, too. Raises ProbeError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        hint = "without IPv6: --listen 0.0.0.0:862"
        raise ProbeError(f"the reflector has no socket: {error.strerror}", hint) from error
    with contextlib.closing(made):
        try:
            receiving(made, v6=family == socket.AF_INET6)
            if host == "::":
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                receiving(made, v6=False)
            made.bind((host, port))
        except OSError as error:
            hint = "a port below 1024 takes CAP_NET_BIND_SERVICE: name another with --listen"
            raise ProbeError(f"the reflector cannot listen on {host} port {port}: {error.strerror}", hint) from error
        yield made


def reflect(made: socket.socket, reflector: Reflector, clock: Clock, *, stopped: Callable[[], bool]) -> None:
    """Answers until told to stop. A packet that cannot be answered is counted, and never ends it."""
    made.setblocking(False)
    poll = select.poll()
    poll.register(made, select.POLLIN)
    while not stopped():
        poll.poll(_NAP_MS)
        for _ in range(_BATCH):
            try:
                data, ancillary, flags, source = made.recvmsg(_LARGEST, _ROOM)
            except BlockingIOError:
                break
            except OSError:  # what ICMP said of an earlier answer
                reflector.counts["unreachable"] += 1
                continue
            if flags & socket.MSG_TRUNC:
                reflector.counts["too-long"] += 1
                continue
            packet = arrival(data, ancillary, source)
            answer = reflector.answer(packet, now=clock.boot(), wall=lambda: int(clock.wall() * 1e9))
            if answer is not None:
                _send(made, answer, packet, source, reflector)


def _send(made: socket.socket, answer: bytes, packet: Arrival, source: tuple[str, int], reflector: Reflector) -> None:
    """With the DSCP that the request came with: the way back is that of the same class."""
    marks = []
    if packet.dscp:
        tos = (packet.dscp << 2).to_bytes(4, sys.byteorder)
        v4 = made.family == socket.AF_INET or packet.source[0].startswith("::ffff:")
        marks = [(socket.IPPROTO_IP, socket.IP_TOS, tos)] if v4 else [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)]
    try:
        made.sendmsg([answer], marks, 0, source)
    except OSError:
        reflector.counts["unsent"] += 1


def drop_privileges() -> str:
    """Becomes nobody, for good, where it was root; why not, in words, where that failed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() != 0:
        return ""
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError as error:
        return f"it goes on as root: user {_NOBODY} cannot be taken on ({error.strerror})"
    return ""
