"""What processes of a cgroup send goes to the class that asks for the group, and nothing else does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.inet import IP, UDP

from shaper.compile import compile_interface
from shaper.errors import Exit
from shaper.kernel import cgroups
from shaper.kernel.netlink import NetlinkKernel
from shaper.kernel.protocol import StepError
from shaper.plan import diff
from shaper.plan.mark_words import nft_lines
from shaper.policy import parse_policy
from shaper.tree import Tree, tree

if TYPE_CHECKING:
    from conftest import Lab, LinkPair

pytestmark = pytest.mark.kernel

SHAPER = Path(sys.executable).parent / "shaper"
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 100mbit}}, policy: office}}
policies:
  office:
    classes:
      backup: {{match: [{{cgroup: {group}/backup}}]}}
      both: {{match: [{{cgroup: {group}, dscp: af11}}]}}
      rest: {{default: true}}
"""
SEND = """\
import socket, sys
kind, target, count, tos = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in target else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sender:
    if kind == "marked":
        sender.setsockopt(socket.SOL_SOCKET, 36, -1)
    option = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ":" in target else (socket.IPPROTO_IP, socket.IP_TOS)
    sender.setsockopt(*option, tos)
    for _ in range(count):
        sender.sendto(bytes(100), (target, 9))
"""
CONNECT = """\
import socket, sys
with socket.create_connection((sys.argv[1], 7)) as there:
    for _ in range(20):
        there.sendall(bytes(100))
        there.recv(100)
"""
ECHO = """\
import socket
with socket.create_server(("0.0.0.0", 7)) as server:
    print("up", flush=True)
    there, _ = server.accept()
    while data := there.recv(100):
        there.sendall(data)
"""


@pytest.fixture
def group() -> Iterator[str]:
    """A cgroup of this test's own, with two below it; its path."""
    try:
        top = cgroups.root()
        path = f"/slat-{os.getpid()}"
        for each in (path, f"{path}/backup", f"{path}/other"):
            Path(top + each).mkdir()
    except OSError as error:
        pytest.skip(f"missing capability: cgroup2, mounted and writable ({error})")
    yield path
    for each in (f"{path}/backup", f"{path}/other", path):
        with contextlib.suppress(FileNotFoundError):
            Path(top + each).rmdir()


@pytest.fixture
def able(netns: Lab) -> NetlinkKernel:
    kernel = netns.kernel()
    if "nft-cgroup" not in kernel.capabilities().features:
        pytest.skip("missing capability: CONFIG_NFT_SOCKET")
    return kernel


