"""The WAN behind the shaped link: what a scenario says of it is what the receiver finds, to the microsecond."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from collectors.netlink import inside
from shaper.errors import ShaperError, UnavailableError
from shaper.lab import namespaces
from shaper.lab.account import Account, read_log, settle
from shaper.lab.criteria import failed
from shaper.lab.demo import SCENARIO, run_demo
from shaper.lab.namespaces import SERVER_V4, SERVER_V6, Topology, Wan
from shaper.lab.processes import Processes
from shaper.lab.receiver import OVERFLOW
from shaper.lab.traffic import Step, UdpFlow, plan_of

SECONDS = 10
FLOWS = (
    UdpFlow(1, SERVER_V4, 5000, 46, (Step(0, 800_000, 200),), SECONDS, jitter=0.1, seed=1),
    UdpFlow(2, SERVER_V6, 5000, 34, (Step(0, 2_000_000, 500),), SECONDS, jitter=0.5, seed=2),
)
SENT = SECONDS * 1000


def measure(path: Wan, folder: Path) -> tuple[list[int], list[int], int]:
    """The sender's and the receiver's log of the flows over an idle link, and the second 0 in ns."""
    sent, received = folder / "sent", folder / "received"
    processes = Processes()
    with Topology(path=path) as net:
        try:
            argv = [sys.executable, "-m", "shaper.lab.receiver", "5000", str(received)]
            receiver = processes.start(argv, namespace=net.server, stdout=subprocess.PIPE)
            assert receiver.stdout is not None
            with receiver.stdout as pipe:
                assert pipe.readline() == b"ready\n"
            start = time.time() + 1
            (folder / "plan").write_text(plan_of(FLOWS, start=start))
            argv = [sys.executable, "-m", "shaper.lab.traffic", str(folder / "plan"), str(sent)]
            assert processes.start(argv, namespace=net.client).wait(timeout=60) == 0
            time.sleep(0.5)
            processes.stop(receiver)
        finally:
            processes.close()
    return list(read_log(sent)), list(read_log(received)), round(start * 1e9)


def account(path: Wan, folder: Path, *, known: float) -> Account:
    """What the receiver says, with `known` seconds of the path taken off."""
    sent, received, start = measure(path, folder)
    found = settle(sent, received, start=start, seconds=SECONDS, classes={1: "four", 2: "six"}, path=known)
    assert found.overflow == 0
    assert sum(second.sent for seconds in found.classes.values() for second in seconds) == pytest.approx(SENT, abs=2)
    return found


def delays(found: Account) -> list[float]:
    return [delay for seconds in found.classes.values() for second in seconds for delay in second.delays]


@pytest.mark.virtual
def test_an_idle_path_takes_what_it_says_and_loses_nothing(tmp_path: Path) -> None:
    found = delays(account(Wan(delay=0.02), tmp_path, known=0.0))
    assert len(found) == pytest.approx(SENT, abs=2)
    assert all(abs(delay - 0.02) <= 10e-6 for delay in found), (min(found), max(found))


@pytest.mark.virtual
def test_what_the_path_takes_by_itself_is_no_delay_of_the_hop_and_its_jitter_is(tmp_path: Path) -> None:
    found = delays(account(Wan(delay=0.02, jitter=0.004), tmp_path, known=0.02))
    assert 0 <= min(found) <= 0.0001
    assert 0.0039 <= max(found) <= 0.00401
    # Evenly spread: the mean of n draws is within 4 standard errors, and a little more where one waits for another.
    assert abs(sum(found) / len(found) - 0.002) < 4 * 0.004 / math.sqrt(12 * len(found)) + 0.0004


@pytest.mark.virtual
def test_no_packet_of_a_flow_overtakes_another(tmp_path: Path) -> None:
    _, received, _ = measure(Wan(delay=0.005, jitter=0.01), tmp_path)
    records = [received[at : at + 2] for at in range(0, len(received), 3) if received[at] != OVERFLOW]
    for flow in (1, 2):
        keys = [key for key, _ in records if key >> 32 == flow]
        assert len(keys) > 1000
        assert all(first < second for first, second in pairwise(keys))


@pytest.mark.virtual
def test_the_path_loses_its_share(tmp_path: Path) -> None:
    share = 0.02
    found = account(Wan(delay=0.001, loss=share), tmp_path, known=0.001)
    lost = sum(second.lost for seconds in found.classes.values() for second in seconds)
    assert abs(lost - SENT * share) < 4 * math.sqrt(SENT * share * (1 - share)), lost


@pytest.mark.virtual
def test_the_way_back_takes_as_long() -> None:
    with Topology(path=Wan(delay=0.02)) as net:
        echo = inside(net.server, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        ask = inside(net.client, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with echo, ask:
            echo.bind((SERVER_V4, 7))
            ask.settimeout(5)
            for _ in range(5):
                began = time.monotonic()
                ask.sendto(b"ping", (SERVER_V4, 7))
                echo.sendto(*echo.recvfrom(10))
                ask.recv(10)
                trip = time.monotonic() - began
            assert abs(trip - 0.04) < 0.00002  # the last of them: the neighbours know each other


@pytest.mark.virtual
def test_the_demo_over_a_wan_shows_what_it_must() -> None:
    result = run_demo(seconds=18, scenario=SCENARIO.with_name("demo-wan.yaml"))
    assert failed(result) == [], result
    assert all(modes["controlled"]["violation_seconds"] == 0 for modes in result["classes"].values())


@pytest.mark.kernel
def test_a_kernel_without_netem_says_so_and_nothing_is_left() -> None:
    try:
        net = Topology()
        with net:
            command = f"tc -netns {net.client} qdisc add dev lo root netem delay 1ms".split()
            able = subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except ShaperError as error:
        pytest.skip(f"missing capability: CAP_SYS_ADMIN, to make network namespaces ({error.message})")
    before = namespaces.existing()
    if able:
        with Topology(path=Wan(delay=0.02)) as net:
            assert net.internet in namespaces.existing()
    else:
        with pytest.raises(UnavailableError, match="cannot play a WAN") as caught, Topology(path=Wan(delay=0.02)):
            pass
        assert "scripts/demo --virtual-time" in caught.value.hint
    assert namespaces.existing() == before
