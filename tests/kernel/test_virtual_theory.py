"""Delay and loss of several classes at once against queues that can be reckoned, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from theory import QUEUES, observe

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.virtual

PACKETS = 8_000


@pytest.mark.parametrize("burst", [1, 1000], ids=["no burst", "a burst of one frame"])
def test_waits_and_losses_of_five_classes_at_once(netns: Lab, burst: int) -> None:
    queues = [replace(queue, burst=burst) for queue in QUEUES]
    found = observe(netns, queues, packets=PACKETS, seed=41)
    for queue, seen in zip(queues, found, strict=True):
        print(f"{queue.name}: {seen.sent} sent, {seen.lost} lost, mean {seen.mean * 1e3:.3f} ms")
        assert seen.lost == seen.dropped
        assert seen.delays.count + seen.lost == seen.sent
        if queue.limit:
            assert seen.dropped > seen.sent / 2
            assert seen.delays.quantile(0.5) == pytest.approx(queue.wait, rel=0.02)
        else:
            # So few packets tell little of a mean: they are held against the same arrivals by arithmetic.
            assert seen.mean == pytest.approx(seen.expected / seen.sent, rel=0.01)
