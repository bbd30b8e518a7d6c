"""Queues that theory knows, all of a device at once, and what captured packets and the kernel's counters say of them.

In virtual time no time passes while the kernel or this program works: what a packet waits is the queue's doing alone.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import math
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from collectors.capture import Capture
from collectors.histogram import DelayHistogram
from collectors.sample import CaptureWindow, FlowKey

if TYPE_CHECKING:
    from conftest import Lab

OUTGOING = ((0x30, 0, 0, 0xFFFFF004), (0x15, 0, 1, 4), (0x06, 0, 0, 96), (0x06, 0, 0, 0))
HEADERS = 14 + 20 + 8
_SO_SNDBUFFORCE = 32
_PR_SET_TIMERSLACK = 29
_DRAIN = 2.0
_REST = 0x10000 | 0x999


@dataclass(frozen=True, slots=True)
class Queue:
    """A class of its own rate in bit/s, with Poisson arrivals of frames of `size` bytes at `load` times that rate.

    `limit` bytes wait at most, 0 for endless. `burst` is HTB's, in bytes, and its cburst: it sends while its bucket is
    not in debt, so that with next to none a frame follows another after its time, as from a wire, and with room for one
    frame two may leave at once after a pause.
    """

    name: str
    rate: int
    load: float
    size: int = 1000
    limit: int = 0
    burst: int = 1

    @property
    def service(self) -> float:
        """Seconds that one frame takes."""
        return self.size * 8 / self.rate

    @property
    def wait(self) -> float:
        """The mean wait in s before a frame begins to be sent: that behind a full FIFO, or of M/D/1.

        With a burst of one frame it is the mean of what the virtual wait V exceeds one service time S by: V is below x
        with the chance (1 - load) exp(load x / S) for x up to S (Erlang, 1909).
        """
        if self.load >= 1:
            return self.limit * 8 / self.rate
        whole = self.load * self.service / (2 * (1 - self.load))
        if self.burst < self.size:
            return whole
        return whole - self.service * (1 - (1 - self.load) * math.expm1(self.load) / self.load)


M = 1_000_000
QUEUES = (
    Queue("load 0.5", 3 * M, 0.5),
    Queue("load 0.7", 3 * M, 0.7),
    Queue("load 0.8", 4_500_000, 0.8),
    Queue("load 0.9", 10 * M, 0.9),
    Queue("full", 900_000, 3.0, limit=100_000),
)
"""Their rates give the heaviest load half of all packets: its mean takes the most to be known."""


@dataclass(slots=True)
class Seen:
    """`sent` packets came to the queue; the others are by the capture, `dropped` by the kernel.

    `backlog` (s) and `expected` (the sum of all waits, s) follow the same arrivals by arithmetic (D. V. Lindley, 1952).
    """

    sent: int = 0
    at: float = 0.0
    backlog: float = 0.0
    expected: float = 0.0
    lost: int = 0
    dropped: int = 0
    delays: DelayHistogram = field(default_factory=lambda: DelayHistogram(width=0.002))

    @property
    def mean(self) -> float:
        return self.delays.sum / self.delays.count

    def arrives(self, queue: Queue, at: float) -> None:
        """One more packet, at `at` s."""
        self.backlog = max(0.0, self.backlog - (at - self.at))
        self.at = at
        self.expected += max(0.0, self.backlog - (queue.service if queue.burst >= queue.size else 0.0))
        self.backlog += queue.service
        self.sent += 1


def observe(lab: Lab, queues: Sequence[Queue], *, packets: int, seed: int) -> list[Seen]:
    """So many packets in all through all queues at once."""
    pair = lab.link_pair()
    device = pair.a

    def tc(command: str) -> str:
        return lab.run(f"tc {command}")

    lab.run("ip link add copies type ifb")
    lab.run("ip link set copies up")
    tc(f"qdisc add dev {device} root handle 1: htb default 999")
    tc(f"class add dev {device} parent 1: classid 1:999 htb rate 1gbit")
    tc(f"qdisc add dev {device} parent 1:999 bfifo limit 100000")
    for number, queue in enumerate(queues, 0x10):
        tc(
            f"class add dev {device} parent 1: classid 1:{number:x} htb rate {queue.rate}bit ceil {queue.rate}bit "
            f"burst {queue.burst}b cburst {queue.burst}b quantum 1514"
        )
        tc(f"qdisc add dev {device} parent 1:{number:x} handle {number:x}: bfifo limit {queue.limit or 1 << 30}")
        tc(
            f"filter add dev {device} parent 1: pref {number} protocol ip u32 "
            f"match ip dport {5000 + number} 0xffff flowid 1:{number:x}"
        )
    tc(f"qdisc add dev {device} clsact")
    tc(
        f"filter add dev {device} egress pref 30 protocol all bpf bytecode '1,6 0 0 4294967295' "
        "action mirred egress mirror dev copies"
    )
    handles = {5000 + number: 0x10000 | number for number, _ in enumerate(queues, 0x10)}

    def classify(key: FlowKey) -> int:
        return handles.get(key.dport or 0, _REST) if key.ethertype == 0x0800 else _REST

    found = [Seen() for _ in queues]
    with lab.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 30)
        sender.sendto(b"", (pair.b_v4, 9))  # the neighbour is known after this
        time.sleep(1)
        capture = lab.inside(
            lambda: Capture(
                device=device,
                tap="copies",
                after_filter=OUTGOING,
                sampling=1,
                classify=classify,
                audit_rate=0,
                horizon=10,
            )
        )
        try:
            _send(sender, pair.b_v4, queues, found, capture, packets=packets, seed=seed)
            time.sleep(max(queue.wait for queue in queues) * 3 + 1)
            _count(capture.settle(now=time.time(), queued={}), found)
        finally:
            capture.close()
    for number, seen in enumerate(found, 0x10):
        shown = tc(f"-s qdisc show dev {device} parent 1:{number:x}").replace(",", "").split()
        seen.dropped = int(shown[shown.index("(dropped") + 1])
    return found


def _send(
    sender: socket.socket,
    to: str,
    queues: Sequence[Queue],
    found: Sequence[Seen],
    capture: Capture,
    *,
    packets: int,
    seed: int,
) -> None:
    """Every arrival of every queue, in the order of time; without the slack that a sleeper's timer else has."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    payloads = [bytes(queue.size - HEADERS - 4) for queue in queues]
    places = [(to, 5000 + number) for number, _ in enumerate(queues, 0x10)]
    began, drained = time.monotonic(), 0.0
    for at, number in itertools.islice(_arrivals(queues, seed), packets):
        spare = at - (time.monotonic() - began)
        if spare > 0:
            time.sleep(spare)
        now = time.monotonic() - began
        sender.sendto(struct.pack("!I", found[number].sent) + payloads[number], places[number])
        found[number].arrives(queues[number], now)
        if at - drained > _DRAIN:
            drained = at
            _count(capture.drain(now=time.time()), found)


def _arrivals(queues: Sequence[Queue], seed: int) -> Iterator[tuple[float, int]]:
    def of(number: int, queue: Queue) -> Iterator[tuple[float, int]]:
        chance, at = Random(seed * 1000 + number), 0.0
        while True:
            at += chance.expovariate(queue.load / queue.service)
            yield at, number

    return heapq.merge(*(of(number, queue) for number, queue in enumerate(queues)))


def _count(window: CaptureWindow, found: Sequence[Seen]) -> None:
    assert not (window.capture_drops or window.ambiguous or window.unmatched), "the capture missed something"
    for number, seen in enumerate(found, 0x10):
        one = window.classes.get(0x10000 | number)
        if one is not None:
            seen.delays.add(one.delays)
            seen.lost += one.lost
