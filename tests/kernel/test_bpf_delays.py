"""Delays, arrivals and losses as counted in the kernel, against the queue's theory, its drop counter, and captures."""

from __future__ import annotations

import pytest
from side_by_side import Outcome, side_by_side
from test_capture_matching import LIMIT, RATE, Shaped, shaped

__all__ = ["shaped"]
pytestmark = pytest.mark.kernel


@pytest.mark.timing
def test_losses_equal_the_drop_counter_and_delay_equals_the_queue(shaped: Shaped) -> None:
    outcome = side_by_side(shaped, 3.0)
    bulk, voice = outcome.bulk, outcome.voice
    assert bulk.counts.arrived == bulk.counts.stamped == bulk.sent
    assert bulk.counted_lost == bulk.dropped > 1000
    assert bulk.counts.matched + bulk.counted_lost == bulk.sent
    assert bulk.counts.quantile(0.5) == pytest.approx(LIMIT * 8 / RATE, rel=0.05)
    assert bulk.counts.arrived_bytes == bulk.counts.inelastic_bytes == bulk.sent * 1242
    assert (voice.counts.matched, voice.counted_lost) == (voice.sent, 0)
    assert voice.counts.quantile(0.99) < 0.005
    assert (outcome.health.undecoded, outcome.health.unknown, bulk.counts.ambiguous) == (0, 0, 0)
    agree(outcome)


def agree(outcome: Outcome) -> None:
    """The captures of the same packets say the same, within the width of a bucket and how far the taps are apart."""
    for one in (outcome.bulk, outcome.voice):
        assert one.captured_lost == one.counted_lost
        assert len(one.captured) == one.counts.matched
        for q in (0.5, 0.95, 0.99):
            seen = one.captured[min(len(one.captured) - 1, int(q * len(one.captured)))]
            assert one.counts.quantile(q) == pytest.approx(seen, rel=0.04, abs=50e-6), q