def within(lab: Lab, group: str, code: str, *arguments: object, peer: bool = False) -> subprocess.Popen[str]:
    """A program in the namespace and in the cgroup; `ip netns exec` would hide the hierarchy."""
    entering = f"import os; open({cgroups.root() + group + '/cgroup.procs'!r}, 'w').write(str(os.getpid()))\n"
    argv = [*_entering(lab.peer if peer else lab.name), sys.executable, "-c", entering + code]
    return subprocess.Popen([*argv, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def _entering(netns: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{netns}"]


def done(process: subprocess.Popen[str]) -> None:
    with process:
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0


class Office:
    """The policy on the device."""

    def __init__(self, kernel: NetlinkKernel, pair: LinkPair, group: str) -> None:
        policy = parse_policy(POLICY.format(device=pair.a, group=group), source="office.yaml")
        self.program = compile_interface(policy.interfaces[0], kernel.capabilities(), kernel.link(pair.a), tap=False)
        self._kernel = kernel
        self.device = pair.a
        self._kernel.send(self.device, diff(tree(self.device, []), self.wanted, bounds={}).steps)
        self._before = self._counts()

    @property
    def wanted(self) -> Tree:
        return self.program.tree

    def read(self) -> Tree:
        return self._kernel.read(self.device)

    def moved(self) -> dict[str, int]:
        """Packets of each class since the last look, of those that had any; the kernel's own chatter apart."""
        now = self._counts()
        moved = {path: now[path] - self._before[path] for path in now}
        self._before = now
        return {path: count for path, count in moved.items() if count and path != "network-control"}

    def _counts(self) -> dict[str, int]:
        held = self._kernel.counters(self.device).classes
        return {path: held[number].sent_packets for path, number in self.program.handles.items() if number in held}


def test_what_a_group_sends_goes_to_its_class(netns: Lab, able: NetlinkKernel, group: str) -> None:
    pair = netns.link_pair()
    office = Office(able, pair, group)
    assert office.read().tables == office.wanted.tables
    for target in (pair.b_v4, pair.b_v6):
        done(within(netns, f"{group}/backup", SEND, "plain", target, 30, 0))
        assert office.moved() == {"backup": 30}
        done(within(netns, f"{group}/other", SEND, "plain", target, 20, 0))
        assert office.moved() == {"rest": 20}
        done(within(netns, f"{group}/other", SEND, "plain", target, 10, 10 << 2))
        assert office.moved() == {"both": 10}, "a group holds for those below it"
        done(within(netns, "", SEND, "marked", target, 15, 40))
        assert office.moved() == {"rest": 15}, "who sets all bits of a mark is no member"


def test_a_connection_that_a_group_makes_is_its_own_until_it_is_closed(
    netns: Lab, able: NetlinkKernel, group: str
) -> None:
    """The last acknowledgement is sent by what is left of the socket, where this end closes first."""
    pair = netns.link_pair()
    office = Office(able, pair, group)
    server = within(netns, "", ECHO, peer=True)
    assert server.stdout is not None and server.stdout.readline() == "up\n"
    office.moved()
    done(within(netns, f"{group}/backup", CONNECT, pair.b_v4))
    done(server)
    moved = office.moved()
    print(moved)
    assert moved.get("rest", 0) <= 1
    assert moved["backup"] >= 22


def test_of_a_server_in_a_group_all_but_the_answer_to_the_first_packet_is_its_own(
    netns: Lab, able: NetlinkKernel, group: str
) -> None:
    """Nobody's socket sends that answer yet, and none any more what comes after the end."""
    pair = netns.link_pair()
    office = Office(able, pair, group)
    server = within(netns, f"{group}/backup", ECHO)
    assert server.stdout is not None and server.stdout.readline() == "up\n"
    office.moved()
    done(within(netns, "", CONNECT, pair.a_v4, peer=True))
    done(server)
    moved = office.moved()
    print(moved)
    assert moved["rest"] <= 2
    assert moved["backup"] >= 21


def test_what_is_handed_on_has_none_of_the_bits(netns: Lab, able: NetlinkKernel, group: str) -> None:
    """A packet that comes in with every bit of its mark set, and goes out by the device."""
    pair = netns.link_pair()
    office = Office(able, pair, group)
    netns.run("sysctl -qw net.ipv4.ip_forward=1")
    netns.run("ip link add from type veth peer name in0")
    netns.run("ip addr add 192.0.2.1/24 dev in0")
    for device in ("from", "in0"):
        netns.run(f"ip link set {device} up")
    netns.run("nft add table inet others")
    netns.run("nft add chain inet others early { type filter hook prerouting priority -300 ; }")
    netns.run("nft add rule inet others early iifname in0 meta mark set 0xffffffff")
    mac = netns.run("cat /sys/class/net/in0/address").strip().replace(":", "")
    packet = bytes(IP(src="192.0.2.7", dst=pair.b_v4) / UDP(sport=9, dport=9) / bytes(50))
    frame = bytes.fromhex(mac) + bytes.fromhex("020000000001") + b"\x08\x00" + packet
    netns.inside(lambda: _transmit("from", frame, 12))
    assert office.moved() == {"rest": 12}


def _transmit(device: str, frame: bytes, count: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        for _ in range(count):
            sender.sendto(frame, (device, 0))


def test_a_group_that_comes_back_is_another_and_is_seen(netns: Lab, able: NetlinkKernel, group: str) -> None:
    office = Office(able, netns.link_pair(), group)
    assert diff(office.read(), office.wanted, bounds={}).steps == ()
    place = Path(cgroups.root() + f"{group}/backup")
    place.rmdir()
    assert office.read().tables != office.wanted.tables
    plan = diff(office.read(), office.wanted, bounds={})
    with pytest.raises(StepError, match=f"there is no cgroup {group}/backup"):
        able.send(office.device, plan.steps)
    place.mkdir()
    assert office.read().tables != office.wanted.tables
    able.send(office.device, diff(office.read(), office.wanted, bounds={}).steps)
    assert office.read().tables == office.wanted.tables


def test_nft_reads_the_table_as_meant(netns: Lab, able: NetlinkKernel, group: str) -> None:
    office = Office(able, netns.link_pair(), group)
    (table,) = office.wanted.tables
    shown = netns.run(f"nft list table inet {table.name}")
    assert "type filter hook output priority 290" in shown and "type filter hook forward" in shown
    assert shown.count("socket cgroupv2 level ") == 2
    assert f'socket cgroupv2 level 2 "{group[1:]}/backup"' in "\n".join(nft_lines(table))


def test_apply_and_clear(netns: Lab, able: NetlinkKernel, group: str, tmp_path: Path) -> None:
    pair = netns.link_pair()
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.format(device=pair.a, group=group))

    def shaper(command: str) -> tuple[int, dict[str, Any]]:
        argv = [*_entering(netns.name), str(SHAPER), *command.split(), "--state", str(tmp_path / "state"), "--json"]
        found = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        return found.returncode, json.loads(found.stdout)

    code, applied = shaper(f"apply {file}")
    assert code == 0 and any("cgroups (" in note for note in applied["interfaces"][0]["notes"])
    assert "sla-shaper-" in netns.run("nft list tables")
    done(within(netns, f"{group}/backup", SEND, "plain", pair.b_v4, 30, 0))
    assert shaper("clear")[0] == 0
    assert "sla-shaper-" not in netns.run("nft list tables")
    assert able.read(pair.a) == tree(pair.a, [])


class Command:
    """`shaper` inside the namespace, with this machine's cgroups in sight."""

    def __init__(self, netns: Lab, folder: Path, group: str) -> None:
        self.pair = netns.link_pair()
        self.device = self.pair.a
        self.file = folder / "policy.yaml"
        self.file.write_text(POLICY.format(device=self.device, group=group))
        self._start = [*_entering(netns.name), str(SHAPER)]
        self._state = ["--state", str(folder / "state"), "--json"]

    def __call__(self, *command: str) -> tuple[int, dict[str, Any]]:
        argv = [*self._start, *command, *self._state]
        found = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        return found.returncode, json.loads(found.stdout)

    def run(self, *options: str) -> subprocess.Popen[str]:
        argv = [*self._start, "run", str(self.file), *options, "--no-metrics", *self._state]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "ready"
        return process

    def status(self) -> dict[str, Any]:
        limit = time.monotonic() + 60
        code, said = self("status")
        while code == Exit.TRY_AGAIN and time.monotonic() < limit:  # a busy machine's shaper answers late
            code, said = self("status")
        assert "interfaces" in said, said
        (one,) = said["interfaces"]
        found: dict[str, Any] = one
        return found


def until(seen: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < limit, what
        time.sleep(0.5)


def test_a_group_that_is_not_there_is_refused_by_plan_and_apply_at_its_line(
    netns: Lab, able: NetlinkKernel, group: str, tmp_path: Path
) -> None:
    shaper = Command(netns, tmp_path, group)
    Path(cgroups.root() + f"{group}/backup").rmdir()
    for verb in ("plan", "apply"):
        code, said = shaper(verb, str(shaper.file))
        (problem,) = said["problems"]
        assert code == 69
        assert (problem["message"], problem["line"]) == (f"there is no cgroup {group}/backup", 7)
        assert "mkdir" in problem["hint"]
    assert able.read(shaper.device) == tree(shaper.device, [])


def test_under_a_running_shaper_a_group_goes_and_comes_back(
    netns: Lab, able: NetlinkKernel, group: str, tmp_path: Path
) -> None:
    """While it is gone nobody is in it, which is an alarm; when it is back the running shaper takes it in again."""
    shaper = Command(netns, tmp_path, group)
    run = shaper.run()
    place = Path(cgroups.root() + f"{group}/backup")

    def sent() -> int:
        (one,) = (cls for cls in shaper.status()["classes"] if cls["path"] == "backup")
        return int(one["sent_packets"])

    try:
        assert not shaper.status()["alarms"]
        place.rmdir()
        until(lambda: f"there is no cgroup {group}/backup" in " ".join(shaper.status()["alarms"]), "it says so")
        assert run.poll() is None
        place.mkdir()
        until(lambda: not shaper.status()["alarms"] and not shaper.status()["drift"], "it is taken in again")
        before = sent()
        done(within(netns, f"{group}/backup", SEND, "plain", shaper.pair.b_v4, 30, 0))
        until(lambda: sent() == before + 30, "its packets are its own again")
    finally:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    assert run.returncode == 0
    assert shaper("clear")[0] == 0
