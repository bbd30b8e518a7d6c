"""Hash-sampled capture on a real kernel: what its intervals cover, and that no change of rate makes packets lost."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from sampled import NOISE, PERCENTILES, SAMPLING, windows
from test_capture_matching import BULK, VOICE, Shaped, classify, offer, shape, total

from collectors.bpf.delays import refusal
from collectors.capture import Capture
from collectors.duty import Duty
from collectors.histogram import SlidingDelays
from collectors.sample import CaptureWindow, ClassWindow
from shaper.compile.tap import filters, tap_filter
from shaper.run.views import clustered_ends

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

_SENDER = """
import random, socket, sys, time
to, rate, seconds, seed = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, 32, 1 << 23)  # SO_SNDBUFFORCE: else it waits for room, and nothing is dropped
began, at = time.monotonic(), 0.0
while at < seconds:
    at += chance.expovariate(rate)
    port = chance.choice((5010, 5020, 5020, 5020))
    size = chance.randrange(60, 300) if port == 5010 else chance.randrange(200, 1400)
    while (late := time.monotonic() - began - at) < 0:
        time.sleep(0.0002)
    began += late if late > 0.003 else 0  # what it was held up by is no burst
    sock.sendto(chance.randbytes(24).ljust(size, b"x"), (to, port))
