"""Numbered UDP packets through a device under test, and which of them come out, flow by flow.

One thread sends and receives them all. A flow either keeps its queue filled, one packet in for each that came out, so
that it is offered exactly what its class may have; or it is offered at a rate, whatever comes out.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from conftest import Lab, LinkPair

PAYLOAD = 1000
_NUMBER = struct.Struct("!I")
_HEADERS = {4: 14 + 20 + 8, 6: 14 + 40 + 8}
_ROOM = 16 << 20
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_MEMINFO = 32, 33, 55
_MEMINFO = struct.Struct("=9I")
"""Of which the last is what a socket's own buffer was too full for."""
_SOME = 10
_IDLE = 0.0005
_TURN = 0.0002
"""Seconds that the program around the traffic may compute before the traffic has its turn."""
_DRAINED = 0.5
ECT0 = 2


@dataclass(slots=True)
class Flow:
    """One flow and its account.

    `standing` is the bytes that it keeps under way; with 0, `rate` bit/s are offered, and of what is late no more than
    `burst` packets at once.
    """

    port: int
    version: int = 4
    dscp: int = 0
    rate: float = 0.0
    burst: int = 1
    standing: int = 0
    ecn: int = ECT0
    late: float = 0.0
    sent: int = 0
    received: int = 0
    disordered: int = 0
    last: int = -1

    @property
    def frame(self) -> int:
        """Bytes of layer 2."""
        return PAYLOAD + _HEADERS[self.version]

    @property
    def missing(self) -> int:
        return self.sent - self.received

    def due(self, seconds: float) -> int:
        """How many packets are to be sent so many seconds after this was last asked."""
        if self.standing:
            return self.standing // self.frame - self.missing
        self.late = min(self.late + seconds * self.rate / 8 / self.frame, self.burst)
        count = int(self.late)
        self.late -= count
        return count

    def came(self, number: int) -> None:
        """A packet was received."""
        self.received += 1
        self.disordered += number <= self.last
        self.last = max(self.last, number)


class Traffic:
    """The flows from the lab's device to its peer, for as long as the block lasts; drained when it is left."""

    def __init__(self, lab: Lab, pair: LinkPair, flows: Sequence[Flow]) -> None:
        """`lost_here` is set at the end: what the receiving sockets had no room for, the harness's own loss."""
        self.flows = flows
        _keep_the_order(lab, pair)
        self._senders = {flow.port: lab.inside(lambda flow=flow: _sender(flow, pair)) for flow in flows}
        self._receivers = {lab.inside(lambda flow=flow: _receiver(flow), peer=True): flow for flow in flows}
        self.lost_here = 0
        self._sending, self._ended = True, False
        self._turn = sys.getswitchinterval()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="numbered")

    def __enter__(self) -> Traffic:
        sys.setswitchinterval(_TURN)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._sending = False
        if error is None:
            self._drain()
        self._ended = True
        self._thread.join()
        sys.setswitchinterval(self._turn)
        self.lost_here = sum(_turned_away(sock) for sock in self._receivers)
        for sock in (*self._senders.values(), *self._receivers):
            sock.close()
        if self._failure is not None and error is None:
            raise self._failure

    def wait(self, seconds: float) -> bool:
        """Until some packets of every flow have come out since, at most so long; True. Raises what ended the thread."""
        limit = time.monotonic() + seconds
        goals = [flow.received + _SOME for flow in self.flows]
        while time.monotonic() < limit and self._failure is None:
            if all(flow.received >= goal for flow, goal in zip(self.flows, goals, strict=True)):
                break
            time.sleep(_IDLE)
        if self._failure is not None:
            raise self._failure
        return True

    def _drain(self) -> None:
        """Until nothing has come for half a second."""
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < _DRAINED and self._failure is None:
            received = sum(flow.received for flow in self.flows)
            if received != seen:
                seen, since = received, time.monotonic()
            time.sleep(0.01)

    def _run(self) -> None:
        try:
            looked = time.monotonic()
            while not self._ended:
                ready, _, _ = select.select(list(self._receivers), [], [], _IDLE)
                for sock in ready:
                    self._receive(sock)
                looked, before = time.monotonic(), looked
                if self._sending:
                    self._send(looked - before)
        except BaseException as error:
            self._failure = error

    def _receive(self, sock: socket.socket) -> None:
        flow = self._receivers[sock]
        with suppress(BlockingIOError):
            while True:
                flow.came(*_NUMBER.unpack_from(sock.recv(2 * PAYLOAD)))

    def _send(self, seconds: float) -> None:
        for flow in self.flows:
            sender = self._senders[flow.port]
            for _ in range(flow.due(seconds)):
                sender.send(_NUMBER.pack(flow.sent) + bytes(PAYLOAD - _NUMBER.size))
                flow.sent += 1


def _sender(flow: Flow, pair: LinkPair) -> socket.socket:
    """Room for more than any queue here holds: a sender that waits for its own buffer would offer less."""
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[flow.version]
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)
    level, name = {4: (socket.IPPROTO_IP, socket.IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}[flow.version]
    made.setsockopt(level, name, flow.dscp << 2 | flow.ecn)
    made.connect(({4: pair.b_v4, 6: pair.b_v6}[flow.version], flow.port))
    return made


def _receiver(flow: Flow) -> socket.socket:
    family, anywhere = {4: (socket.AF_INET, "0.0.0.0"), 6: (socket.AF_INET6, "::")}[flow.version]
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    made.bind((anywhere, flow.port))
    made.setblocking(False)
    return made


def _keep_the_order(lab: Lab, pair: LinkPair) -> None:
    """Frames are received in the order in which they left the shaper, as on a cable.

    A veth hands a frame to the processor that sent it, the shaper's timer may send from another one than the sender
    does, and what two processors receive has no order. So one of them receives all. One that is alone has no such file.
    """
    receivers = f"/sys/class/net/{pair.b}/queues/rx-0/rps_cpus"
    lab.run(f"sh -c 'test ! -e {receivers} || echo 1 >{receivers}'", peer=True)


def _turned_away(sock: socket.socket) -> int:
    return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[-1])


def neighbours(lab: Lab, pair: LinkPair) -> None:
    """Each end knows the other's address for good: a packet that waits for an answer to ARP is in no queue."""
    for peer, device, far, addresses in (
        (False, pair.a, pair.b, (pair.b_v4, pair.b_v6)),
        (True, pair.b, pair.a, (pair.a_v4, pair.a_v6)),
    ):
        mac = lab.run(f"ip -o link show {far}", peer=not peer).split("link/ether ")[1].split()[0]
        for address in addresses:
            lab.run(f"ip neigh replace {address} lladdr {mac} dev {device} nud permanent", peer=peer)
