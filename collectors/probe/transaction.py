"""What a user's program does, with the time of each part: names, TCP connect, TLS handshake, HTTP GET."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

from collectors.errors import ProbeError
from collectors.netlink import inside
from collectors.probe.apart import set_apart
from collectors.probe.log import Log, Outcome
from collectors.probe.session import Clock

_PART = 65_536
_TCP_INFO_SIZE, _SEGMENTS_OUT = 256, 136
_CLOSING = 2
"""Segments that a connection sends after it was asked how many it has sent: its FIN and the answer to the other's."""

_KEPT = 64
_MOST = 1 << 20
"""Bytes of an answer that are read: enough to see that it comes, and no download."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is done: connect; with `tls` a handshake; with `get` a request for that path.

    `name` is the host's, for the handshake and the request; without one the certificate cannot be checked, and is not.
    `apart`: as in `set_apart`.
    """

    to: str
    port: int
    tls: bool = False
    get: str = ""
    name: str = ""
    dscp: int = 0
    device: str = ""
    netns: str = ""
    apart: bool = False


class Transactions:
    """One after the other; each is over after `timeout` seconds at the most."""

    def __init__(self, script: Script, clock: Clock, *, timeout: float) -> None:
        self.log = _Done(timeout=timeout)
        self._script = script
        self._clock = clock
        self._ports: deque[int] = deque(maxlen=_KEPT)
        self.packets = 0
        self._context = ssl.create_default_context() if script.tls else None
        if self._context is not None and not script.name:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def send(self, sequence: int) -> None:
        """Raises ProbeError where no socket can be made at all."""
        began = self._clock.boot()
        phases: dict[str, float] = {}
        outcome = Outcome(sequence, began)
        try:
            self._transact(phases, began + self.log.timeout)
        except TimeoutError:
            done = f" after {', '.join(phases)}" if phases else ""
            outcome = replace(outcome, phases=phases, failure=f"no answer{done}")
        except ssl.SSLError as error:
            outcome = replace(outcome, phases=phases, failure=f"TLS: {error.reason or error}")
        except OSError as error:
            said = os.strerror(error.errno) if error.errno else str(error)
            outcome = replace(outcome, phases=phases, failure=said)
        else:
            outcome = replace(outcome, phases=phases, copies=1, round_trip=self._clock.boot() - began)
        self.log.done(outcome)

    def owns(self, protocol: int | None, sport: int | None) -> bool:
        """Of the newest connections."""
        return protocol == socket.IPPROTO_TCP and sport in self._ports

    def wait(self, seconds: float) -> None:
        """Nothing comes in between transactions."""
        select.select((), (), (), max(0.0, seconds))

    def close(self) -> None:
        """Nothing is held between transactions."""

    def _transact(self, phases: dict[str, float], until: float) -> None:
        with contextlib.ExitStack() as closing:
            stream: socket.socket = closing.enter_context(contextlib.closing(self._socket()))
            try:
                with self._phase(phases, "connect", stream, until):
                    stream.connect((self._script.to, self._script.port))
                if self._context is not None:
                    with self._phase(phases, "tls", stream, until):
                        stream = self._context.wrap_socket(stream, server_hostname=self._script.name or None)
                    closing.callback(stream.close)
                if self._script.get:
                    self._get(stream, phases, until)
            finally:
                self._count(stream)

    def _count(self, stream: socket.socket) -> None:
        """Its packets; of a handshake that failed the socket is gone, and only those of its end are counted."""
        info = b""
        with contextlib.suppress(OSError):
            info = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        sent = int.from_bytes(info[_SEGMENTS_OUT : _SEGMENTS_OUT + 4], sys.byteorder)
        self.packets += sent + _CLOSING

    def _get(self, stream: socket.socket, phases: dict[str, float], until: float) -> None:
        host = self._script.name or (f"[{self._script.to}]" if ":" in self._script.to else self._script.to)
        request = f"GET {self._script.get} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: shaper\r\nConnection: close\r\n\r\n"
        with self._phase(phases, "first-byte", stream, until):
            stream.sendall(request.encode("ascii"))
            part = stream.recv(_PART)
        if not part.startswith(b"HTTP/"):
            raise OSError("what came is not HTTP")
        status = part.split(b" ", 2)[1:2]
        total = len(part)
        with self._phase(phases, "rest", stream, until):
            while part and total < _MOST:
                stream.settimeout(max(0.001, until - self._clock.boot()))
                part = stream.recv(_PART)
                total += len(part)
        if not status or status[0][:1] not in (b"2", b"3"):
            raise OSError(f"HTTP status {(status or [b'missing'])[0][:8].decode('latin-1')}")

    @contextlib.contextmanager
    def _phase(self, phases: dict[str, float], name: str, stream: socket.socket, until: float) -> Iterator[None]:
        began = self._clock.boot()
        if began >= until:
            raise TimeoutError
        stream.settimeout(until - began)
        yield
        phases[name] = self._clock.boot() - began

    def _socket(self) -> socket.socket:
        v6 = ip_address(self._script.to).version == 6
        family = socket.AF_INET6 if v6 else socket.AF_INET
        try:
            made = inside(self._script.netns or None, lambda: socket.socket(family, socket.SOCK_STREAM))
            if v6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, self._script.dscp << 2)
            else:
                made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, self._script.dscp << 2)
            if self._script.apart:
                set_apart(made)
            made.bind(("::" if v6 else "0.0.0.0", 0))  # known before the first packet goes out
            self._ports.append(made.getsockname()[1])
            if self._script.device:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._script.device.encode())
        except OSError as error:
            raise ProbeError(
                f"no probe can be sent: {error.strerror}", "`ip link` shows the devices there are"
            ) from error
        return made


class _Done(Log):
    """Transactions are settled when they are over."""

    def __init__(self, *, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self._done: list[Outcome] = []

    def done(self, outcome: Outcome) -> None:
        self._done.append(outcome)
        if outcome.failure:
            self.refused(outcome.failure, "")

    @property
    def waiting(self) -> int:
        return 0

    def settle(self, now: float) -> tuple[Outcome, ...]:
        del now
        done, self._done = tuple(self._done), []
        return done
