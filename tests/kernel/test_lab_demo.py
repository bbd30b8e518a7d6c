"""The demo in full, on the real kernel: it shows what it must, and it is the controller that does it.

In virtual time the same is judged in shorter runs, since no chance of the machine's is in them.
"""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shaper.errors import ShaperError
from shaper.lab import namespaces
from shaper.lab.criteria import failed
from shaper.lab.demo import POLICY, require_tools, run_demo
from shaper.lab.namespaces import Topology

pytestmark = pytest.mark.kernel

VIRTUAL = os.environ.get("LAB_KERNEL") == "virtual"
SECONDS = 18 if VIRTUAL else 60


@pytest.fixture(scope="module")
def lab() -> None:
    """Skips where the demo cannot run, naming what is missing."""
    try:
        require_tools()
        with Topology():
            pass
    except ShaperError as error:
        pytest.skip(f"missing capability: {error.message}")


@pytest.fixture(scope="module")
def result(lab: None) -> dict[str, Any]:
    return run_demo(seconds=SECONDS)


@pytest.mark.slow
@pytest.mark.timing
def test_the_demo_shows_what_it_must(result: dict[str, Any]) -> None:
    assert failed(result) == [], result


@pytest.mark.slow
@pytest.mark.timing
def test_with_the_decisions_thrown_away_it_does_not(result: dict[str, Any]) -> None:
    discarded = run_demo(seconds=SECONDS, discard_decisions=True, modes=("controlled",))
    other = copy.deepcopy(result)
    for path, modes in other["classes"].items():
        modes["controlled"] = discarded["classes"][path]["controlled"]
    failures = failed(other)
    assert any(failure.startswith("controlled:") for failure in failures), failures


@pytest.mark.slow
@pytest.mark.timing
def test_what_comes_in_is_controlled_as_what_goes_out(lab: None) -> None:
    assert failed(run_demo(seconds=SECONDS, policy=POLICY.with_name("demo-ingress.yaml"))) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_run_leaves_nothing(lab: None, tmp_path: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "shaper.lab.demo", "--seconds", "20"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert demo.stderr is not None
    with demo.stderr as said:
        assert b"run 1 of 3" in said.readline()
        wait_until_sending(tmp_path)
        demo.send_signal(number)
        assert demo.wait(timeout=20) == 128 + number
    assert [name for name in namespaces.existing() if f"-{demo.pid}-" in name] == []
    assert list(tmp_path.iterdir()) == []
    assert commands_with(str(tmp_path)) == []


def wait_until_sending(folder: Path) -> None:
    """Until the first iperf3 client of the run has been started."""
    end = time.monotonic() + 20
    while not list(folder.glob("*/client-*")):
        assert time.monotonic() < end
        time.sleep(0.02)


def commands_with(text: str) -> list[str]:
    """The command lines of running processes that have the text in them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text in line:
            found.append(line)
    return found