"""


def test_intervals_of_a_sample_cover_what_all_packets_say(netns: Lab) -> None:
    """A few windows of `scripts/bench sampling`, at 99 %: 64 intervals, of which one or two may miss."""
    if why := refusal():
        pytest.skip(f"missing capability: eBPF ({why})")
    found = [one for each in windows(shape(netns), count=8, seed=3) for one in each.values()]
    assert all(one.packets / SAMPLING / 2 < one.sampled < one.packets * 2 / SAMPLING for one in found)
    held = [one.loss for one in found] + [covers for one in found for covers in one.covers.values()]
    assert len(held) == 64
    assert sum(held) >= 61


def test_a_rate_that_changes_under_load_loses_nothing(netns: Lab) -> None:
    shaped = shape(netns)
    capture = netns.inside(
        lambda: Capture(
            device=shaped.pair.a,
            tap="copies",
            after_filter=tap_filter(1),
            sampling=1,
            classify=classify,
            audit_rate=0,
            horizon=1.0,
            filters=lambda sampling: filters(sampling, incoming=False),
            most=1500,
        )
    )
    seen: list[CaptureWindow] = []
    try:
        with shaped.socket() as sock:
            sent = offer(sock, shaped.pair.b_v4, 4.0, lambda: seen.append(capture.drain(now=time.time())))
        time.sleep(0.4)
        seen.append(capture.settle(now=time.time(), queued={}))
    finally:
        capture.close()
    assert max(window.sampling for window in seen) >= 4, "it looks at fewer packets than come"
    voice, voice_lost, voice_arrived = total(seen, VOICE)
    bulk, bulk_lost, bulk_arrived = total(seen, BULK)
    assert voice_arrived < sent[5010]
    assert (len(voice), voice_lost) == (voice_arrived, 0), "nothing of voice was dropped, and nothing seems lost"
    assert len(bulk) + bulk_lost == bulk_arrived < sent[5020]
    dropped = shaped.leaf(20)[0] / sent[5020]
    assert bulk_lost / bulk_arrived == pytest.approx(dropped, abs=0.15)


_PART = 4


@dataclass(slots=True)
class _Looking:
    """A capture and what it said, asked as a run asks it: at ticks, and in between where it wants to be."""

    capture: Capture
    seen: list[CaptureWindow] = field(default_factory=list)
    tick: float = 0.0

    def look(self) -> None:
        now = time.time()
        if now >= self.tick:
            self.tick = now + 0.25
            self.seen.append(self.capture.drain(now=now))
        elif now >= self.capture.due:
            self.capture.tend(now=now)


@contextmanager
def _looking(lab: Lab, device: str, *duties: Duty | None) -> Iterator[list[_Looking]]:
    """Beside each other, by one hash: a capture for each duty, with None one that listens always."""
    with ExitStack() as captures:
        made = []
        for duty in duties:
            capture = lab.inside(
                lambda duty=duty: Capture(
                    device=device,
                    tap="copies",
                    after_filter=tap_filter(_PART),
                    sampling=_PART,
                    classify=classify,
                    audit_rate=0,
                    horizon=1.0,
                    filters=lambda sampling: filters(sampling, incoming=False),
                    duty=duty,
                )
            )
            captures.callback(capture.close)
            made.append(_Looking(capture))
        yield made


def _offer(shaped: Shaped, each: list[_Looking], *, rate: int, seconds: float, seed: int) -> None:
    """Packets of random sizes at random times, a quarter of them voice; then what waits comes out, or is lost.

    Who sends is another process: reading must not make packets late, and then come all at once.
    """
    asked = [sys.executable, "-c", _SENDER, shaped.pair.b_v4, str(rate), str(seconds), str(seed)]
    with subprocess.Popen(["ip", "netns", "exec", shaped.lab.name, *asked]) as sender:
        end = math.inf
        while time.monotonic() < end:
            for one in each:
                one.look()
            time.sleep(0.002)
            if end == math.inf and sender.poll() is not None:
                end = time.monotonic() + 1.3
    assert sender.returncode == 0
    for one in each:
        one.seen.append(one.capture.settle(now=time.time(), queued={}))


def _taken(seen: list[CaptureWindow], classid: int) -> int:
    parts = (window.classes[classid] for window in seen if classid in window.classes)
    return sum(part.arrived_packets if part.taken is None else part.taken for part in parts)


def _clusters(seen: list[CaptureWindow], classid: int) -> dict[float, list[tuple[int, int]]]:
    """Of all windows together, as a run has them of the newest."""
    sliding = SlidingDelays(least=1 << 30, seconds=math.inf)
    for number, window in enumerate(seen):
        told = window.classes.get(classid, ClassWindow())
        sliding.add(float(number), told.delays, slices=told.slices)
    assert sliding.sliced
    return sliding.clusters(PERCENTILES)


def test_slices_of_time_say_what_a_whole_look_says(netns: Lab) -> None:
    """Every packet that a slice picks comes out, and what all waited is in the intervals of those."""
    shaped = shape(netns)
    with _looking(netns, shaped.pair.a, None, Duty(whole=500)) as (whole, part):
        _offer(shaped, [whole, part], rate=2000, seconds=4.0, seed=5)
    assert shaped.leaf(20)[0] == 0, "the queue took all"
    assert sum(window.capture_drops for window in (*whole.seen, *part.seen)) == 0
    assert min(window.listening for window in part.seen) < 0.5
    for classid in (VOICE, BULK):
        every, _, arrived = total(whole.seen, classid)
        delays, lost, same = total(part.seen, classid)
        assert same == arrived == len(every), "what arrives is counted as ever"
        assert (lost, len(delays)) == (0, _taken(part.seen, classid))
        assert 50 < len(delays) < arrived * 0.75
        ends = clustered_ends(_clusters(part.seen, classid), confidence=0.999)
        for q in PERCENTILES:
            low, high = ends[q]
            true = every[math.ceil(q * len(every)) - 1]
            assert low < 1 or delays[low - 1] - NOISE <= true
            assert high > len(delays) or true <= delays[high - 1] + NOISE


def test_slices_of_time_lose_what_the_queue_drops(netns: Lab) -> None:
    shaped = shape(netns)
    with _looking(netns, shaped.pair.a, Duty(whole=1000)) as (part,):
        _offer(shaped, [part], rate=4500, seconds=4.0, seed=6)
    taken = {classid: _taken(part.seen, classid) for classid in (VOICE, BULK)}
    voice, voice_lost, voice_arrived = total(part.seen, VOICE)
    bulk, bulk_lost, bulk_arrived = total(part.seen, BULK)
    assert (len(voice), voice_lost) == (taken[VOICE], 0), "nothing of voice was dropped, and nothing seems lost"
    assert len(bulk) + bulk_lost == taken[BULK] < bulk_arrived
    assert taken[VOICE] < voice_arrived
    assert bulk_lost / taken[BULK] == pytest.approx(shaped.leaf(20)[0] / (_PART * bulk_arrived), abs=0.1)
