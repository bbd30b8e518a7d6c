"""A hash sample of captured packets against what programs in the kernel count of all of them, window by window."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from random import Random

from side_by_side import counting
from test_capture_matching import BULK, VOICE, Shaped, classify

from collectors.bpf.counts import FINE_CUTS
from collectors.bpf.windows import difference
from collectors.capture import Capture
from collectors.sample import ClassWindow
from shaper.compile.tap import tap_filter
from shaper.stats import ranks, wilson

SAMPLING = 4
NOISE, WIDTH = 50e-6, 1 / FINE_CUTS
"""How far the two may be apart in seconds, since each takes the time of a packet for itself, and a bucket's width."""
PERCENTILES = (0.5, 0.95, 0.99)
_SENT = 6400
_SECONDS = 1.2
_PORTS = 5010, 5010, 5020, 5020, 5020


@dataclass(frozen=True, slots=True)
class Window:
    """Of one class in one window: packets in all and in the sample, and by percentile whether the interval covers.

    `bounded` says of which percentiles the interval has both ends; `loss` whether that of the loss ratio covers.
    """

    packets: int
    sampled: int
    covers: dict[float, bool]
    bounded: dict[float, bool]
    loss: bool


def windows(shaped: Shaped, *, count: int, seed: int) -> Iterator[dict[str, Window]]:
    """Window after window of traffic of random sizes at random times, more than the queue of bulk takes.

    They are long enough for an interval of p99 to have both ends, for which it takes 527 samples.
    """
    with counting(shaped, cuts=FINE_CUTS) as delays:
        before, _ = delays.read()
        for number in range(count):
            with _capturing(shaped, SAMPLING) as capture:
                _send(shaped, Random(seed * 100_000 + number))
                seen = capture.settle(now=time.time(), queued={})
            lost, _ = delays.sweep(before=time.monotonic_ns())
            after, health = delays.read()
            broken = seen.capture_drops, seen.ambiguous, seen.unmatched, health.unknown
            assert not any(broken), broken
            yield {
                name: _judge(
                    difference(before[classid], after[classid], lost=lost.get(classid, 0), envelope={}),
                    seen.classes[classid],
                )
                for name, classid in (("voice", VOICE), ("bulk", BULK))
            }
            before = after


@contextmanager
def _capturing(shaped: Shaped, sampling: int) -> Iterator[Capture]:
    capture = shaped.lab.inside(
        lambda: Capture(
            device=shaped.pair.a,
            tap="copies",
            after_filter=tap_filter(sampling),
            sampling=sampling,
            classify=classify,
            audit_rate=0,
        )
    )
    try:
        yield capture
    finally:
        capture.close()


def _send(shaped: Shaped, chance: Random) -> None:
    times = sorted(chance.random() * _SECONDS for _ in range(_SENT))
    with shaped.socket() as sock:
        began = time.monotonic()
        for at in times:
            port = chance.choice(_PORTS)
            size = chance.randrange(60, 300) if port == 5010 else chance.randrange(200, 1400)
            while time.monotonic() - began < at:
                time.sleep(0.0005)
            sock.sendto(chance.randbytes(24).ljust(size, b"x"), (shaped.pair.b_v4, port))
    time.sleep(0.3)  # the queue is 178 ms long, and an idle ring holds its last frames for 16


def _judge(whole: ClassWindow, part: ClassWindow) -> Window:
    picked = sorted(part.delays)
    assert whole.histogram is not None
    covers, bounded = {}, {}
    for q in PERCENTILES:
        low, high = ranks(len(picked), q, confidence=0.99)
        ends = picked[low - 1] if low else 0.0, picked[high - 1] if high <= len(picked) else inf
        true = whole.histogram.quantile(q)
        covers[q] = ends[0] - NOISE <= true <= ends[1] * (1 + WIDTH) + NOISE
        bounded[q] = low > 0 and high <= len(picked)
    lost = wilson(part.lost, part.arrived_packets, confidence=0.99)
    return Window(
        packets=whole.arrived_packets,
        sampled=part.arrived_packets,
        covers=covers,
        bounded=bounded,
        loss=lost.low <= whole.lost / whole.arrived_packets <= lost.high,
    )
