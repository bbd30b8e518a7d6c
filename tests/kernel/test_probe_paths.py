"""Probes over a real cable: our sender and reflector, scapy's on either side, and what is said where nobody answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.contrib.stamp import (
    ErrorEstimate,
    STAMPSessionReflectorTestUnauthenticated,
    STAMPSessionSenderTestUnauthenticated,
    STAMPTestTLV,
)

from collectors.probe.kernel_clock import clock_error
from collectors.probe.ntp import to_ntp
from collectors.probe.session import paced
from collectors.probe.summary import Summary, summarise
from shaper.model.probe import Probe, ProbeKind
from shaper.run.clock import SystemClock
from shaper.run.probers import prober

pytestmark = pytest.mark.kernel
CLOCK = SystemClock()
IP_RECVTOS = 13
SHAPER = f"{Path(sys.executable).parent}/shaper"


@contextmanager
def reflecting(netns: Any, *options: str) -> Iterator[Callable[[], str]]:
    """`shaper reflect` at the far end; what it says when it ends."""
    process = netns.start(f"{SHAPER} reflect {' '.join(options)}", peer=True)
    said = process.stderr.readline()
    assert said.startswith("reflecting on"), said + process.stderr.read()
    ids = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("Uid"))
    assert ids.split()[1:] == ["65534"] * 4  # it is nobody by then

    def end() -> str:
        process.send_signal(signal.SIGTERM)
        return str(process.communicate(timeout=10)[0])

    yield end


def probed(netns: Any, text: str, *, code: int = 0, env: dict[str, str] | None = None) -> dict[str, Any]:
    """What `shaper probe --json` prints."""
    argv = ["ip", "netns", "exec", netns.name, SHAPER, "probe", "--json", *text.split()]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **(env or {})}
    )
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found.get("probe", found)


def summary(netns: Any, probe: Probe, *, count: int = 10, timeout: float = 1.0, key: bytes = b"") -> Summary:
    """The probe sent from this side of the cable."""
    made = prober(probe, CLOCK, timeout=timeout, key=key, netns=netns.name)
    try:
        settled = tuple(paced(made, CLOCK, interval=probe.interval, count=count))
        print(probe.kind, dict(made.log.refusals), dict(made.log.ignored))  # shown where the test fails
        return summarise(settled, interval=probe.interval, own=clock_error(), peer=made.log.peer)
    finally:
        made.close()


@pytest.mark.parametrize("version", [4, 6])
def test_every_packet_comes_back_with_its_times(netns: Any, version: int) -> None:
    pair = netns.link_pair()
    to = pair.b_v4 if version == 4 else pair.b_v6
    with reflecting(netns, "--stateful") as end:
        found = probed(netns, f"{to} --count 25 --interval 10ms --dscp ef --size 172")
        assert end() == "25 answered\n"
    assert (found["sent_packets"], found["lost_packets"], found["duplicates"], found["reordered"]) == (25, 0, 0, 0)
    trips = found["round_trip"]["samples_s"]
    assert len(trips) == 25
    assert 0 < min(trips) < 0.05
    assert found["waited_here"]["count"] == 25  # the kernel stamped it into the queue and out of it
    assert found["hops_left_there"] == [255]
    assert found["one_way"]["there"]["count"] == found["one_way"]["back"]["count"] == 25
    least = found["one_way"]["there"]["least_s"] + found["one_way"]["back"]["least_s"]
    assert found["one_way"]["error_s"] <= least / 2 + 1e-9
    assert found["clocks"]["peer"]["synchronised"] == clock_error().synchronised


def test_authenticated_it_answers_who_has_the_key_and_nobody_else(netns: Any, tmp_path: Path) -> None:
    to = netns.link_pair().b_v4
    right, open_to_all = tmp_path / "right", tmp_path / "open"
    for path, mode in ((right, 0o600), (open_to_all, 0o644)):
        path.write_text("the key in right\n")
        path.chmod(mode)
    with reflecting(netns, f"--key-file {right}") as end:
        found = probed(netns, f"{to} --count 5 --interval 10ms --key-file {right}")
        assert found["received_packets"] == 5
        found = probed(netns, f"{to} --count 5 --interval 10ms", env={"SHAPER_STAMP_KEY": "the key in right"})
        assert found["received_packets"] == 5
        for key in (b"the key in wrong", b""):
            stranger = Probe(to, ProbeKind.STAMP, 862, interval=0.01)
            assert summary(netns, stranger, count=2, timeout=0.3, key=key).received == 0
        refused = probed(netns, f"{to} --count 1 --key-file {open_to_all}", code=77)
        assert "open to others" in refused["problems"][0]["message"]
        assert end() == "10 answered\n2 with a digest that is not of this key\n2 too short\n"


def test_it_says_who_refused(netns: Any) -> None:
    pair = netns.link_pair()
    for to in (pair.b_v4, pair.b_v6):
        found = probed(netns, f"{to} --port 7000 --count 2 --interval 10ms --timeout 300ms", code=4)
        assert found["why_nothing_came"] == f"{to} says: port unreachable"
        assert found["lost_packets"] == 2
    found = probed(netns, f"{pair.b_v4} --kind tcp --port 7000 --count 1", code=4)
    assert found["why_nothing_came"] == "Connection refused"


@pytest.mark.parametrize("groups", ["1 0", "0 0"], ids=["raw socket", "ping socket"])
@pytest.mark.parametrize("version", [4, 6])
def test_an_echo_needs_nobody_at_the_other_end(netns: Any, version: int, groups: str) -> None:
    pair = netns.link_pair()
    netns.run(f"sysctl -q -w 'net.ipv4.ping_group_range={groups}'")
    found = summary(netns, Probe(pair.b_v4 if version == 4 else pair.b_v6, ProbeKind.ICMP, interval=0.01, size=56))
    assert (found.sent, found.received, found.duplicates) == (10, 10, 0)
    assert len(found.waits) == 10
    assert found.one_way is None


def test_scapys_sender_gets_its_answers(netns: Any) -> None:
    pair = netns.link_pair()
    with reflecting(netns, "--stateful"):

        def foreign() -> list[tuple[Any, Any, bytes]]:
            got = []
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
                plain.settimeout(5)
                plain.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 46 << 2)
                plain.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
                plain.connect((pair.b_v4, 862))
                for number in range(4):
                    estimate = ErrorEstimate(S=1, scale=5, multiplier=9)
                    tlv = [STAMPTestTLV(flags="U", type=99, len=8, value=b"whatever")] if number % 2 else []
                    sent = STAMPSessionSenderTestUnauthenticated(
                        seq=40 + number, ts=3.9e9 + number, err_estimate=estimate, ssid=77, tlv_objects=tlv
                    )
                    plain.send(bytes(sent))
                    data, ((_, _, tos),), _, _ = plain.recvmsg(2048, 64)
                    assert tos[0] >> 2 == 46  # the way back is that of the same class
                    assert len(data) == len(bytes(sent))
                    got.append((sent, STAMPSessionReflectorTestUnauthenticated(data), data))
            return got

        for number, (sent, reply, data) in enumerate(netns.inside(foreign)):
            assert (reply.seq, reply.seq_sender, reply.ssid) == (number, 40 + number, 77)
            assert data[28:36] == bytes(sent)[4:12]  # its time, to the bit
            assert (reply.err_estimate_sender.S, reply.err_estimate_sender.scale) == (1, 5)
            assert reply.ttl_sender == 64
            assert reply.err_estimate.multiplier > 0
            assert reply.ts >= reply.ts_rx
            assert [one.value for one in reply.tlv_objects] == [one.value for one in sent.tlv_objects]
            assert all(one.flags.U for one in reply.tlv_objects)


@pytest.mark.parametrize("kind", [ProbeKind.STAMP, ProbeKind.TWAMP_LIGHT])
def test_scapys_reflector_is_understood(netns: Any, kind: ProbeKind) -> None:
    """Its clock runs two hours ahead; it answers the third packet twice and the fourth not at all."""
    pair = netns.link_pair()
    stop = threading.Event()

    def foreign() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((pair.b_v4, 862))
        made.settimeout(0.1)
        return made

    def reflect(made: socket.socket) -> None:
        while not stop.is_set():
            try:
                data, source = made.recvfrom(2048)
            except TimeoutError:
                continue
            asked = STAMPSessionSenderTestUnauthenticated(data)
            now = int((CLOCK.wall() + 7200) * 1e9)
            answer = STAMPSessionReflectorTestUnauthenticated(
                seq=asked.seq,
                err_estimate=ErrorEstimate(S=1, scale=0, multiplier=200),
                ssid=asked.ssid,
                seq_sender=asked.seq,
                err_estimate_sender=asked.err_estimate,
                ttl_sender=253,
            )
            wire = bytearray(bytes(answer) + data[44:])
            wire[4:12] = wire[16:24] = to_ntp(now).to_bytes(8, "big")
            wire[28:36] = data[4:12]
            for _ in range({2: 2, 3: 0}.get(asked.seq, 1)):
                made.sendto(wire, source)

    made = netns.inside(foreign, peer=True)
    thread = threading.Thread(target=reflect, args=(made,))
    thread.start()
    try:
        found = summary(netns, Probe(pair.b_v4, kind, 862, interval=0.02, size=100), count=8, timeout=0.5)
    finally:
        stop.set()
        thread.join()
        made.close()
    assert (found.sent, found.lost, found.duplicates, found.reordered) == (8, 1, 1, 0)
    assert found.hops == (253,)
    assert found.one_way is not None
    assert found.one_way.basis == "round trip"  # two hours are no delay
    assert all(0 <= delay < 1 for delay in (*found.one_way.there, *found.one_way.back))


def test_transactions_have_the_time_of_each_part(netns: Any, tmp_path: Path) -> None:
    """A server of the standard library's, plain and with TLS."""
    pair = netns.link_pair()
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a.test"]
    subprocess.run(
        [*made, "-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c")], check=True, capture_output=True
    )
    server = netns.start(f"{sys.executable} {script} {pair.b_v4} {tmp_path / 'c'} {tmp_path / 'k'}", peer=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    expected = {
        (ProbeKind.TCP, 8080): {"connect"},
        (ProbeKind.TLS, 8443): {"connect", "tls"},
        (ProbeKind.HTTP, 8080): {"connect", "first-byte", "rest"},
        (ProbeKind.HTTPS, 8443): {"connect", "tls", "first-byte", "rest"},
    }
    for (kind, port), phases in expected.items():
        found = summary(netns, Probe(pair.b_v4, kind, port, interval=0.01, path="/slow"), count=2, timeout=5)
        assert (found.received, set(found.phases)) == (2, phases), kind
        for number, whole in enumerate(found.round_trips):
            assert sum(found.phases[name][number] for name in phases) <= whole
        if "first-byte" in phases:
            assert min(found.phases["first-byte"]) >= 0.05
    checked = probed(netns, f"{pair.b_v4} --kind tls --port 8443 --name a.test --count 1", code=4)
    assert "certificate" in checked["why_nothing_came"].lower()
    missing = probed(netns, f"{pair.b_v4} --kind http --port 8080 --path /missing --count 1", code=4)
    assert "404" in missing["why_nothing_came"]


SERVER = """
import http.server, ssl, sys, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.05)
        self.send_response(200 if self.path == "/slow" else 404)
        self.end_headers()
        self.wfile.write(b"x" * 1000)

    def log_message(self, *_): pass

host, certificate, key = sys.argv[1:]
plain = http.server.ThreadingHTTPServer((host, 8080), Handler)
secret = http.server.ThreadingHTTPServer((host, 8443), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
secret.socket = context.wrap_socket(secret.socket, server_side=True)
threading.Thread(target=plain.serve_forever, daemon=True).start()
print("ready", flush=True)
secret.serve_forever()
"""


def test_a_query_is_answered_by_a_name_server(netns: Any) -> None:
    """One that says there is no such name: that is an answer, too."""
    pair = netns.link_pair()
    made = netns.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), peer=True)
    made.bind((pair.b_v4, 53))
    made.settimeout(5)

    def serve() -> None:
        for _ in range(10):
            data, source = made.recvfrom(512)
            made.sendto(data[:2] + bytes((0x81, 0x83)) + data[4:], source)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        found = summary(netns, Probe(pair.b_v4, ProbeKind.DNS, 53, interval=0.01, name="www.example.com"))
    finally:
        thread.join()
        made.close()
    assert (found.sent, found.received) == (10, 10)
