"""What measuring by sampled packets costs at the highest rate, and what scapy alone makes of the same packets."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time

from _common import network, options, verdict
from forwarding import Passage, Router

from collectors.ring import PacketRing
from shaper.compile.program import Program
from shaper.run.alarms import Alarms
from shaper.run.capturing import Capturing
from shaper.run.clock import SystemClock

_PAIRS = 5
_MOST = 0.10
_TICK = 0.25
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
        self.processor = 0.0

    def run(self) -> None:
        begun = time.thread_time()
        over, due = False, time.monotonic() + _TICK
        while not over:
            over = self._over.wait(min(due - time.monotonic(), self._capturing.wait))
            if not over and time.monotonic() < due:
                self._capturing.tend()
                continue
            due = time.monotonic() + _TICK
            self.processor = time.thread_time() - begun
            window = self._capturing.window(self._program, now=0.0, queued={} if over else None)
            if window is not None:
                self.captured += window.captured
                self.drops += window.capture_drops
                self.matched += sum(one.matched for one in window.classes.values())
                self.missed += sum(one.lost for one in window.classes.values())
                self.listening = min(self.listening, window.listening)

    def end(self) -> None:
        """After what is on its way."""
        time.sleep(_TICK)
        self._over.set()
        self.join()
        self._capturing.release()


def main() -> int:
    """0 when it takes less than a tenth of a processor and loses nothing itself, 1 when not."""
    wanted = options("captured", __doc__, count=200_000, of="packets in each turn", seed=1).parse_args()
    problems: list[str] = []
    with network() as (lab, _):
        router = Router(lab)
        router.send(wanted.count // 10)
        problems += sampled(router, wanted.count)
        alone(router, wanted.count)
        scapy(router, wanted.count)
    return verdict(problems, f"it takes less than {_MOST:.0%} of a processor and drops nothing")


def sampled(router: Router, count: int) -> list[str]:
    """In pairs: what copies and filters add to each packet, soft interrupts included, and what reading takes."""
    added, reading, rates, problems = [], [], [], []
    for _ in range(_PAIRS):
        before = router.send(count)
        with router.copying() as program:
            reader = Reader(program)
            problems += [reader.why] if reader.why else []
            reader.start()
            router.send(count)  # it finds its pace
            found = reader.processor
            after = router.send(count)
            reader.end()
        each = after.processor / after.sent
        added.append(1 - before.processor / before.sent / each)  # of a processor that does nothing else
        reading.append((reader.processor - found) / after.seconds)
        rates.append(after.rate)
        problems += [f"{reader.drops} frames were dropped by the rings"] if reader.drops else []
        problems += [] if reader.matched else ["nothing was matched"]
        problems += [f"{reader.missed} packets that came out were not seen behind the queue"] if reader.missed else []
        problems += lost(before, after)
    share = statistics.median(map(sum, zip(added, reading, strict=True)))
    print(
        f"1 in {program.sampling} captured, in {reader.listening:.0%} of the time, at "
        f"{statistics.median(rates):,.0f} packets a second of a processor: "
        f"{statistics.median(added):.1%} of one for copies and filters, {statistics.median(reading):.1%} for reading; "
        f"{reader.captured} frames, {reader.matched} packets matched, {reader.drops} dropped"
    )
    return [*problems, *([f"it takes {share:.1%} of a processor"] if share >= _MOST else [])]


def alone(router: Router, count: int) -> None:
    """What the kernel's copy of every packet takes, for a packet socket that passes none: no filter makes it less."""
    added = []
    for _ in range(_PAIRS):
        before = router.send(count)
        ring = router.lab.inside(lambda: PacketRing(router.outer.a, [(_RETURN, 0, 0, 0)]))
        try:
            router.lab.inside(ring.start)
            after = router.send(count)
        finally:
            ring.close()
        added.append(1 - before.processor / before.sent * after.sent / after.processor)
    print(f"a packet socket alone that passes nothing: {statistics.median(added):.1%} of a processor")


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
