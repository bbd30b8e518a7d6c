"""What comes in, on a real kernel: rate, class, delay and loss against the account of the receiver behind the queue."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.bpf.delays import refusal
from shaper.errors import Exit
from shaper.run.state import both_directions

pytestmark = pytest.mark.kernel

SHAPER = f"{Path(sys.executable).parent / 'shaper'}"
RATE = 8_000_000
BULK_PORT, VOICE_PORT, WEB_PORT = 5020, 5060, 5080
HEADERS = 14 + 20 + 8
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{{bandwidth}}}, policy: office}}
policies:
  office:
    classes:
      voice:
        tier: special
        guarantee: 10%
        limit: 25%
        match: [{{proto: udp, dport: 5060}}]
        sla: {{delay-p99: 20ms}}
      web: {{guarantee: 30%, match: [{{proto: tcp, dport: 5080}}]}}
      bulk: {{guarantee: 40%, default: true}}
"""

SENDER = """\
import socket, struct, sys, time
address, port, rate, size, seconds = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", port))
begin, number = time.time() + 0.2, 0
while (at := begin + number * size * 8 / rate) < begin + seconds:
    time.sleep(max(0, at - time.time()))
    sock.sendto(struct.pack("!Iq", number, time.time_ns()).ljust(size - 42, b"x"), (address, 40000 + port))
    number += 1
print(number)
"""
RECEIVER = """\
import socket, struct, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)  # SO_RCVBUFFORCE
sock.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS: the kernel's own stamp
sock.bind(("", 40000 + int(sys.argv[1])))
sock.settimeout(30)  # until whoever sends has started
print("ready", flush=True)
with open(sys.argv[2], "wb") as log:
    try:
        while True:
            data, control, _, _ = sock.recvmsg(2048, 64)
            sock.settimeout(float(sys.argv[3]))
            seconds, nanoseconds = struct.unpack("qq", control[0][2])
            log.write(struct.pack("=Iqqq", *struct.unpack_from("!Iq", data), seconds * 10**9 + nanoseconds, len(data)))
    except TimeoutError:
        pass
"""
SERVER = """\
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("ready", flush=True)
sock, _ = server.accept()
try:
    while True:
        sock.sendall(bytes(65536))
except OSError:
    pass
"""
CLIENT = """\
import socket, struct, sys, time
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
end = time.time() + float(sys.argv[4])
with open(sys.argv[3], "wb") as log:
    while time.time() < end:
        log.write(struct.pack("=qq", time.time_ns(), len(sock.recv(65536))))
"""
TAP = """\
import socket, struct, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)
sock.bind((sys.argv[1], 3))
sock.settimeout(30)
print("ready", flush=True)
count = 0
try:
    while True:
        frame, address = sock.recvfrom(2048)
        udp = address[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\\x08\\x00" and frame[23] == 17
        count += udp and frame[34:36] == struct.pack("!H", int(sys.argv[2]))
        if count:
            sock.settimeout(1.0)
except TimeoutError:
    print(count)
"""


