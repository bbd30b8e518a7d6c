"""Delay and loss from captured packets, against the queue's theory and the kernel's own drop counter."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collectors.capture import Capture
from collectors.errors import CaptureError
from collectors.ring import PacketRing, link
from collectors.sample import CaptureWindow, FlowKey

if TYPE_CHECKING:
    from tests.kernel.conftest import Lab, LinkPair

pytestmark = pytest.mark.kernel

SNAP = 128
OUTGOING = ((0x30, 0, 0, 0xFFFFF004), (0x15, 0, 1, 4), (0x06, 0, 0, SNAP), (0x06, 0, 0, 0))
RATE, LIMIT = 18_000_000, 400_000
_SO_SNDBUFFORCE = 32
_CAPABILITY_VERSION_3 = 0x20080522
VOICE, BULK, REST = 0x10010, 0x10020, 0x10030


@dataclass(frozen=True, slots=True)
class Shaped:
    """A 20 Mbit HTB on `pair.a`: voice first, then a bulk leaf of 18 Mbit and 400 kB; all is mirrored to an ifb."""

    lab: Lab
    pair: LinkPair

    def tc(self, command: str) -> str:
        return self.lab.run(f"tc {command}")

    def socket(self, family: int = socket.AF_INET) -> socket.socket:
        sock = self.lab.inside(lambda: socket.socket(family, socket.SOCK_DGRAM))
        # More than the queue takes: else the socket waits for room and nothing is dropped.
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 23)
        return sock

    def leaf(self, minor: int) -> tuple[int, int]:
        """`(dropped, queued)` packets of a class's queue, as the kernel counts them."""
        shown = self.tc(f"-s qdisc show dev {self.pair.a} parent 1:{minor}").replace(",", "").split()
        return int(shown[shown.index("(dropped") + 1]), int(shown[shown.index("backlog") + 2].removesuffix("p"))


def shape(netns: Lab, pair: LinkPair | None = None) -> Shaped:
    """The device, its queues, and the copies."""
    made = Shaped(netns, pair or netns.link_pair())
    device = made.pair.a
    netns.run("ip link add copies type ifb")
    netns.run("ip link set copies up")
    made.tc(f"qdisc add dev {device} root handle 1: htb default 30")
    made.tc(f"class add dev {device} parent 1: classid 1:1 htb rate 20mbit burst 2500")
    for minor, prio, rate, ceil, burst in ((10, 0, 4, 20, 20000), (20, 2, 18, 18, 1600), (30, 1, 1, 20, 1600)):
        made.tc(
            f"class add dev {device} parent 1:1 classid 1:{minor} htb rate {rate}mbit ceil {ceil}mbit "
            f"prio {prio} burst {burst} cburst {burst} quantum 1514"
        )
        made.tc(f"qdisc add dev {device} parent 1:{minor} handle {minor}: bfifo limit {LIMIT}")
    for minor, port in ((10, 5010), (20, 5020)):
        made.tc(
            f"filter add dev {device} parent 1: pref {minor} protocol ip u32 "
            f"match ip dport {port} 0xffff flowid 1:{minor}"
        )
    made.tc(f"qdisc add dev {device} clsact")
    made.tc(
        f"filter add dev {device} egress pref 30 protocol all bpf bytecode '1,6 0 0 4294967295' "
        "action mirred egress mirror dev copies"
    )
    return made


@pytest.fixture
def shaped(netns: Lab) -> Shaped:
    return shape(netns)


def classify(key: FlowKey) -> int:
    return {5010: VOICE, 5020: BULK}.get(key.dport or 0, REST) if key.ethertype == 0x0800 else REST


@contextlib.contextmanager
def capturing(shaped: Shaped, *, horizon: float = 3.0, audit_rate: int = 0) -> Iterator[Capture]:
    capture = shaped.lab.inside(
        lambda: Capture(
            device=shaped.pair.a,
            tap="copies",
            after_filter=OUTGOING,
            sampling=1,
            classify=classify,
            horizon=horizon,
            audit_rate=audit_rate,
        )
    )
    try:
        yield capture
    finally:
        capture.close()


def offer(sock: socket.socket, to: str, seconds: float, tick: Callable[[], None]) -> Counter[int]:
    """Bulk at 40 Mbit/s and voice at 500 packets/s, `tick` four times a second; gives packets sent by port."""
    sent: Counter[int] = Counter()
    began = time.monotonic()
    ticked = 0
    while (spent := time.monotonic() - began) < seconds:
        for port, size, per_second in ((5010, 160, 500), (5020, 1200, 4000)):
            while sent[port] < spent * per_second:
                sock.sendto(struct.pack("!I", sent[port]).ljust(size, b"x"), (to, port))
                sent[port] += 1
        if spent * 4 > ticked:
            ticked += 1
            tick()
        time.sleep(0.001)
    return sent


def total(windows: list[CaptureWindow], classid: int) -> tuple[list[float], int, int]:
    """Delays, lost and arrived of a class over all windows."""
    parts = [window.classes[classid] for window in windows if classid in window.classes]
    return (
        sorted(delay for part in parts for delay in part.delays),
        sum(part.lost for part in parts),
        sum(part.arrived_packets for part in parts),
    )


