"""The throwaway network on the real kernel: it works, it loses nothing, and nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shaper.errors import ShaperError
from shaper.lab import namespaces
from shaper.lab.account import read_log, settle
from shaper.lab.namespaces import SERVER_V4, SERVER_V6, Topology
from shaper.lab.processes import Processes, is_alive
from shaper.lab.traffic import Step, UdpFlow, plan_of

pytestmark = pytest.mark.kernel

_HELD = """
import subprocess, sys, time
from shaper.lab.namespaces import Topology
from shaper.lab.processes import Processes
from shaper.lab.signals import Interrupted, interruptible
with interruptible():
    try:
        processes = Processes()
        try:
            with Topology() as net:
                child = processes.start(["sleep", "60"], namespace=net.server)
                print(child.pid, net.client, flush=True)
                time.sleep(60)
        finally:
            processes.close()
    except Interrupted as signal:
        sys.exit(signal.exit)
"""


@pytest.fixture
def net() -> Iterator[Topology]:
    try:
        topology = Topology().__enter__()
    except ShaperError as error:
        pytest.skip(f"missing capability: CAP_SYS_ADMIN, to make network namespaces ({error.message})")
    try:
        yield topology
    finally:
        topology.close()


def ours(name: str) -> list[str]:
    return [one for one in namespaces.existing() if one.startswith(name.rpartition("-")[0])]


def test_a_connection_keeps_the_hash_that_sorts_it_into_a_queue(net: Topology) -> None:
    """As on a wire, where it is made of the headers: else a timeout moves it, now and then to another flow's bucket."""
    here = Path("/proc/sys/net/core/txrehash")
    if not here.exists():
        pytest.skip("missing capability: net.core.txrehash (Linux 5.18)")
    before = here.read_text()
    for host in (net.client, net.server):
        read = subprocess.run(["ip", "netns", "exec", host, "cat", str(here)], capture_output=True, check=True)
        assert read.stdout == b"0\n"
    assert here.read_text() == before


def test_nothing_is_left_after_the_block_and_after_an_exception(net: Topology) -> None:
    with Topology() as inner:
        assert len(ours(inner.client)) == 3
        assert inner.left_on_router() == ()
    assert ours(inner.client) == []
    with pytest.raises(KeyError), Topology() as inner:
        raise KeyError
    assert ours(inner.client) == []
    assert len(ours(net.client)) == 3


def test_what_is_left_on_the_router_is_named(net: Topology) -> None:
    tc = ["tc", "-netns", net.router, "qdisc", "add", "dev", "wan0", "root", "handle", "7:", "pfifo"]
    subprocess.run(tc, check=True)
    (left,) = net.left_on_router()
    assert "pfifo 7:" in left


def test_packets_are_never_larger_than_one_segment(net: Topology) -> None:
    shown = subprocess.run(
        ["ip", "-netns", net.router, "-d", "link"], check=True, capture_output=True, text=True
    ).stdout
    assert shown.count("gso_max_segs 1 ") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_nothing(net: Topology, number: signal.Signals) -> None:
    del net  # only so that the test is skipped where there are no namespaces
    child = subprocess.Popen([sys.executable, "-c", _HELD], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout as pipe:
        grandchild, client = pipe.readline().split()
    assert len(ours(client)) == 3
    child.send_signal(number)
    assert child.wait(timeout=10) == 128 + number
    assert ours(client) == []
    assert not is_alive(int(grandchild))


def test_after_sigkill_the_children_are_gone_and_the_next_run_sweeps(net: Topology) -> None:
    child = subprocess.Popen([sys.executable, "-c", _HELD], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout as pipe:
        grandchild, client = pipe.readline().split()
    child.kill()
    child.wait(timeout=10)
    end = time.monotonic() + 5
    while is_alive(int(grandchild)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_alive(int(grandchild))
    assert client in namespaces.sweep()
    assert ours(client) == []
    assert len(ours(net.client)) == 3


@pytest.mark.timing
def test_the_generator_keeps_its_rate_and_an_unshaped_path_loses_nothing(net: Topology, tmp_path: Path) -> None:
    seconds = 3
    flows = (
        UdpFlow(1, SERVER_V4, 5000, 46, (Step(0, 80_000, 200),), seconds, jitter=0.1, seed=1),
        UdpFlow(2, SERVER_V6, 5000, 34, (Step(0, 2_500_000, 1200), Step(1, 10_000_000, 1200)), seconds, seed=2),
        UdpFlow(3, SERVER_V4, 5000, 18, (Step(0, 1_500_000, 1000),), seconds, jitter=0.2, seed=3),
    )
    sent, received = tmp_path / "sent", tmp_path / "received"
    processes = Processes()
    try:
        receiver = processes.start(
            [sys.executable, "-m", "shaper.lab.receiver", "5000", str(received)],
            namespace=net.server,
            stdout=subprocess.PIPE,
        )
        assert receiver.stdout is not None
        with receiver.stdout as pipe:
            assert pipe.readline() == b"ready\n"
        start = time.time() + 1
        (tmp_path / "plan").write_text(plan_of(flows, start=start))
        before = os.times()
        sender = processes.start(
            [sys.executable, "-m", "shaper.lab.traffic", str(tmp_path / "plan"), str(sent)], namespace=net.client
        )
        assert sender.wait(timeout=20) == 0
        time.sleep(0.1)
        processes.stop(receiver, sender)
        after = os.times()
    finally:
        processes.close()
    account = settle(
        read_log(sent),
        read_log(received),
        start=round(start * 1e9),
        seconds=seconds,
        classes={1: "voice", 2: "video", 3: "business"},
    )
    packets = {path: [second.sent for second in account.classes[path]] for path in account.classes}
    for path, wanted in {"voice": (50, 50, 50), "video": (260.4, 1041.7, 1041.7), "business": (187.5,) * 3}.items():
        for number, expected in zip(packets[path], wanted, strict=True):
            assert abs(number - expected) <= max(0.01 * expected, 1.5)
    assert account.overflow == 0
    assert all(second.lost == 0 for path in account.classes for second in account.classes[path])
    median = account.delay("video", 0.5)
    assert median is not None
    assert 0 <= median < 0.005  # no time at all in virtual time
    busy = after.children_user - before.children_user + after.children_system - before.children_system
    assert busy < 0.5 * seconds
