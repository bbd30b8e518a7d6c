"""Frames of both taps in, the account of every class out."""

from __future__ import annotations

import struct

import pytest

from collectors.account import Account
from collectors.audit import Audit
from collectors.frames import dissect
from collectors.ring import Frame
from collectors.sample import FlowKey
from collectors.slices import Slice

MS = 1_000_000
START = 1_000_000_000_000
VOICE, BULK = 0x10010, 0x10020
TAUS = (0.002, 0.1)


def packet(number: int, *, port: int = 5010, protocol: int = 17, ttl: int = 64) -> bytes:
    """An IPv4 packet in an Ethernet frame, by hand: UDP, or TCP with as much of a header as it needs."""
    layer4 = struct.pack("!HHIIBxH", 40000, port, number, 0, 0x50, 0) + bytes(36)
    if protocol == 17:
        layer4 = struct.pack("!HHHHI", 40000, port, 52, 0, number) + bytes(40)
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(layer4), 0, 0, ttl, protocol, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    return bytes(12) + b"\x08\x00" + header + layer4


def classify(key: FlowKey) -> int:
    return VOICE if key.dport == 5010 else BULK


def account(*, sampling: int = 1, audit_rate: int = 0) -> Account:
    return Account(mtu=1500, sampling=sampling, classify=classify, horizon=1.0, audit_rate=audit_rate, taus=TAUS)


def frame(at: int, data: bytes, length: int = 1000) -> Frame:
    return START + at * MS, length, data


def test_a_window_tells_of_every_class_and_the_next_one_starts_anew() -> None:
    held = account()
    held.add(
        [
            frame(0, packet(1), 200),
            frame(1, packet(2), 200),
            frame(2, packet(3, port=5020), 1514),
            frame(3, packet(4, port=5020, protocol=6), 1514),
        ],
        [frame(5, packet(1, ttl=63), 200), frame(44, packet(3, port=5020), 1514), frame(45, packet(9), 200)],
    )
    window = held.window(now=START / 1e9 + 0.25, complete=START + 200 * MS, drops=3)
    voice, bulk = window.classes[VOICE], window.classes[BULK]
    assert (voice.delays, voice.matched, voice.arrived_packets, voice.arrived_bytes) == ((0.005,), 1, 2, 400)
    assert (bulk.delays, bulk.arrived_bytes, bulk.inelastic_bytes) == ((0.042,), 3028, 1514)
    assert (voice.envelope, bulk.envelope) == ({0.002: 400, 0.1: 400}, {0.002: 1514, 0.1: 1514})
    assert (window.captured, window.capture_drops, window.unmatched) == (7, 3, 1)
    assert window.in_flight == {VOICE: 1, BULK: 1}
    assert round(window.seconds, 6) == 0.25

    later = held.window(now=START / 1e9 + 2, complete=START + 2000 * MS, drops=0)
    assert {classid: part.lost for classid, part in later.classes.items()} == {VOICE: 1, BULK: 1}
    assert (later.captured, later.capture_drops, later.in_flight) == (0, 0, {})
    assert round(later.seconds, 6) == 1.75
    assert held.window(now=START / 1e9 + 3, complete=START + 3000 * MS, drops=0).classes == {}


def test_of_slices_each_has_its_own_delays_and_losses_also_over_windows() -> None:
    """The first packet comes while it listens always; one of the first slice is late, one of the second is lost."""
    held = account(sampling=4)
    held.add([frame(0, packet(0))], [frame(3, packet(0))])
    held.pick(0, START + 1 * MS)
    held.add([frame(2, packet(1))], [])  # nobody looks for it
    held.pick(START + 10 * MS, START + 60 * MS)
    held.add([frame(10, packet(2)), frame(11, packet(3)), frame(12, packet(4, port=5020))], [frame(14, packet(2))])
    early = held.window(now=START / 1e9 + 0.1, complete=START + 100 * MS, drops=0)
    assert (early.classes[VOICE].delays, early.classes[VOICE].slices) == ((0.003, 0.004), (Slice(1, 1, 0),))
    assert (early.in_flight, early.classes[BULK].slices) == ({VOICE: 1, BULK: 1}, ())
    held.pick(START + 200 * MS, START + 250 * MS)
    held.add([frame(200, packet(5)), frame(201, packet(6))], [frame(205, packet(5)), frame(900, packet(3))])
    late = held.window(now=START / 1e9 + 2, complete=START + 2000 * MS, drops=0)
    voice, bulk = late.classes[VOICE], late.classes[BULK]
    assert (voice.delays, voice.lost, voice.matched) == ((0.889, 0.005), 1, 2)
    assert voice.slices == (Slice(1, 1, 0), Slice(2, 1, 1))
    assert (bulk.lost, bulk.slices, late.in_flight) == (1, (Slice(1, 0, 1),), {})
    held.pick(START + 3000 * MS, 1 << 62)
    held.add([frame(3000, packet(7))], [frame(3001, packet(7))])
    always = held.settle(now=START / 1e9 + 4, drops=0, queued={})
    assert (always.classes[VOICE].delays, always.classes[VOICE].slices) == ((0.001,), ())


