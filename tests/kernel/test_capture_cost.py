"""Captured packets at the highest rate that the machine forwards; `scripts/bench captured` tells what that costs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from forwarding import Router
from test_capture_matching import total

from collectors.sample import CaptureWindow
from shaper.run.alarms import Alarms
from shaper.run.capturing import Capturing
from shaper.run.clock import SystemClock

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel


def test_at_the_highest_rate_slices_of_time_miss_nothing(netns: Lab) -> None:
    router = Router(netns)
    seen: list[CaptureWindow] = []
    capturing = Capturing(SystemClock(), Alarms())
    with router.copying() as program, ThreadPoolExecutor(1) as beside:
        try:
            capturing.open(program)
            assert capturing.why == ""
            sending = beside.submit(router.send, 250_000)
            tick = end = 0.0
            while not end or time.monotonic() < end:
                time.sleep(min(capturing.wait, max(0.0, tick - time.monotonic())))
                capturing.tend()
                if time.monotonic() >= tick:
                    tick = time.monotonic() + 0.25
                    window = capturing.window(program, now=tick, queued=None)
                    seen += [window] if window else []
                if not end and sending.done():
                    end = time.monotonic() + 0.3
            seen += filter(None, [capturing.window(program, now=tick, queued={})])
        finally:
            capturing.release()
    passage = sending.result()
    delays, lost, arrived = total(seen, router.default)
    parts = [window.classes[router.default] for window in seen if router.default in window.classes]
    taken = sum(part.arrived_packets if part.taken is None else part.taken for part in parts)
    assert passage.arrived == passage.sent
    # One in so many, or fewer once it knows the rate: what a window says is the sparsest of it.
    least = sum(window.sampling * total([window], router.default)[2] for window in seen)
    assert arrived * program.sampling * 0.8 < passage.sent < least * 1.2, "what arrives is counted as ever"
    assert (lost, len(delays), sum(window.capture_drops for window in seen)) == (0, taken, 0)
    said = min(window.listening for window in seen) < 1
    assert 100 < taken <= arrived
    assert said or taken == arrived, "what was not looked for is told"
