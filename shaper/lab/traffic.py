"""The UDP generator: every packet sent at its own time of an absolute schedule, with its stamp inside.

One process serves all flows: `python -m shaper.lab.traffic PLAN LOG`, PLAN a JSON file of `plan_of`. LOG is
the sender's own account: two 64-bit words for every packet, `packet_key` and the nanoseconds at which it was sent.
"""

from __future__ import annotations

import ctypes
import heapq
import json
import random
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

HEADER = struct.Struct("!IIq")
"""Of a payload: flow, sequence number, send stamp (CLOCK_REALTIME, ns)."""
LAYER2_OVERHEAD = {4: 14 + 20 + 8, 6: 14 + 40 + 8}
"""Ethernet, IP and UDP headers by IP version, in bytes."""
_PR_SET_TIMERSLACK = 29
_LONGEST_SPIN = 60e-6
_TRIALS, _TRIAL = 20, 1e-3
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Step:
    """From `at` seconds on, `rate` bit/s of layer 2 in frames of `size` bytes; a rate of 0 is silence.

    Arrivals are even or `poisson`; with `busy` and `idle` (s) only the first part of each cycle has any. With `every`
    (s) a picture comes so often, all of its frames at once, its size within `spread` (0..1) of what the rate makes it.
    """

    at: float
    rate: int
    size: int
    poisson: bool = False
    busy: float = 0.0
    idle: float = 0.0
    every: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class UdpFlow:
    """One flow. `jitter` is the share of a packet's interval by which it may be late, drawn from `seed`."""

    flow: int
    address: str
    port: int
    dscp: int
    steps: tuple[Step, ...]
    until: float
    jitter: float = 0.0
    seed: int = 0

    @property
    def version(self) -> int:
        return 6 if ":" in self.address else 4


def packet_key(flow: int, sequence: int) -> int:
    """A packet's name in the logs."""
    return flow << 32 | sequence


def schedule(flow: UdpFlow) -> Iterator[tuple[float, int]]:
    """(seconds from the start, frame size in bytes) of every packet, in order.

    Even times are computed from each step's beginning, never from the packet before, so no error adds up.
    """
    chance = random.Random(flow.seed)
    ends = (*(step.at for step in flow.steps[1:]), flow.until)
    for step, end in zip(flow.steps, ends, strict=True):
        if step.rate:
            kind = _poisson if step.poisson else _pictures if step.every else _even
            yield from ((at, step.size) for at in kind(step, end, flow.jitter, chance))


def _even(step: Step, end: float, jitter: float, chance: random.Random) -> Iterator[float]:
    interval = step.size * 8 / step.rate
    phase = chance.random() * interval
    count = 0
    while (nominal := step.at + phase + count * interval) < end:
        late = chance.random() * jitter * interval
        if not step.busy or (nominal - step.at) % (step.busy + step.idle) < step.busy:
            yield nominal + late
        count += 1


def _poisson(step: Step, end: float, _jitter: float, chance: random.Random) -> Iterator[float]:
    at = step.at
    while (at := at + chance.expovariate(step.rate / (step.size * 8))) < end:
        yield at


def _pictures(step: Step, end: float, jitter: float, chance: random.Random) -> Iterator[float]:
    """What the rounding to whole frames leaves over is sent with the next picture."""
    phase = chance.random() * step.every
    count, owed = 0, 0.0
    while (nominal := step.at + phase + count * step.every) < end:
        owed += step.rate * step.every / 8 * (1 + step.spread * (2 * chance.random() - 1))
        at = nominal + chance.random() * jitter * step.every
        frames = int(owed // step.size)
        owed -= frames * step.size
        yield from (at for _ in range(frames))
        count += 1


def plan_of(flows: Sequence[UdpFlow], *, start: float) -> str:
    """The plan for a generator that begins at the Unix time `start`."""
    return json.dumps({"start": start, "flows": [asdict(flow) for flow in flows]})


def read_plan(path: Path) -> tuple[float, tuple[UdpFlow, ...]]:
    """The plan back: its start and its flows."""
    plan = json.loads(path.read_text())
    flows = (UdpFlow(**{**flow, "steps": tuple(Step(**step) for step in flow["steps"])}) for flow in plan["flows"])
    return plan["start"], tuple(flows)


class _Sender:
    """One flow's socket and where it is in its schedule."""

    def __init__(self, flow: UdpFlow) -> None:
        self.flow = flow
        self.times = schedule(flow)
        self.sequence = 0
        six = flow.version == 6
        self.socket = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        if six:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, flow.dscp << 2)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, flow.dscp << 2)
        self.socket.connect((flow.address, flow.port))
        largest = max((step.size for step in flow.steps), default=0)
        self.socket.send(b"")  # finds the neighbours before it counts; no packet of any account
        self.payload = bytearray(max(largest - LAYER2_OVERHEAD[flow.version], HEADER.size))

    def send(self, size: int, log: array[int]) -> None:
        now = time.time_ns()
        HEADER.pack_into(self.payload, 0, self.flow.flow, self.sequence, now)
        log.extend((packet_key(self.flow.flow, self.sequence), now))
        self.sequence += 1
        length = size - LAYER2_OVERHEAD[self.flow.version]
        with suppress(ConnectionRefusedError):  # the answer to an earlier packet; the receiver's account shows the loss
            self.socket.send(memoryview(self.payload)[:length])


def exact_sleep() -> float:
    """Lets this thread's sleeps end as exactly as the kernel can; returns by how many seconds they still are late.

    The worst of a few trials, 60 us at the most: what is spun away before each packet. In virtual time it is nothing.
    """
    _libc.prctl(_PR_SET_TIMERSLACK, 1)  # ns; where it is refused the trials show it
    late = 0.0
    for _ in range(_TRIALS):
        due = time.monotonic() + _TRIAL
        time.sleep(max(0.0, due - time.monotonic()))
        late = max(late, time.monotonic() - due)
    return min(late, _LONGEST_SPIN)


def send_all(flows: Sequence[UdpFlow], *, start: float, log: array[int]) -> None:
    """Sends every packet at its time, counted from the Unix time `start`, and notes it in `log`."""
    spin = exact_sleep()
    senders = [_Sender(flow) for flow in flows]
    try:
        begin = time.monotonic() + (start - time.time())
        waiting = [(*first, index) for index, sender in enumerate(senders) if (first := next(sender.times, None))]
        heapq.heapify(waiting)
        while waiting:
            at, size, index = waiting[0]
            due = begin + at
            if (early := due - time.monotonic()) > spin:
                time.sleep(early - spin)
            while time.monotonic() < due:
                pass
            senders[index].send(size, log)
            following = next(senders[index].times, None)
            if following is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (*following, index))
    finally:
        for sender in senders:
            sender.socket.close()


def main() -> int:
    """Runs the plan to its end, or to SIGTERM, and leaves the log either way."""
    plan, log_path = map(Path, sys.argv[1:3])

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    start, flows = read_plan(plan)
    log = array("q")
    try:
        send_all(flows, start=start, log=log)
    finally:
        log_path.write_bytes(log.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
