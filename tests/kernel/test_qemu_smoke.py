"""A second opinion, on a distribution's kernel with two processors, BTF and compiled BPF: the product runs there, too.

The machine is emulated, so its latencies mean nothing and none is judged.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from shaper.lab.demo import POLICY, SCENARIO, SHORTEST, run_demo
from shaper.lab.result import MODES

pytestmark = pytest.mark.qemu

SLOWER = 10
"""An emulated processor is at least that much slower, and so is the demo's traffic here."""
_BITS = {"kbit": 1_000, "mbit": 1_000_000}


def slowed(text: str) -> str:
    """The same policy or scenario at a fraction of all its rates."""
    return re.sub(
        r"\b([\d.]+)([km]bit)\b", lambda rate: f"{float(rate[1]) * _BITS[rate[2]] / SLOWER / 1_000:g}kbit", text
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    policy, scenario = folder / "policy.yaml", folder / "scenario.yaml"
    policy.write_text(slowed(POLICY.read_text()))
    scenario.write_text(slowed(SCENARIO.read_text()))
    return run_demo(seconds=SHORTEST, policy=policy, scenario=scenario)


def test_the_kernel_has_two_processors_btf_and_a_compiler_for_bpf() -> None:
    assert os.cpu_count() == len(os.sched_getaffinity(0)) == 2
    with Path("/sys/kernel/btf/vmlinux").open("rb") as btf:
        assert struct.unpack("=H", btf.read(2)) == (0xEB9F,)
    assert Path("/proc/sys/net/core/bpf_jit_enable").read_text() == "1\n"


def test_every_class_is_measured_in_every_mode(result: dict[str, Any]) -> None:
    for path, modes in result["classes"].items():
        assert set(modes) == set(MODES)
        for mode, one in modes.items():
            assert one["samples"] > 0, (path, mode, one)
            assert one["throughput_bit_s"] > 0, (path, mode, one)
            assert one["delay_p99_s"] is not None, (path, mode, one)


def test_drops_are_counted_by_the_kernel_and_by_the_packets(result: dict[str, Any]) -> None:
    assert result["drops"]["kernel"] > 0, result
    assert result["drops"]["measured"] > 0, result
    for mode in MODES:
        assert result["classes"]["video"][mode]["receiver"]["loss_ratio"] is not None
    assert result["classes"]["video"]["static"]["receiver"]["loss_ratio"] > 0, result
