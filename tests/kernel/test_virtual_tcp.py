"""TCP's round trips and retransmissions against the sender's own account (`ss -ti`) and paths of known delay.

In virtual time netem is exact to the microsecond.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from collectors.frames import flow_key
from collectors.tcp.tap import TcpTap
from collectors.tcp.tracker import TcpClass, TcpFlow

if TYPE_CHECKING:
    from conftest import Lab, LinkPair

pytestmark = [pytest.mark.kernel, pytest.mark.virtual]
PORTS = {7001: 0x10010, 7002: 0x10020}
NEAR = 0.001
"""Seconds by which two averages of the same round trips may differ: the sender takes every one of them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One flow by what only looks on, and by its sender: smoothed round trip in s, and segments sent again."""

    flow: TcpFlow
    whole: TcpClass
    rtt: float
    again: int


def path(netns: Lab, pair: LinkPair, *, there: str, back: str) -> None:
    """What netem does to what goes to the peer, behind the device that is looked at, and to what comes back."""
    for command in (
        "ip link add far type ifb",
        "ip link set far up",
        f"tc qdisc add dev {pair.b} ingress",
        f"tc filter add dev {pair.b} parent ffff: protocol all matchall action mirred egress redirect dev far",
        f"tc qdisc add dev far root netem limit 10000 {there}",
        f"tc qdisc add dev {pair.b} root netem limit 10000 {back}",
    ):
        netns.run(command, peer=True)


@contextmanager
def connection(netns: Lab, pair: LinkPair, port: int) -> Iterator[socket.socket]:
    """To somebody at the far end who reads everything."""
    listening = netns.inside(lambda: socket.create_server((pair.b_v4, port)), peer=True)

    def read() -> None:
        accepted, _ = listening.accept()
        with closing(accepted):
            while accepted.recv(1 << 16):
                pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        sending = netns.inside(lambda: socket.create_connection((pair.b_v4, port), timeout=10))
        sending.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with closing(sending):
            yield sending
            sending.shutdown(socket.SHUT_WR)
        reader.join(10)
    finally:
        listening.close()


def watched(netns: Lab, pair: LinkPair, *, port: int, seconds: float, calm: str = "") -> Seen:
    """Pieces of 1000 bytes, one in 2 ms, while the tap looks on; with `calm` a second more on a path of that delay."""
    tap = TcpTap(
        device=pair.a, classify=lambda flow: PORTS.get(flow_key(flow).dport or 0, 0), netns=netns.name, most=10**9
    )
    with closing(tap), connection(netns, pair, port) as sending:
        for length in (seconds, 1.0) if calm else (seconds,):
            if length != seconds:
                netns.run(f"tc qdisc change dev far root netem limit 10000 {calm}", peer=True)
            end = time.monotonic() + length
            while time.monotonic() < end:
                sending.sendall(bytes(1000))
                tap.read(now=time.monotonic())
                time.sleep(0.002)
        for _ in range(20):  # what was lost at the end is sent again meanwhile
            time.sleep(0.1)
            tap.read(now=time.monotonic())
        said = netns.run(f"ss -tinO dport = :{port}")
        found = tap.classes(wall=time.time())[PORTS[port]]
        (flow,) = tap.flows(PORTS[port], 5)
        assert (tap.drops, tap.undecoded) == (0, 0)
    rtt = re.search(r"\brtt:([\d.]+)/", said)
    again = re.search(r"\bretrans:\d+/(\d+)", said)
    assert rtt, said
    return Seen(flow, found, float(rtt[1]) / 1000, int(again[1]) if again else 0)


@pytest.mark.parametrize(("there", "back"), [(15, 25), (60, 20)])
def test_a_path_of_known_delay_has_that_round_trip_and_the_sender_says_so(netns: Lab, there: int, back: int) -> None:
    pair = netns.link_pair()
    path(netns, pair, there=f"delay {there}ms", back=f"delay {back}ms")
    seen = watched(netns, pair, port=7001, seconds=2.0)
    known = (there + back) / 1000
    assert known <= seen.flow.counts.least < known + 1e-5  # type: ignore[operator]
    assert seen.flow.smoothed == seen.whole.smoothed
    assert seen.flow.smoothed == pytest.approx(seen.rtt, abs=NEAR)
    assert (seen.flow.counts.retransmitted, seen.again) == (0, 0)
    assert seen.flow.counts.timed > 15
    assert seen.flow.flow.endswith(f"> {pair.b_v4}:7001")


def test_what_is_sent_again_is_counted_as_its_sender_counts_it(netns: Lab) -> None:
    """The round trips are compared where nothing is lost any more: of those that waited for what was sent again the
    sender has many samples, and the tap one at a time."""
    pair = netns.link_pair()
    path(netns, pair, there="delay 10ms loss 4%", back="delay 10ms")
    seen = watched(netns, pair, port=7002, seconds=3.0, calm="delay 10ms loss 0%")
    assert seen.flow.counts.retransmitted == seen.again > 5
    assert seen.whole.counts == seen.flow.counts
    assert seen.flow.counts.segments > 400
    assert 0.020 <= seen.flow.counts.least < 0.020 + 1e-5  # type: ignore[operator]
    assert seen.flow.smoothed == pytest.approx(seen.rtt, abs=NEAR)
