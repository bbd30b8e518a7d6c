"""Hash-sampled capture on a real kernel: what its intervals cover, and that no change of rate makes packets lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sampled import SAMPLING, windows
from test_capture_matching import BULK, VOICE, classify, offer, shape, total

from collectors.bpf.delays import refusal
from collectors.capture import Capture
from collectors.sample import CaptureWindow
from shaper.compile.tap import filters, tap_filter

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel


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
