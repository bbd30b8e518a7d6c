"""More than the link holds, on the kernel's own queues: what is short is said at once, and is what came too much."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from shaper.api.wire import SCHEMA
from shaper.lab.counters import RunLines
from shaper.lab.scenario import Traffic, read_scenario
from shaper.lab.stage import laid_out, the_interface
from shaper.lab.traffic import schedule
from shaper.lab.trial import run_trial
from shaper.model.observation import TICK

pytestmark = pytest.mark.virtual

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policies" / "lab" / "office.yaml"
SCENARIO = ROOT / "policies" / "scenarios" / "overload.yaml"
SECONDS, STEP = 12.0, 4.0
M = 1_000_000
LINK, FLOOR = 20 * M, 1 * M
"""What is there, and what nothing takes from bulk."""
LOOK = 0.1
"""Seconds between looks at what it says."""


def came(traffic: Traffic, since: float, until: float) -> float:
    """What the classes with an SLA were sent then, in bit/s of layer 2."""
    times = [(at, size) for flow in traffic.udp for at, size in schedule(flow)]
    return sum(size for at, size in times if since <= at < until) * 8 / (until - since)


def asked(folder: Path) -> Any:
    """What the running shaper answers to `status`, of its one interface. Its path may be too long for a socket's."""
    (path,) = folder.rglob("socket")
    home = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(f"/proc/self/fd/{home}/{path.name}")
            connection.sendall(json.dumps({"schema": SCHEMA, "command": "status"}).encode() + b"\n")
            with connection.makefile() as answer:
                (one,) = json.loads(answer.readline())["result"]
                return one
    finally:
        os.close(home)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_shortfall_is_said_within_three_ticks_and_is_right(tmp_path: Path, seed: int) -> None:
    interface = the_interface(POLICY)
    traffic = laid_out(interface, read_scenario(SCENARIO), name=SCENARIO, seconds=SECONDS, seed=seed)
    said: list[tuple[float, list[Any]]] = []

    def watch(passed: float, _lines: RunLines) -> None:
        said.append((passed, asked(tmp_path)["controller"]["shortfalls"]))

    run_trial("controlled", policy=POLICY, device=interface.device, traffic=traffic, folder=tmp_path, watch=watch)
    first = next(at for at, short in said if at >= STEP and short)
    print(f"said {first - STEP:.2f} s after the step")
    stated = [(at, short) for at, short in said if STEP + 3 * TICK + LOOK <= at < SECONDS]
    assert not any(short for at, short in said if at < STEP)
    assert first - STEP <= 3 * TICK + LOOK
    for at, short in stated:
        (one,) = short
        assert one["path"] == "video"
        lacks = one["need_bit_s"] - one["granted_bit_s"]
        until = at - LOOK  # it was decided at the tick before, of what had come by then
        lacking = came(traffic, STEP, until) + FLOOR - LINK
        assert lacks == pytest.approx(lacking, rel=0.1), f"{at - STEP:.2f} s after the step"
    figures = [(one["need_bit_s"] - one["granted_bit_s"], one["capacity_bit_s"]) for _, (one,) in stated]
    assert mean(lacks for lacks, _ in figures) == pytest.approx(4.5 * M, rel=0.1)
    assert mean(capacity for _, capacity in figures) == pytest.approx(24.5 * M, rel=0.1)
