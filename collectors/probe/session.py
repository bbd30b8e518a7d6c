"""A probe at work: sends at an even pace, reads what comes back, and hands over outcomes."""

from __future__ import annotations

import errno
import select
from collections.abc import Callable, Iterator
from typing import Protocol

from collectors.errors import ProbeError
from collectors.probe.codecs import Codec
from collectors.probe.endpoint import Departure, Endpoint
from collectors.probe.log import Log, Outcome
from collectors.probe.stamp import BadPacketError

_NAP = 0.2
"""Seconds after which a session looks whether it was told to stop."""


_GONE = frozenset({errno.ENODEV, errno.ENXIO})
"""The device that the socket was bound to is no more; one that comes by its name is another."""


class Clock(Protocol):
    """Boot time and wall time in seconds."""

    def boot(self) -> float: ...
    def wall(self) -> float: ...


class Prober(Protocol):
    """What a session paces; its outcomes come from its log."""

    @property
    def log(self) -> Log: ...

    @property
    def packets(self) -> int:
        """How many packets it has sent so far, as the device counts them."""

    def owns(self, protocol: int | None, sport: int | None) -> bool:
        """Whether a packet of that protocol and source port to its other end is one of its own."""

    def send(self, sequence: int) -> None:
        """One packet or transaction. Raises ProbeError where it cannot go out."""

    def wait(self, seconds: float) -> None:
        """Takes what comes in, until something has or the time is over."""

    def close(self) -> None:
        """Gives back what it holds."""


class Datagrams:
    """One packet each way: STAMP, TWAMP-light, ICMP, DNS."""

    def __init__(self, endpoint: Endpoint, codec: Codec, clock: Clock, *, timeout: float, eager: bool = False) -> None:
        self.log = Log(timeout=timeout, eager=eager)
        self.endpoint = endpoint
        self._codec = codec
        self._clock = clock
        self._numbers: dict[int, int] = {}  # the kernel counts what was sent, from 0
        self._count = 0
        self._protocol = endpoint.protocol
        self._port = None if endpoint.icmp else endpoint.local_port
        self._poll = select.poll()
        self._poll.register(endpoint, select.POLLIN)

    def send(self, sequence: int) -> None:
        self._numbers[self._count] = sequence
        self._numbers.pop(self._count - 100_000, None)
        at, wall = self._clock.boot(), int(self._clock.wall() * 1e9)
        data = self._codec.pack(sequence, wall=wall)
        self.log.sent(sequence, at=at, wall=wall)
        try:
            self.endpoint.send(data)
        except OSError as error:
            if error.errno in _GONE:
                raise ProbeError(f"no probe can be sent: {error.strerror}", "`ip link` shows the devices") from error
            self.log.refused(error.strerror or str(error), "this machine")
        else:
            self._count += 1

    @property
    def packets(self) -> int:
        return self._count

    def owns(self, protocol: int | None, sport: int | None) -> bool:
        return protocol == self._protocol and sport == self._port

    def wait(self, seconds: float) -> None:
        self._poll.poll(max(0.0, seconds) * 1000)
        self._read()

    def close(self) -> None:
        self.endpoint.close()

    def _read(self) -> None:
        for report in self.endpoint.reports():
            if not isinstance(report, Departure):
                self.log.refused(*report)
            elif report.number in self._numbers:
                self.log.departed(self._numbers[report.number], report.at, left=report.left)
        for each in self.endpoint.arrivals():
            try:
                answer = self._codec.unpack(each.data)
            except BadPacketError as error:
                self.log.ignored[error.reason] += 1
                continue
            at, wall = self._clock.boot(), int(self._clock.wall() * 1e9)
            self.log.answered(answer, each.at or wall, at=at, wall=wall)


def paced(
    prober: Prober,
    clock: Clock,
    *,
    interval: float,
    count: int | None = None,
    stopped: Callable[[], bool] = bool,
    resting: Callable[[], bool] = bool,
) -> Iterator[Outcome]:
    """Sends `count` times (None: until `stopped`), `interval` seconds apart, and yields outcomes as they are settled.

    A send that is late is not made up for: those after it keep the interval from it. While `resting` nothing is sent.
    With a count it ends as soon as everything is answered or the time for that is over. Raises ProbeError.
    """
    sequence, due = 0, clock.boot()
    while not stopped() and (count is None or sequence < count):
        now = clock.boot()
        if now >= due:
            if not resting():
                prober.send(sequence)
                sequence += 1
            due = max(due + interval, now)
        yield from prober.log.settle(clock.boot())
        prober.wait(max(0.0, min(_NAP, due - clock.boot())))
    until = clock.boot() + prober.log.timeout
    while not stopped() and prober.log.waiting and clock.boot() < until:
        prober.wait(min(_NAP, until - clock.boot()))
    prober.wait(0.0)
    yield from prober.log.settle(float("inf"))
