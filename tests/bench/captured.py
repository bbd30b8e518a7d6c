"""What measuring by sampled packets costs at the highest rate, and what scapy alone makes of the same packets."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from _common import network, options, verdict
from forwarding import Passage, Router

from collectors.ring import PacketRing
from shaper.compile.program import Program
from shaper.model.observation import TICK
from shaper.run.alarms import Alarms
from shaper.run.capturing import Capturing
from shaper.run.clock import SystemClock

_TURNS = 25
_PACE = 250_000
"""Packets until it knows how fast they come."""
_MOST = 0.10
_RETURN = 0x06

_SCAPY = """
import json, signal, sys, time
from scapy.all import AsyncSniffer
count = 0
def one(packet):
    global count
    count += 1
sniffer = AsyncSniffer(iface=sys.argv[1], prn=one, store=False)
sniffer.start()
time.sleep(1)
used = time.process_time()
print("ready", flush=True)
sys.stdin.read()
time.sleep(1)
print(json.dumps({"seen": count, "processor": time.process_time() - used}), flush=True)
"""


class Reader(threading.Thread):
    """Drains a capture every tick, and tends it in between, as a run does, until `end`."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
        self._over = threading.Event()
        self._capturing = Capturing(SystemClock(), Alarms())
        self._capturing.open(program)
        self.why = self._capturing.why
        self.captured = self.drops = self.matched = self.missed = 0
        self.listening = 1.0
        self.sampling = program.sampling
        self.processor = 0.0

    def run(self) -> None:
        begun = time.thread_time()
        over, due = False, time.monotonic() + TICK
        while not over:
            over = self._over.wait(min(due - time.monotonic(), self._capturing.wait))
            if not over and time.monotonic() < due:
                self._capturing.tend()
                continue
            due = time.monotonic() + TICK
            self.processor = time.thread_time() - begun
            window = self._capturing.window(self._program, now=0.0, queued={} if over else None)
            if window is not None:
                self.captured += window.captured
                self.drops += window.capture_drops
                self.matched += sum(one.matched for one in window.classes.values())
                self.missed += sum(one.lost for one in window.classes.values())
                self.listening = min(self.listening, window.listening)
                self.sampling = max(self.sampling, window.sampling)

    def end(self) -> None:
        """After what is on its way."""
        time.sleep(TICK)
        self._over.set()
        self.join()
        self._capturing.release()


def main() -> int:
    """0 when it takes less than a tenth of a processor and loses nothing itself, 1 when not."""
    wanted = options("captured", __doc__, count=120_000, of="packets in each turn", seed=1).parse_args()
    problems: list[str] = []
    with network() as (lab, _):
        router = Router(lab)
        router.send(wanted.count // 10)
        problems += sampled(router, wanted.count)
        scapy(router, wanted.count)
    return verdict(problems, f"it takes less than {_MOST:.0%} of a processor and drops nothing")


def sampled(router: Router, count: int) -> list[str]:
    """What copies and filters add to each packet, soft interrupts included, and what reading takes.

    Turn by turn, each against what it takes without before and after it, so that both meet the same machine. Beside it
    what the kernel's copy of every packet takes, for a packet socket that passes none: no filter makes it less.
    """
    added, copies, reading, rates, problems = [], [], [], [], []
    frames = matched = drops = missed = 0
    plain = router.send(count)
    for _ in range(_TURNS):
        with router.copying() as program:
            reader = Reader(program)
            problems += [reader.why] if reader.why else []
            reader.start()
            router.send(_PACE)
            found = reader.processor
            one = router.send(count)
            reader.end()
        reading.append((reader.processor - found) / one.seconds)
        rates.append(one.rate)
        frames, matched = frames + reader.captured, matched + reader.matched
        drops, missed = drops + reader.drops, missed + reader.missed
        between = router.send(count)
        added.append(share(one, plain, between))
        with alone(router):
            other = router.send(count)
        plain = router.send(count)
        copies.append(share(other, between, plain))
        problems += lost(one, between, other, plain)
    median = statistics.median
    taken = median(map(sum, zip(added, reading, strict=True)))
    print(
        f"1 in {reader.sampling} captured, in {reader.listening:.0%} of the time, at {median(rates):,.0f} packets a "
        f"second of a processor: {taken:.1%} of one, {median(added):.1%} for copies and filters, {median(reading):.1%} "
        f"for reading; {frames} frames, {matched} packets matched, {drops} dropped\n"
        f"a packet socket alone that passes nothing: {median(copies):.1%} of a processor"
    )
    problems += [f"{drops} frames were dropped by the rings"] if drops else []
    problems += [f"{missed} packets that came out were not seen behind the queue"] if missed else []
    problems += [] if matched else ["nothing was matched"]
    return [*problems, *([f"it takes {taken:.1%} of a processor"] if taken >= _MOST else [])]


def share(one: Passage, before: Passage, after: Passage) -> float:
    """What was added to each packet, of a processor that does nothing else."""
    without = (before.processor / before.sent + after.processor / after.sent) / 2
    return 1 - without * one.sent / one.processor


@contextlib.contextmanager
def alone(router: Router) -> Iterator[None]:
    ring = router.lab.inside(lambda: PacketRing(router.outer.a, [(_RETURN, 0, 0, 0)]))
    try:
        router.lab.inside(ring.start)
        yield
    finally:
        ring.close()


def scapy(router: Router, count: int) -> None:
    """Nothing is sampled, and every packet is decoded by scapy."""
    with subprocess.Popen(
        ["ip", "netns", "exec", router.lab.name, sys.executable, "-c", _SCAPY, router.outer.a],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as sniffer:
        assert sniffer.stdin is not None and sniffer.stdout is not None
        assert sniffer.stdout.readline() == "ready\n"
        sent = router.send(count).sent
        sniffer.stdin.close()
        found = json.loads(sniffer.stdout.readline())
    rate = found["seen"] / found["processor"]
    print(
        f"scapy alone on the same packets: {found['seen']} of {sent} seen ({1 - found['seen'] / sent:.1%} lost), "
        f"{rate:,.0f} packets to a second of a processor"
    )


def lost(*passages: Passage) -> list[str]:
    missing = sum(one.sent - one.arrived for one in passages)
    return [f"{missing} packets were lost"] if missing else []


if __name__ == "__main__":
    sys.exit(main())
