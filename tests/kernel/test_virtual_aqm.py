"""The AQM's target in the closed loop: eight greedy connections in CoDel, with the target compiled and with it moved.

In virtual time, so that the processor has no part in it. The first seconds are slow start's, which no target answers.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import pytest

from shaper.lab.once import run_once

pytestmark = pytest.mark.virtual

DELAY = 0.009
SETTLED = 5
"""The last seconds of a run, by which it is judged."""
POLICY = """\
version: 1
defaults: {aqm: fifo}
interfaces:
  wan: {device: wan0, bandwidth: {egress: 50mbit}, policy: office}
policies:
  office:
    classes:
      web:
        tier: priority
        aqm: codel
        guarantee: 40mbit
        limit: 40mbit
        match: [{dscp: af21}]
        sla: {delay-p95: 9ms}
      rest: {guarantee: 8mbit, default: true}
"""
SCENARIO = """\
version: 1
seed: 1
seconds: 9s
policy: policy.yaml
wan: {delay: 10ms}
flows:
  requests:
    class: web
    protocol: udp
    dscp: af21
    steps: [{at: 0s, rate: 200kbit, size: 200b, arrivals: poisson}]
  visitors:
    class: web
    protocol: tcp
    dscp: af21
    port: 5301
    steps: [{at: 0s, rate: greedy, connections: 8}]
"""


def found(folder: Path, mode: str) -> tuple[float, dict[str, Any]]:
    """The middle of the settled seconds' 95th percentiles (s), and the run."""
    policy, scenario = folder / "policy.yaml", folder / "scenario.yaml"
    policy.write_text(POLICY)
    scenario.write_text(SCENARIO)
    run = run_once(policy, scenario, mode=mode)
    delays = run["classes"]["web"]["by_second"]["delay_p95_s"]
    print(f"{mode}: {[round(delay * 1e3, 1) for delay in delays]} ms, {run['changes']} changes")
    return median(delays[-SETTLED:]), run


def test_a_crowd_in_codel_keeps_its_percentile_once_the_target_has_moved(tmp_path: Path) -> None:
    compiled, before = found(tmp_path, "structured")
    moved, after = found(tmp_path, "controlled")
    assert moved < DELAY < compiled
    # No rate of the class can move it, and what the link carries is not what the shorter queue is paid with.
    assert 0 < after["changes"] <= 10
    assert set(after["classes"]["web"]["by_second"]["granted_bit_s"]) == {40_000_000}
    throughput = [run["classes"]["web"]["throughput_bit_s"] for run in (before, after)]
    assert throughput[1] > 0.97 * throughput[0]