class Site:
    """A device of the shaper's, and a server at the far end of its cable that sends to it."""

    def __init__(self, lab: Any, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.pair = lab.link_pair()
        self.policy = folder / "policy.yaml"
        self.state = folder / "state"
        self.bandwidth(f"ingress: {RATE}bit")
        for name, text in (("sender", SENDER), ("receiver", RECEIVER), ("server", SERVER), ("client", CLIENT)):
            (folder / f"{name}.py").write_text(text)

    def bandwidth(self, text: str) -> None:
        self.policy.write_text(POLICY.format(device=self.pair.a, bandwidth=text))

    def shaper(self, command: str) -> tuple[int, str]:
        argv = f"ip netns exec {self.lab.name} {SHAPER} {command} --state {self.state}".split()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
        return done.returncode, done.stdout + done.stderr

    def start(self, name: str, *arguments: object, peer: bool = False, ready: bool = False) -> subprocess.Popen[str]:
        script = self.folder / f"{name}.py"
        process: subprocess.Popen[str] = self.lab.start(
            f"{sys.executable} {script} {' '.join(map(str, arguments))}", peer=peer
        )
        if ready:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return process

    def bare(self) -> bool:
        """Whether nothing of ours is there."""
        links = self.lab.run("ip -br link")
        queues = self.lab.run(f"tc qdisc show dev {self.pair.a}")
        return "shi-" not in links and "shp-" not in links and "htb" not in queues and "clsact" not in queues


@pytest.fixture
def site(netns: Any, tmp_path: Path) -> Iterator[Site]:
    yield Site(netns, tmp_path)


def udp_log(path: Path) -> list[tuple[int, int, int, int]]:
    """Number, sent at (ns), received at (ns), bytes of payload."""
    return list(struct.iter_unpack("=Iqqq", path.read_bytes()))


def running(site: Site, *options: str) -> subprocess.Popen[str]:
    process: subprocess.Popen[str] = site.lab.start(
        f"{SHAPER} run {site.policy} --state {site.state} --json --no-metrics {' '.join(options)}"
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    assert json.loads(line)["event"] == "ready"
    return process


def ended(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.timing
def test_rate_class_delay_and_loss_are_what_the_receiver_sees(site: Site) -> None:
    seconds, lead = 6.0, 2.0
    log = {name: site.folder / f"{name}.log" for name in ("voice", "bulk", "web")}
    run = running(site, "--mode", "structured")
    receivers = [
        site.start("receiver", port, log[name], 2.0, ready=True)
        for name, port in (("voice", VOICE_PORT), ("bulk", BULK_PORT))
    ]
    site.start("server", WEB_PORT, peer=True, ready=True)
    client = site.start("client", site.pair.b_v4, WEB_PORT, log["web"], seconds)
    begin = time.time()
    senders = {
        "voice": site.start("sender", site.pair.a_v4, VOICE_PORT, 200_000, 200, seconds, peer=True),
        "bulk": site.start("sender", site.pair.a_v4, BULK_PORT, 10_000_000, 1242, seconds, peer=True),
    }
    sent = {name: int(process.communicate(timeout=60)[0]) for name, process in senders.items()}
    client.communicate(timeout=60)
    for process in receivers:
        process.communicate(timeout=60)
    (summary,) = [line for line in ended(run) if line["event"] == "summary"]
    assert (summary["device"], summary["direction"]) == (site.pair.a, "ingress")
    received = {name: udp_log(log[name]) for name in ("voice", "bulk")}

    # The rate of the whole, of layer-2 bytes, from what came out behind the queue.
    first, last = (begin + lead) * 1e9, (begin + seconds - 0.5) * 1e9
    frames = sum(size + HEADERS for rows in received.values() for _, _, at, size in rows if first <= at < last)
    chunks = list(struct.iter_unpack("=qq", log["web"].read_bytes()))
    frames += sum(size for at, size in chunks if first <= at < last) * 1514 / 1448
    assert frames * 8e9 / (last - first) == pytest.approx(RATE, rel=0.02)

    # The class: every packet that came out was counted in its own, by bytes too; the ports are the server's.
    for name, rows in received.items():
        counted = summary["classes"][name]
        assert counted["sent_packets"] == len(rows)
        assert counted["sent_bytes"] == sum(size + HEADERS for *_, size in rows)
        # The loss: by the sender's and receiver's accounts, the kernel's counter and the captured packets.
        assert sent[name] - len(rows) == counted["kernel_drops"] == counted["measured_drops"]
        assert counted["measured_arrivals"] == sent[name]
    assert summary["classes"]["bulk"]["kernel_drops"] > 500
    assert summary["classes"]["voice"]["kernel_drops"] == 0
    assert summary["classes"]["web"]["sent_bytes"] > 1_000_000

    # The delay: between the taps before and after the queue, and from program to program.
    for name, tolerance in (("bulk", 0.002), ("voice", 0.005)):
        waits = sorted((at - stamp) / 1e9 for _, stamp, at, _ in received[name])
        for percentile, key in ((0.5, "delay_p50_s"), (0.95, "delay_p95_s")):
            seen = waits[int(len(waits) * percentile)]
            assert summary["classes"][name][key] == pytest.approx(seen, rel=0.05, abs=tolerance), (name, key)
    numbers = [number for number, *_ in received["bulk"]]
    assert numbers == sorted(set(numbers)), "in order, and each once"


def test_packets_pass_the_taps_of_the_device_once(site: Site) -> None:
    """What is put back after the ifb is not seen again, so that captures by others stay what they were."""
    assert site.shaper(f"apply {site.policy}")[0] == 0
    (site.folder / "tap.py").write_text(TAP)
    tap = site.start("tap", site.pair.a, BULK_PORT, ready=True)
    receiver = site.start("receiver", BULK_PORT, site.folder / "log", 1.5, ready=True)
    site.start("sender", site.pair.a_v4, BULK_PORT, 400_000, 200, 0.4, peer=True).communicate(timeout=60)
    receiver.communicate(timeout=60)
    count = len(udp_log(site.folder / "log"))
    assert count > 50
    assert int(tap.communicate(timeout=60)[0]) == count


def test_the_ifb_sends_nothing_by_itself(site: Site) -> None:
    """A router solicitation of its own would be counted with what comes in, or past it while the tree is built."""
    assert site.shaper(f"apply {site.policy}")[0] == 0
    assert "inet6" not in site.lab.run(f"ip addr show dev shi-{site.pair.a}")
    assert " addrgenmode none " in site.lab.run(f"ip -d link show dev shi-{site.pair.a}")


def test_both_directions_go_up_and_down_together(site: Site) -> None:
    found = site.lab.run("ip -br link") + site.lab.run(f"tc qdisc show dev {site.pair.a}")
    site.bandwidth("egress: 20mbit, ingress: 8mbit")
    code, text = site.shaper(f"plan {site.policy}")
    assert (code, text.count("+ qdisc clsact")) == (2, 1)
    assert site.shaper(f"apply {site.policy}")[0] == 0
    assert site.shaper(f"plan {site.policy}")[0] == 0
    code, text = site.shaper("status --json")
    assert [(one["device"], one["direction"]) for one in json.loads(text)["interfaces"]] == [
        (site.pair.a, "egress"),
        (site.pair.a, "ingress"),
    ]
    for bandwidth, gone, stays in (("ingress: 8mbit", "shp-", "shi-"), ("egress: 20mbit", "shi-", "shp-")):
        site.bandwidth(bandwidth)
        assert site.shaper(f"plan {site.policy}")[0] == 2
        assert site.shaper(f"apply {site.policy}")[0] == 0
        links = site.lab.run("ip -br link")
        assert gone not in links
        assert stays in links
        assert site.shaper(f"plan {site.policy}")[0] == 0
        site.lab.run(f"ping -c 2 -i 0.1 -W 2 {site.pair.b_v4}")
    assert site.shaper("clear")[0] == 0
    assert site.bare()
    assert site.lab.run("ip -br link") + site.lab.run(f"tc qdisc show dev {site.pair.a}") == found


def test_a_run_takes_up_a_direction_and_lets_go_of_it(site: Site) -> None:
    site.bandwidth("egress: 20mbit")
    run = running(site)
    for bandwidth, shaped in (("egress: 20mbit, ingress: 8mbit", 2), ("ingress: 8mbit", 1)):
        site.bandwidth(bandwidth)
        code, text = site.shaper(f"apply {site.policy} --json")
        assert code == 0, text
        assert {one["direction"] for one in json.loads(text)["interfaces"]} == {"egress", "ingress"}
        site.lab.run(f"ping -c 2 -i 0.1 -W 2 {site.pair.b_v4}")
        until_so(lambda shaped=shaped: len(statuses(site)) == shaped)  # type: ignore[misc]
    ended(run)
    assert [bool(side.record()) for side in both_directions_inside(site)] == [False, True]
    assert site.shaper("clear")[0] == 0
    assert site.bare()


def both_directions_inside(site: Site) -> Any:
    return site.lab.inside(lambda: both_directions(site.state, site.pair.a))


def statuses(site: Site) -> list[dict[str, Any]]:
    """Of every direction, by the running shaper; on a busy machine it may have to be asked again."""
    code = Exit.TRY_AGAIN
    while code == Exit.TRY_AGAIN:
        code, text = site.shaper("status --json")
    found: list[dict[str, Any]] = json.loads(text)["interfaces"]
    return found


def inside_of(site: Site) -> dict[str, Any]:
    """The running shaper's status of what comes in."""
    (found,) = statuses(site)
    return found


def until_so(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.1)


@pytest.mark.parametrize("rung", ["ebpf", "capture"])
def test_an_ifb_that_is_down_is_an_alarm_until_it_is_up(site: Site, rung: str) -> None:
    """Nobody puts it back here, so that the alarm stands; where somebody does, it may be over within a tick."""
    if rung == "ebpf" and (why := refusal()):
        pytest.skip(f"missing capability: eBPF ({why})")
    run = running(site, "--drift", "report", "--measure", rung)
    ifb = f"shi-{site.pair.a}"
    site.lab.run(f"ip link set {ifb} down")
    until_so(lambda: len(inside_of(site)["alarms"]) == 2)
    for _ in range(3):  # it is tried again meanwhile, and goes on being said
        found = inside_of(site)
        assert (found["capture"]["running"], found["capture"]["rung"]) == (False, rung)
        unmeasured, changed = sorted(found["alarms"])
        assert unmeasured in (f"delay is no longer measured: {ifb} is down", f"delay is not measured: {ifb} is down")
        assert f"device {ifb} (ifb): link is down, ours is up" in changed
        time.sleep(2)
    site.lab.run(f"ip link set {ifb} up")
    until_so(lambda: not inside_of(site)["alarms"])
    assert inside_of(site)["capture"]["running"]
    ended(run)


def test_an_ifb_that_somebody_takes_away_is_put_back(site: Site) -> None:
    """What a filter redirects to a device that is gone or down is dropped."""
    run = running(site)
    ping = f"ping -c 1 -W 2 {site.pair.b_v4}"
    ifb = f"shi-{site.pair.a}"
    site.lab.run(ping)
    for mends, attack in ((1, f"ip link set {ifb} down"), (2, f"ip link del {ifb}")):
        site.lab.run(attack)
        until_so(lambda mends=mends: inside_of(site)["mends"] == mends)  # type: ignore[misc]
        site.lab.run(ping)
    until_so(lambda: not inside_of(site)["alarms"])
    ended(run)
    done = [one["why"] for one in json.loads(site.shaper("history --json")[1])["changes"] if one["what"] == "mend"]
    assert f"device {ifb} (ifb): link is down, ours is up" in done[0]
    assert f"device {ifb} (ifb) is gone" in done[1]
    site.lab.run(f"ip link del {ifb}")
    assert "1 received" not in site.lab.run(ping, check=False)
    assert site.shaper(f"apply {site.policy}")[0] == 0
    site.lab.run(ping)
    assert site.shaper("clear")[0] == 0
    assert site.bare()


def test_a_foreign_hook_is_refused_and_left_alone(site: Site) -> None:
    site.lab.run(f"tc qdisc add dev {site.pair.a} clsact")
    code, text = site.shaper(f"apply {site.policy}")
    assert code == 69
    assert "somebody else's" in text
    assert f"tc qdisc del dev {site.pair.a} clsact" in text
    assert "clsact" in site.lab.run(f"tc qdisc show dev {site.pair.a}")
    assert "shi-" not in site.lab.run("ip -br link")


def test_jumbo_frames_pass(site: Site) -> None:
    """The ifb's own MTU of 1500 does not matter."""
    site.lab.run(f"ip link set {site.pair.a} mtu 9000")
    site.lab.run(f"ip link set {site.pair.b} mtu 9000", peer=True)
    assert site.shaper(f"apply {site.policy}")[0] == 0
    site.lab.run(f"ping -c 3 -i 0.1 -W 2 -s 8000 -M do {site.pair.b_v4}")
