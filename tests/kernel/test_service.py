"""`shaper run` as its systemd unit runs it: these capabilities, a read-only root, a manager to tell, late devices."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import SHAPER, Box, until

from collectors.bpf.delays import refusal
from shaper.cli.unit import unit_text

pytestmark = pytest.mark.kernel


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def measured(box: Box) -> dict[str, Any]:
    """How the running shaper measures."""
    found: dict[str, Any] = json.loads(box.shaper("status --json")[1])["interfaces"][0]["capture"]
    return found


def test_the_unit_s_rights_are_enough(box: Box, tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("missing capability: setpriv")
    allowed = re.search("CapabilityBoundingSet=(.*)", unit_text(["shaper"]))
    assert allowed
    capabilities = "".join(f",+{name.removeprefix('CAP_').lower()}" for name in allowed[1].split())
    box.state.mkdir()
    box.state.chmod(0o750)
    # What the unit probes with more rights. For the service, a folder as its root stands for RestrictNamespaces:
    # from there the kernel makes no user namespace either.
    probed, place, script = tmp_path / "capabilities.json", tmp_path / "root", tmp_path / "service.sh"
    probed.write_text(box.shaper("doctor --json")[1])
    place.mkdir()
    script.write_text(
        "set -e\n"
        f"mount --bind {box.state} {box.state}\nmount --rbind / {place}\nmount -o remount,bind,ro {place}\n"
        f"! touch {place}/etc/slat-probe 2>/dev/null\n"
        f"exec chroot {place} setpriv --bounding-set=-all{capabilities} --no-new-privs sh -ec '"
        "! unshare --user --net true 2>/dev/null\n"
        f"exec {SHAPER} run {box.policy} --state {box.state} --no-metrics --capabilities {probed}'\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        process = box.lab.start(f"env NOTIFY_SOCKET={tmp_path / 'notify'} unshare -m sh {script}")
        assert manager.recv(100) == b"READY=1", process.stderr.read()
        (granted,) = re.findall(r"CapBnd:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
        assert int(granted, 16).bit_count() == len(allowed[1].split())
        assert manager.recv(100) == b"WATCHDOG=1"
        until(lambda: measured(box)["running"])
        assert measured(box)["rung"] == ("capture" if refusal() else "ebpf")
        process.send_signal(signal.SIGTERM)
        while (said := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "htb 5a00:" in box.tc()


def test_a_device_that_comes_late_is_waited_for(box: Box) -> None:
    box.lab.run(f"ip link set {box.pair.a} down")
    box.lab.run(f"ip link set {box.pair.a} name later0")
    process = box.lab.start(f"{SHAPER} run {box.policy} --state {box.state} --no-metrics --wait-device 20s")
    assert process.stderr.readline() == f"waiting up to 20s for {box.pair.a}, not there yet\n"
    box.lab.run(f"ip link set later0 name {box.pair.a}")
    box.lab.run(f"ip link set {box.pair.a} up")
    assert "is in force" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_device_that_never_comes_is_named_with_its_line(box: Box) -> None:
    box.lab.run(f"ip link set {box.pair.a} down")
    box.lab.run(f"ip link set {box.pair.a} name later0")
    code, _, err = box.shaper(f"run {box.policy} --no-metrics --wait-device 300ms")
    assert code == 69
    assert f"{box.pair.a} did not come within 300ms" in err
    assert f"{box.policy}:3" in err
