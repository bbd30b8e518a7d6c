"""Super-packets on a real kernel: what `offloads: auto` changes, how large packets then are, and how it goes back."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

SHAPER = f"{Path(sys.executable).parent / 'shaper'}"
POLICY = """\
version: 1
interfaces:
  wan: {device: a1, bandwidth: {egress: 50mbit, ingress: 100mbit}, policy: office, offloads: auto}
policies:
  office:
    classes:
      voice: {tier: special, guarantee: 1mbit, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 20ms}}
      rest: {guarantee: 12mbit, default: true}
"""
SERVER = textwrap.dedent("""\
    import socket
    server = socket.create_server(("10.99.1.2", 5001))
    print("ready", flush=True)
    sock, _ = server.accept()
    while sock.recv(1 << 16):
        pass
""")
CLIENT = textwrap.dedent("""\
    import socket, struct
    from pathlib import Path
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
    tap.bind(("a1", 3))
    sock = socket.create_connection(("10.99.1.2", 5001), timeout=10)
    sock.sendall(bytes(500_000))
    sock.shutdown(socket.SHUT_WR)
    tap.settimeout(0.3)
    largest = 0
    try:
        while True:
            largest = max(largest, tap.recv_into(bytearray(70_000)))
    except TimeoutError:
        pass
    print(largest)
""")


class Router:
    """A device to shape, and a second one that forwards to it; both with their offloads on, as they usually are."""

    def __init__(self, lab: Any, folder: Path) -> None:
        self.lab = lab
        self.wan, self.lan = lab.link_pair(), lab.link_pair()
        for device in (self.wan.a, self.lan.a):
            lab.run(f"ethtool -K {device} tso on gso on gro on")
            lab.run(f"ip link set dev {device} gso_max_segs 65535")
        lab.run(f"sysctl -q -w net.ipv4.conf.{self.lan.a}.forwarding=1")
        self.policy, self.state = folder / "policy.yaml", folder / "state"
        self.policy.write_text(POLICY)

    def shaper(self, command: str) -> Any:
        argv = f"ip netns exec {self.lab.name} {SHAPER} {command} --state {self.state} --json".split()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (0, 2, 4), done.stdout + done.stderr
        return json.loads(done.stdout)

    def settings(self) -> dict[str, str]:
        """What ethtool and ip say, a second opinion."""
        found = {}
        for device in (self.wan.a, self.lan.a):
            features = self.lab.run(f"ethtool -k {device}").splitlines()
            found[f"{device} gro"] = next(line for line in features if "generic-receive-offload" in line).split()[1]
            link = json.loads(self.lab.run(f"ip -d -j link show dev {device}"))[0]
            found[f"{device} gso_max_segs"] = str(link["gso_max_segs"])
        return found

    def largest_sent(self) -> int:
        """The largest packet of this machine's TCP that leaves the queue."""
        server = self.lab.start(shlex.join((sys.executable, "-c", SERVER)), peer=True)
        assert server.stdout.readline() == "ready\n"
        largest = int(self.lab.run(shlex.join((sys.executable, "-c", CLIENT)), timeout=30))
        server.wait(timeout=10)
        return largest


@pytest.fixture
def router(netns: Any, tmp_path: Path) -> Router:
    return Router(netns, tmp_path)


def test_auto_sends_frames_and_clear_gives_back(router: Router) -> None:
    before = router.settings()
    assert before == {"a1 gro": "on", "a1 gso_max_segs": "65535", "a2 gro": "on", "a2 gso_max_segs": "65535"}
    assert router.largest_sent() > 1514
    planned = router.shaper(f"plan {router.policy}")
    steps = [step for one in planned["interfaces"] for step in one["steps"] if step["node"] == "offload"]
    assert router.settings() == before
    router.shaper(f"apply {router.policy}")
    assert router.settings() == {"a1 gro": "off", "a1 gso_max_segs": "1", "a2 gro": "off", "a2 gso_max_segs": "65535"}
    assert router.largest_sent() <= 1514
    assert len(steps) == 3
    router.shaper("clear")
    assert router.settings() == before
    assert router.largest_sent() > 1514


def test_drift_is_seen_and_put_back(router: Router) -> None:
    router.shaper(f"apply {router.policy}")
    router.lab.run("ethtool -K a2 gro on")
    (drift,) = (one["drift"] for one in router.shaper("status")["interfaces"] if one["direction"] == "egress")
    assert drift == ["device a2: gro is on, ours is off"]
    router.shaper(f"apply {router.policy}")
    assert router.settings()["a2 gro"] == "off"
    router.shaper("clear")
    assert router.settings()["a2 gro"] == "on"


def test_who_feeds_a_device(netns: Any) -> None:
    first, second, third = netns.link_pair(), netns.link_pair(), netns.link_pair()
    kernel = netns.kernel()

    def feeding(device: str = first.a) -> set[str]:
        return {feeder.device for feeder in kernel.link(device).feeders if feeder.feeds}

    assert feeding() == set()
    netns.run(f"sysctl -q -w net.ipv4.conf.{second.a}.forwarding=1")
    netns.run(f"sysctl -q -w net.ipv6.conf.{third.a}.forwarding=1")
    assert feeding() == {second.a, third.a}
    netns.run(f"ip link set dev {third.a} down")
    assert feeding() == {second.a}
    feeder = next(each for each in kernel.link(first.a).feeders if each.device == second.a)
    assert (feeder.joins, feeder.fixed, feeder.far) == (("gro",), (), True)


@pytest.mark.full
def test_a_bridge_feeds_what_stands_on_it(netns: Any) -> None:
    first, second, third = netns.link_pair(), netns.link_pair(), netns.link_pair()
    kernel = netns.kernel()
    netns.run("ip link add br0 type bridge")
    netns.run(f"ip link add link {third.a} name vlan7 type vlan id 7")
    for device in (first.a, second.a):
        netns.run(f"ip link set dev {device} master br0")
    assert {feeder.device for feeder in kernel.link(first.a).feeders if feeder.feeds} == {second.a}
    for device in ("br0", "vlan7"):
        netns.run(f"ip link set dev {device} up")
        netns.run(f"sysctl -q -w net.ipv4.conf.{device}.forwarding=1")
    assert {feeder.device for feeder in kernel.link(third.a).feeders if feeder.feeds} == {
        *("br0", first.a, second.a, "vlan7", third.a)
    }
