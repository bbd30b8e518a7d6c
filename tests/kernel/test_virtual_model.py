"""The simulator's model against the kernel's HTB: rates within 2 %, p99 of the delay within 10 % or 0.5 ms.

Without the controller: its ticks fall at other moments of the traffic than the real one's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from shaper.cli.simulate import modelled
from shaper.lab.once import run_once
from shaper.lab.stage import the_interface

pytestmark = pytest.mark.virtual

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policies" / "lab" / "office.yaml"
SCENARIO = ROOT / "policies" / "scenarios" / "open-loop.yaml"
SECONDS = 6.0


@pytest.mark.parametrize("mode", ["static", "structured"])
def test_the_model_is_the_kernel(mode: str) -> None:
    real = run_once(POLICY, SCENARIO, mode=mode, seconds=SECONDS, seed=3)
    model = modelled(the_interface(POLICY), SCENARIO, mode=mode, seconds=SECONDS, seed=3)
    for path, theirs in real["classes"].items():
        ours = model["classes"][path]
        assert ours["sent"] == theirs["sent"]
        came = [one["sent"] - one["lost"] for one in (ours, theirs)]
        assert came[0] == pytest.approx(came[1], rel=0.02), path
        for quantile in ("p50", "p99"):
            assert ours["delay_s"][quantile] == pytest.approx(theirs["delay_s"][quantile], rel=0.1, abs=0.0005), path