@pytest.mark.timing
def test_losses_equal_the_drop_counter_and_delay_equals_the_queue(shaped: Shaped) -> None:
    windows: list[CaptureWindow] = []
    with capturing(shaped, horizon=1.0, audit_rate=200) as capture, shaped.socket() as sock:
        sent = offer(sock, shaped.pair.b_v4, 3.0, lambda: windows.append(capture.drain(now=time.time())))
        time.sleep(0.4)  # the queue is 178 ms long
        windows.append(capture.settle(now=time.time(), queued={}))
    delays, lost, arrived = total(windows, BULK)
    assert arrived == sent[5020]
    assert lost == shaped.leaf(20)[0] > 1000
    assert len(delays) + lost == arrived
    assert [
        (w.ambiguous, w.unmatched, w.capture_drops) for w in windows if w.ambiguous + w.unmatched + w.capture_drops
    ] == []
    busy = delays[len(delays) // 20 :]  # without the first packets, which met an empty queue
    assert busy[len(busy) // 2] == pytest.approx(LIMIT * 8 / RATE, rel=0.05)
    voice, voice_lost, voice_arrived = total(windows, VOICE)
    assert (len(voice), voice_lost) == (voice_arrived, 0)
    assert voice[len(voice) * 99 // 100] < 0.005
    assert sum(window.misclassified for window in windows) == 0
    assert 100 < sum(window.audited for window in windows) <= 200 * 5


def test_what_is_still_queued_is_in_flight_and_not_lost(shaped: Shaped) -> None:
    with capturing(shaped) as capture, shaped.socket() as sock:
        offer(sock, shaped.pair.b_v4, 0.3, lambda: None)
        slow = "rate 8kbit ceil 8kbit burst 1600 cburst 1600"
        shaped.tc(f"class change dev {shaped.pair.a} parent 1:1 classid 1:20 htb {slow}")
        offer(sock, shaped.pair.b_v4, 0.3, lambda: None)
        time.sleep(0.2)
        drops, queued = shaped.leaf(20)
        window = capture.settle(now=time.time(), queued={BULK: queued})
    assert window.in_flight == {BULK: queued}
    assert queued > 50
    assert window.classes[BULK].lost == drops


def test_fragments_and_ipv6_are_matched_and_arp_is_attributed_to_nobody(shaped: Shaped) -> None:
    lab, pair = shaped.lab, shaped.pair
    # Known beforehand: a new cable's neighbour discovery may take longer than the test.
    address = lab.run(f"cat /sys/class/net/{pair.b}/address", peer=True).strip()
    lab.run(f"ip neigh add {pair.b_v6} lladdr {address} dev {pair.a}")
    with (
        capturing(shaped) as capture,
        shaped.socket() as four,
        shaped.socket(socket.AF_INET6) as six,
    ):
        for number in range(3):  # two fragments each
            four.sendto(bytes((number,)) * 2000, (shaped.pair.b_v4, 7000))
            six.sendto(bytes((number,)) * 2000, (shaped.pair.b_v6, 7000))
        time.sleep(0.2)
        window = capture.settle(now=time.time(), queued={})
    rest = window.classes[REST]
    assert rest.matched == rest.arrived_packets >= 12
    assert window.undecoded >= 1  # ARP
    assert (rest.lost, window.ambiguous, window.unmatched, window.audited) == (0, 0, 0, 0)


def test_a_device_that_is_not_there_is_named(shaped: Shaped) -> None:
    with pytest.raises(CaptureError, match="there is no device nowhere") as missing:
        shaped.lab.inside(
            lambda: Capture(device=shaped.pair.a, tap="nowhere", after_filter=OUTGOING, sampling=1, classify=classify)
        )
    assert (bool(missing.value.hint), missing.value.errno) == (True, errno.ENODEV)
    with pytest.raises(CaptureError, match="there is no device much-too-long-a-name"):
        link("much-too-long-a-name")


def test_without_the_capability_the_way_out_is_told(shaped: Shaped) -> None:
    def powerless() -> PacketRing:
        nothing = struct.pack("=6I", 0, 0, 0, 0, 0, 0)
        assert ctypes.CDLL(None).capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), nothing) == 0
        return PacketRing(shaped.pair.a, OUTGOING)

    with pytest.raises(CaptureError, match="not permitted") as refused:
        shaped.lab.inside(powerless)  # in a thread of its own: only that loses its capabilities
    assert "CAP_NET_RAW" in refused.value.hint
    assert refused.value.errno == errno.EPERM


def test_a_device_that_went_down_is_told_and_frames_come_again(shaped: Shaped) -> None:
    device = shaped.pair.a
    with capturing(shaped) as capture, shaped.socket() as sock:
        shaped.lab.run(f"ip link set {device} down")
        with pytest.raises(CaptureError, match=f"{device} is down"):
            capture.drain(now=time.time())
        shaped.lab.run(f"ip link set {device} up")
        sock.sendto(b"again", (shaped.pair.b_v4, 7000))
        time.sleep(0.2)
        assert capture.settle(now=time.time()).classes[REST].matched >= 1


def test_what_the_ifb_sends_by_itself_is_left_out(shaped: Shaped) -> None:
    with capturing(shaped) as capture:
        shaped.lab.run("ip addr add 192.0.2.1/24 dev copies")
        with shaped.socket() as sock:
            sock.sendto(b"not mirrored", ("192.0.2.2", 5010))
        time.sleep(0.2)
        window = capture.settle(now=time.time(), queued={})
    assert VOICE not in window.classes


def test_close_gives_back_every_descriptor(shaped: Shaped) -> None:
    held = len(list(Path("/proc/self/fd").iterdir()))
    with capturing(shaped) as capture:
        assert len(list(Path("/proc/self/fd").iterdir())) == held + 4  # two sockets and their mappings
    capture.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == held
