"""CAKE's round trip in the closed loop: eight greedy connections in a tin, with it as compiled and with it moved.

In virtual time, so that the processor has no part in it. Each connection has a queue of its own there, and so has a
flow of calls in another tin, which nothing of this may cost anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shaper.lab.once import run_once

pytestmark = pytest.mark.virtual

DELAY = 0.009
POLICY = """\
version: 1
interfaces:
  wan: {device: wan0, bandwidth: {egress: 40mbit}, backend: cake, policy: office}
policies:
  office:
    classes:
      voice: {tier: special, match: [{dscp: [cs4, cs5, va, ef, cs6, cs7]}], sla: {delay-p99: 3ms}}
      web:
        tier: priority
        match: [{dscp: [4, cs2, 18, 20, 22, cs3, 26, 28, 30, 34, 36, 38]}]
        sla: {delay-p95: 9ms}
      bulk: {match: [{dscp: [le, cs1]}]}
      rest: {default: true}
"""
SCENARIO = """\
version: 1
seed: 1
seconds: 9s
policy: policy.yaml
wan: {delay: 10ms}
flows:
  calls:
    class: voice
    protocol: udp
    dscp: ef
    steps: [{at: 0s, rate: 200kbit, size: 200b, arrivals: poisson}]
  visitors:
    class: web
    protocol: tcp
    dscp: af21
    port: 5301
    steps: [{at: 0s, rate: greedy, connections: 8}]
"""


def found(folder: Path, mode: str) -> tuple[float, dict[str, Any]]:
    """The 95th percentile of all segments (s) as the receiver has it, slow start's too, and the run."""
    policy, scenario = folder / "policy.yaml", folder / "scenario.yaml"
    policy.write_text(POLICY)
    scenario.write_text(SCENARIO)
    run = run_once(policy, scenario, mode=mode)
    web, voice = (run["classes"][path] for path in ("web", "voice"))
    delays = {name: round(delay * 1e3, 2) for name, delay in web["delay_s"].items()}
    print(
        f"{mode}: {delays} ms, {web['samples']} segments, {web['throughput_bit_s'] / 1e6:.2f} Mbit/s, "
        f"calls p99 {voice['delay_s']['p99'] * 1e3:.2f} ms, {run['changes']} changes"
    )
    return web["delay_s"]["p95"], run


def test_a_crowd_in_a_tin_of_cake_keeps_its_percentile_once_the_round_trip_has_moved(tmp_path: Path) -> None:
    compiled, before = found(tmp_path, "structured")
    moved, after = found(tmp_path, "controlled")
    assert moved < DELAY < compiled
    assert before["changes"] == 0
    # All four tins change with each move.
    assert 0 < after["changes"] <= 4 * 4
    throughput = [run["classes"]["web"]["throughput_bit_s"] for run in (before, after)]
    assert throughput[1] > 0.97 * throughput[0]
    for run in (before, after):
        voice = run["classes"]["voice"]
        assert voice["delay_s"]["p99"] < 0.003
        assert voice["lost"] == 0
