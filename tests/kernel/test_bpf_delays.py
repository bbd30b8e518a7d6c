"""Delays, arrivals and losses as counted in the kernel, against the queue's theory, its drop counter, and captures."""

from __future__ import annotations

import socket
import time

import pytest
from forwarding import by_address
from scapy.layers.inet import IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from side_by_side import Outcome, counting, side_by_side
from test_capture_matching import LIMIT, RATE, REST, VOICE, Shaped, shaped

from collectors.bpf.windows import difference

__all__ = ["shaped"]
pytestmark = pytest.mark.kernel

UDP_SEGMENT = 103


@pytest.mark.timing
def test_losses_equal_the_drop_counter_and_delay_equals_the_queue(shaped: Shaped) -> None:
    outcome = side_by_side(shaped, 3.0)
    bulk, voice = outcome.bulk, outcome.voice
    assert bulk.counts.arrived == bulk.counts.stamped == bulk.sent
    assert bulk.counted_lost == bulk.dropped > 1000
    assert bulk.counts.matched + bulk.counted_lost == bulk.sent
    assert bulk.counts.quantile(0.5) == pytest.approx(LIMIT * 8 / RATE, rel=0.05)
    assert bulk.counts.arrived_bytes == bulk.counts.inelastic_bytes == bulk.sent * 1242
    assert (voice.counts.matched, voice.counted_lost) == (voice.sent, 0)
    assert voice.counts.quantile(0.99) < 0.005
    assert (outcome.health.undecoded, outcome.health.unknown, bulk.counts.ambiguous) == (0, 0, 0)
    agree(outcome)


@pytest.mark.timing
def test_by_address_the_delay_is_the_same_and_no_loss_is_told(shaped: Shaped) -> None:
    """Packets that a program was not run for are no sample: those that there are say the same."""
    outcome = side_by_side(shaped, 3.0, addresses=True)
    for one in (outcome.bulk, outcome.voice):
        assert one.counts.arrived == one.sent
        assert one.counted_lost == (one.dropped if outcome.copied else 0)
        assert one.counts.stamped == one.counts.matched + one.counted_lost
        assert 0.8 * len(one.captured) < one.counts.matched <= len(one.captured)
        for q in (0.5, 0.95, 0.99):
            seen = one.captured[min(len(one.captured) - 1, int(q * len(one.captured)))]
            assert one.counts.quantile(q) == pytest.approx(seen, rel=0.05, abs=0.0005), q
    assert outcome.bulk.dropped > 1000


V4, V6 = IP(src="10.9.0.1", dst="10.9.0.2"), IPv6(src="fd00::1", dst="fd00::2")
TAG, TAGS = Dot1Q(vlan=7), Dot1AD(vlan=8) / Dot1Q(vlan=7)
SHAPES = {
    "ipv4": V4,
    "ipv4 with options": IP(src="10.9.0.1", dst="10.9.0.2", options=[IPOption_Router_Alert()]),
    "ipv6": V6,
    "ipv6 with options": V6 / IPv6ExtHdrHopByHop(),
    "ipv4 with a tag": TAG / V4,
    "ipv6 with a tag": TAG / V6,
    "ipv6 with options in two tags": TAGS / V6 / IPv6ExtHdrDestOpt(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_by_address_packets_of_every_shape_are_counted_and_found(shaped: Shaped, shape: str) -> None:
    """Short ones, too, by what their first headers say; of those that a header is cut off none is found."""
    datagrams, segments = (bytes(Ether() / SHAPES[shape] / each / bytes(40)) for each in (UDP(dport=9), TCP(dport=9)))
    frames = [*[datagrams] * 150, *[segments] * 150, *[datagrams[:-44]] * 20]
    with counting(shaped) as delays, shaped.socket() as sock:
        if delays.copying:
            return  # where packets are always known by their bytes
        by_address(delays, lambda: sock.sendto(b"", (shaped.pair.b_v4, 9)))
        shaped.lab.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")  # it looks for routers and neighbours
        before, _ = delays.read()

        def transmit() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
                for frame in frames:
                    sender.sendto(frame, (shaped.pair.a, 0))

        shaped.lab.inside(transmit)
        time.sleep(0.2)  # for a little the rate is exceeded
        counts, health = delays.read()
    one = difference(before[REST], counts[REST], lost=0, envelope={})
    assert (one.arrived_packets, one.arrived_bytes) == (320, sum(map(len, frames)))
    assert one.inelastic_bytes == 150 * len(datagrams) + 20 * len(datagrams[:-44])
    assert health.undecoded == 20
    assert 0.8 * 300 < one.matched == one.taken <= 300


@pytest.mark.parametrize("whole", [False, True])
def test_a_super_packet_is_measured_where_it_goes_out_whole_and_is_never_lost(shaped: Shaped, whole: bool) -> None:
    """A device that takes none is handed its parts: none of them has the address that was stamped."""
    if whole:
        shaped.lab.run(f"ethtool -K {shaped.pair.a} gso on tx-udp-segmentation on")
        shaped.lab.run(f"ip link set dev {shaped.pair.a} gso_max_segs 65535")
    with counting(shaped) as delays, shaped.socket() as sock:
        if delays.copying:
            return  # where packets are always known by their bytes
        by_address(delays, lambda: sock.sendto(b"", (shaped.pair.b_v4, 9)))
        sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
        sock.sendto(bytes(5000), (shaped.pair.b_v4, 5010))
        time.sleep(0.1)  # for a little the rate is exceeded
        lost, waiting = delays.sweep(before=time.monotonic_ns())
        counts, health = delays.read()
        delays.prefer(addresses=False)
        sock.sendto(bytes(4000), (shaped.pair.b_v4, 5010))
        time.sleep(0.1)
        again, _ = delays.read()
    one = counts[VOICE]
    assert (one.arrived, one.stamped, one.matched) == (5, 5, 5) if whole else (5, 0, 0)
    assert (not lost, not waiting, health.cut, health.super_packets) == (True, True, not whole, 1)
    assert again[VOICE].matched - one.matched == 4, "by its bytes it is found all the same"


def agree(outcome: Outcome) -> None:
    """The captures of the same packets say the same, within the width of a bucket and how far the taps are apart."""
    for one in (outcome.bulk, outcome.voice):
        assert one.captured_lost == one.counted_lost
        assert len(one.captured) == one.counts.matched
        for q in (0.5, 0.95, 0.99):
            seen = one.captured[min(len(one.captured) - 1, int(q * len(one.captured)))]
            assert one.counts.quantile(q) == pytest.approx(seen, rel=0.04, abs=50e-6), q
