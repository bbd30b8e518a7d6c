"""A hash sample of captured packets against all of them: the same packets, through the same queue, by two captures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil, inf
from random import Random

from test_capture_matching import BULK, VOICE, Shaped, classify

from collectors.capture import Capture
from collectors.sample import CaptureWindow
from shaper.compile.tap import tap_filter
from shaper.stats import ranks, wilson

SAMPLING = 4
NOISE = 20e-6
"""Seconds: each socket takes the time of a packet for itself."""
PERCENTILES = (0.5, 0.95, 0.99)
_SENT = 700
_SECONDS = 0.35


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
    """Window after window of traffic of random sizes at random times, more than the queue of bulk takes."""
    for number in range(count):
        with ExitStack() as stack:
            full, sample = (stack.enter_context(_capturing(shaped, sampling)) for sampling in (1, SAMPLING))
            _send(shaped, Random(seed * 100_000 + number))
            seen = [capture.settle(now=time.time(), queued={}) for capture in (full, sample)]
        assert not [one for one in seen if one.capture_drops or one.ambiguous or one.unmatched]
        yield {name: _judge(*seen, classid) for name, classid in (("voice", VOICE), ("bulk", BULK))}


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
            port, size = chance.choice((5010, 5020, 5020, 5020)), chance.randrange(200, 1400)
            while time.monotonic() - began < at:
                time.sleep(0.0005)
            sock.sendto(chance.randbytes(24).ljust(size, b"x"), (shaped.pair.b_v4, port))
    time.sleep(0.3)  # the queue is 178 ms long, and an idle ring holds its last frames for 16


def _judge(full: CaptureWindow, sample: CaptureWindow, classid: int) -> Window:
    whole, part = full.classes[classid], sample.classes[classid]
    everything, picked = sorted(whole.delays), sorted(part.delays)
    covers, bounded = {}, {}
    for q in PERCENTILES:
        low, high = ranks(len(picked), q, confidence=0.99)
        ends = picked[low - 1] if low else 0.0, picked[high - 1] if high <= len(picked) else inf
        covers[q] = ends[0] - NOISE <= everything[ceil(q * len(everything)) - 1] <= ends[1] + NOISE
        bounded[q] = low > 0 and high <= len(picked)
    lost = wilson(part.lost, part.arrived_packets, confidence=0.99)
    return Window(
        packets=whole.arrived_packets,
        sampled=part.arrived_packets,
        covers=covers,
        bounded=bounded,
        loss=lost.low <= whole.lost / whole.arrived_packets <= lost.high,
    )
