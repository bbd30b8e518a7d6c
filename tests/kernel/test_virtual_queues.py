"""The laws of queues in virtual time, by our own collectors and by who receives: exact, for no CPU time is in them."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from collectors.matching import Matcher
from collectors.ring import Frame, PacketRing
from shaper.compile.tap import tap_filter

if TYPE_CHECKING:
    from conftest import Lab, LinkPair

pytestmark = pytest.mark.virtual

PORT, SPARSE_PORT = 5020, 5010
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 35, 33, 32
_HEADERS = slice(14, 14 + 20 + 8 + 8)
"""IPv4 and UDP headers and the first 8 B of the payload: a number that no other packet has."""
_EVERYTHING = tap_filter(1)
_ANY_DIRECTION = ((0x06, 0, 0, 192),)


@dataclass(slots=True)
class Tap:
    """Frames before and after the queue of `pair.a`, as the collectors' rings deliver them."""

    lab: Lab
    pair: LinkPair
    before: list[Frame] = field(default_factory=list)
    after: list[Frame] = field(default_factory=list)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Reads both rings ten times a second; afterwards all is in."""
        rings = self.lab.inside(lambda: [PacketRing(self.pair.a, _EVERYTHING), PacketRing("copies", _ANY_DIRECTION)])
        for ring in rings:
            self.lab.inside(ring.start)
        done = threading.Event()

        def read() -> None:
            while not done.wait(0.1):
                self.after += rings[0].read()
                self.before += rings[1].read()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
            time.sleep(0.5)
        finally:
            done.set()
            reader.join()
            drops = [ring.drops() for ring in rings]
            for ring in rings:
                ring.close()
        assert drops == [0, 0]

    def delays(self, port: int) -> list[float]:
        """Seconds in the queue of every datagram to a port, from the raw stamps."""
        matcher = Matcher(horizon=3.0)
        matcher.add(
            ((stamp, data[_HEADERS], 1, True) for stamp, _, data in self.before if is_udp(data, port)),
            ((stamp, data[_HEADERS]) for stamp, _, data in self.after if is_udp(data, port)),
        )
        found, waiting = matcher.settle(queued={})
        assert (found.ambiguous, found.unmatched, found.lost.total(), waiting) == (0, 0, 0, {})
        return found.delays.get(1, [])


def is_udp(data: bytes, port: int) -> bool:
    return data[12:14] == b"\x08\x00" and data[23] == 17 and data[36:38] == port.to_bytes(2, "big")


@pytest.fixture
def tap(netns: Lab) -> Tap:
    """A cable with the hook on `a` mirrored to an ifb, and neighbours who know each other."""
    pair = netns.link_pair()
    netns.run("ip link add copies type ifb")
    netns.run("ip link set copies up")
    netns.run(f"tc qdisc add dev {pair.a} clsact")
    netns.run(f"tc filter add dev {pair.a} egress matchall action mirred egress mirror dev copies")
    (address,) = re.findall(r"link/ether (\S+)", netns.run(f"ip -o link show {pair.b}", peer=True))
    netns.run(f"ip neigh replace {pair.b_v4} lladdr {address} dev {pair.a} nud permanent")
    return Tap(netns, pair)


def send(tap: Tap, port: int, *, count: int, size: int, gap: float, first: int = 0) -> None:
    """Datagrams, numbered from `first`, with `size` bytes of payload, one every `gap` seconds."""
    with tap.lab.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 23)
        began = time.monotonic()
        for number in range(count):
            sock.sendto(struct.pack("!Q", first + number).ljust(size, b"x"), (tap.pair.b_v4, port))
            time.sleep(max(0.0, began + (number + 1) * gap - time.monotonic()))


def test_netem_delays_by_what_it_was_told(tap: Tap) -> None:
    tap.lab.run(f"tc qdisc add dev {tap.pair.a} root netem delay 20ms")
    receiver = tap.lab.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), peer=True)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 22)  # they are all read at the end
    receiver.settimeout(5)
    receiver.bind((tap.pair.b_v4, PORT))
    sent: dict[int, int] = {}
    with receiver, tap.listening(), tap.lab.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for number in range(500):
            sent[number] = time.time_ns()
            sock.sendto(struct.pack("!Q", number).ljust(200, b"x"), (tap.pair.b_v4, PORT))
            time.sleep(0.003)
        received = [receiver.recvmsg(300, 100) for _ in sent]
    delays = tap.delays(PORT)
    assert len(delays) == 500
    print(f"netem 20 ms: {min(delays) * 1e3:.4f} to {max(delays) * 1e3:.4f} ms by the collectors")
    assert [delay for delay in delays if abs(delay - 0.020) > 1e-5] == []
    flights = []
    for data, ancillary, *_ in received:
        seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
        flight = seconds * 10**9 + nanoseconds - sent[struct.unpack_from("!Q", data)[0]]
        flights.append(flight)
        assert abs(flight - 20_000_000) <= 10_000
    print(f"netem 20 ms: {min(flights) / 1e6:.4f} to {max(flights) / 1e6:.4f} ms by the receiver")


def test_htb_sends_at_its_rate_in_layer_2_bytes(tap: Tap) -> None:
    device = tap.pair.a
    tap.lab.run(f"tc qdisc add dev {device} root handle 1: htb default 10")
    tap.lab.run(f"tc class add dev {device} parent 1: classid 1:10 htb rate 20mbit burst 2500 cburst 2500")
    tap.lab.run(f"tc qdisc add dev {device} parent 1:10 bfifo limit 8mb")
    kernel = tap.lab.kernel()
    with tap.listening():
        sender = threading.Thread(target=lambda: send(tap, PORT, count=8000, size=1200, gap=0.0003))
        sender.start()
        time.sleep(0.5)
        first, began = kernel.counters(device).classes[0x10010], time.monotonic()
        time.sleep(2.0)
        last, ended = kernel.counters(device).classes[0x10010], time.monotonic()
        sender.join()
    assert last.drops == 0
    counted = (last.sent_bytes - first.sent_bytes) * 8 / (ended - began)
    assert counted == pytest.approx(20e6, rel=0.01)
    frames = [(stamp, length) for stamp, length, data in tap.after if is_udp(data, PORT)]
    busy = [frame for frame in frames if frames[0][0] + 5e8 < frame[0] < frames[0][0] + 25e8]
    rate = sum(length for _, length in busy[1:]) * 8e9 / (busy[-1][0] - busy[0][0])
    print(f"htb 20 Mbit: {counted / 1e6:.3f} Mbit/s by the counters, {rate / 1e6:.3f} Mbit/s by the frames")
    assert rate == pytest.approx(20e6, rel=0.01)
    assert max(later - earlier for (earlier, _), (later, _) in pairwise(busy)) < 2_000_000


def test_fq_codel_lets_a_sparse_flow_pass_four_bulk_flows(tap: Tap) -> None:
    device = tap.pair.a
    tap.lab.run(f"tc qdisc add dev {device} root handle 1: htb default 10")
    tap.lab.run(f"tc class add dev {device} parent 1: classid 1:10 htb rate 20mbit burst 2500 cburst 2500")
    tap.lab.run(f"tc qdisc add dev {device} parent 1:10 fq_codel")
    server = tap.lab.start(f"iperf3 -s -1 -p {PORT}", peer=True)
    time.sleep(0.5)
    with tap.listening():
        bulk = tap.lab.start(f"iperf3 -c {tap.pair.b_v4} -p {PORT} -P 4 -t 5")
        time.sleep(1.0)
        send(tap, SPARSE_PORT, count=150, size=160, gap=0.02)
        text, _ = bulk.communicate(timeout=60)
        server.communicate(timeout=60)
    delays = tap.delays(SPARSE_PORT)
    assert len(delays) == 150
    assert max(delays) < 0.002
    (goodput,) = re.findall(r"\[SUM\].*?([\d.]+) Mbits/sec +receiver", text)
    print(f"fq_codel: the sparse flow waits {max(delays) * 1e3:.3f} ms at the most beside {goodput} Mbit/s of TCP")
    assert float(goodput) > 18