def test_what_is_no_packet_is_counted_and_attributed_to_nobody() -> None:
    held = account()
    held.add([frame(0, b"\xff" * 60), frame(1, bytes(12) + b"\x08\x06" + bytes(28))], [frame(2, b"\xff" * 60)])
    window = held.settle(now=START / 1e9 + 1, drops=0, queued={})
    assert (window.undecoded, window.classes, window.unmatched, window.captured) == (2, {}, 0, 3)


def test_super_packets_are_counted_and_never_lost() -> None:
    held = account()
    held.add([frame(0, packet(1), 64000), frame(0, packet(2), 1522)], [])
    window = held.settle(now=START / 1e9 + 1, drops=0, queued={})
    assert (window.super_packets, window.classes[VOICE].lost, window.classes[VOICE].arrived_bytes) == (1, 1, 65522)


def test_with_sampling_the_counts_are_raw_and_there_is_no_envelope() -> None:
    held = account(sampling=8)
    held.add([frame(0, packet(1))], [])
    window = held.settle(now=START / 1e9 + 1, drops=0, queued=None)
    assert window.sampling == 8
    assert (window.classes[VOICE].arrived_packets, window.classes[VOICE].envelope) == (1, {})
    assert window.in_flight == {VOICE: 1}


@pytest.mark.slow
def test_more_flows_than_are_remembered_are_still_classified() -> None:
    held = account()
    frames = [frame(0, packet(0, port=port)) for port in range(1, 65536)]
    held.add(frames, [])
    held.add([frame(1, packet(1, port=port, protocol=6)) for port in range(1, 2000)], [])
    window = held.window(now=START / 1e9, complete=START, drops=0)
    assert window.classes[BULK].arrived_packets == 65534 + 1999
    assert window.classes[VOICE].arrived_packets == 1


def test_the_audit_is_spread_evenly_and_never_beyond_its_rate() -> None:
    held = account(audit_rate=50)
    held.add([frame(0, packet(number)) for number in range(100)], [])
    held.add([frame(at, packet(1000 + at)) for at in range(1000)], [])
    window = held.window(now=START / 1e9 + 1, complete=START + 1000 * MS, drops=0)
    assert (window.audited, window.misclassified) == (50, 0)
    assert held.window(now=START / 1e9 + 1, complete=START + 1000 * MS, drops=0).audited == 0


def test_the_audit_finds_a_wrong_class_and_a_wrong_flow() -> None:
    audit = Audit(rate=1000, classify=classify)
    right, wrong = dissect(packet(1)), dissect(packet(1, port=5011))
    assert right is not None
    assert wrong is not None
    audit.check(0, packet(1), right[1], BULK)
    audit.check(0, packet(1), wrong[1], VOICE)
    audit.check(0, packet(1), right[1], VOICE)
    assert audit.take() == (3, 2)


def test_with_details_packets_of_one_flow_go_to_classes_by_their_length_and_flags() -> None:
    def by_details(key: FlowKey) -> int:
        return VOICE if key.tcp_flags == 0x10 and key.length == 72 else BULK

    held = Account(mtu=1500, sampling=1, classify=by_details, horizon=1.0, audit_rate=0, taus=TAUS, detailed=True)
    plain = packet(1, protocol=6)
    ack = plain[:47] + b"\x10" + plain[48:]
    longer = ack[:16] + (73).to_bytes(2, "big") + ack[18:] + b"x"
    held.add([frame(0, plain), frame(1, ack), frame(2, longer), frame(3, ack[:38] + b"\0\0\0\7" + ack[42:])], [])
    window = held.window(now=START / 1e9 + 0.25, complete=START + 200 * MS, drops=0)
    assert {classid: one.arrived_packets for classid, one in window.classes.items()} == {VOICE: 2, BULK: 2}


def test_bytes_are_counted_as_the_queue_counts_them() -> None:
    """On a link with an overhead: rates from here and from the queue's counters are of one unit."""
    held = Account(
        mtu=1500,
        sampling=1,
        classify=classify,
        horizon=1.0,
        audit_rate=0,
        taus=TAUS,
        size_of=lambda length: max(1000, length + 18),
    )
    held.add(
        [frame(0, packet(1), 200), frame(1, packet(2), 1514), frame(1, packet(3, port=5020, protocol=6), 1514)], []
    )
    window = held.window(now=START / 1e9 + 0.25, complete=START + 200 * MS, drops=0)
    voice, bulk = window.classes[VOICE], window.classes[BULK]
    assert (voice.arrived_bytes, voice.inelastic_bytes, bulk.arrived_bytes) == (2532, 2532, 1532)
    assert voice.envelope == {0.002: 2532, 0.1: 2532}
    assert window.super_packets == 0
