"""What the eBPF rung counts against the kernel's own tracepoints, packet by packet; more: scripts/bench measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from traced import PERCENTILES, compare, traceable

from collectors.bpf.delays import refusal

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.timing, pytest.mark.machine]


def test_percentiles_are_those_of_the_tracepoints(netns: Lab) -> None:
    for capability, why in (("eBPF", refusal()), ("tracepoints", traceable())):
        if why:
            pytest.skip(f"missing capability: {capability} ({why})")
    for seed in (1, 2, 3):
        found = compare(netns, seconds=1.5, seed=seed)
        assert [problem for one in found for problem in one.miscounted()] == []
        voice, bursts, full = found
        assert [one.sent > 400 for one in found] == [True] * 3
        assert (voice.dropped, bursts.dropped, full.dropped > 1000) == (0, 0, True)
        assert voice.traced.quantile(0.5) < 0.001 < bursts.traced.quantile(0.5) < full.traced.quantile(0.5)
        assert [full.traced.quantile(q) > 0.1 for q in PERCENTILES] == [True] * 3
        apart = [problem for one in found for problem in one.apart()]
        if not apart:  # what interrupts a processor is in one account now and then; a fault of ours is in each round
            return
    pytest.fail(f"in each of three rounds; in the last: {'; '.join(apart)}")
