"""Round trips and retransmissions from segments: RFC 6298's arithmetic, Karn's rule, and what is not counted."""

from __future__ import annotations

from random import Random

import pytest
from bpf_machine import Skb, check, run
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import tagged, tcp, udp, udp6

from collectors.tcp.filter import SNAP, tcp_filter
from collectors.tcp.segments import Segment, segment
from collectors.tcp.tracker import Tracker
from shaper.tree import Insn

MS = 1_000_000
SYN, FIN, RST = 2, 1, 4
VOICE, BULK = 0x10010, 0x10020


def of(frame: bytes, *, mtu: int = 1500) -> Segment:
    found = segment(frame, len(frame), mtu=mtu)
    assert found is not None
    return found


def tracker() -> Tracker:
    """Voice is what has the DSCP EF."""
    return Tracker(lambda flow: VOICE if flow[1] >> 2 == 46 else BULK)


def sends(made: Tracker, at: int, sequence: int, payload: int = 1000, **more: int) -> None:
    made.sent(of(tcp(sequence=sequence, acknowledged=1, payload=payload, **more)), at * MS)


def answers(made: Tracker, at: int, acknowledged: int, **more: int) -> None:
    made.came(of(tcp(sequence=1, acknowledged=acknowledged, back=True, **more)), at * MS)


@pytest.mark.parametrize("v6", [False, True])
def test_a_round_trip_is_from_a_segment_to_what_acknowledges_it(v6: bool) -> None:
    made = tracker()
    made.sent(of(tcp(sequence=99, flags=SYN, v6=v6)), 0)
    made.came(of(tcp(sequence=7, acknowledged=100, flags=SYN, back=True, v6=v6)), 40 * MS)
    made.sent(of(tcp(sequence=100, acknowledged=8, payload=10, v6=v6)), 50 * MS)
    made.came(of(tcp(sequence=8, acknowledged=105, back=True, v6=v6)), 60 * MS)  # of the half of it
    made.came(of(tcp(sequence=8, acknowledged=110, back=True, v6=v6)), 130 * MS)
    found = made.classes(now=200 * MS)[BULK]
    assert (found.flows, found.counts.segments, found.counts.retransmitted) == (1, 2, 0)
    assert (found.counts.timed, found.counts.least) == (2, 0.040)
    assert found.smoothed == pytest.approx(0.040 + (0.080 - 0.040) / 8)
    (flow,) = made.flows(BULK, 5)
    assert flow.flow == ("tcp [::1]:40000 > [::2]:443" if v6 else "tcp 192.0.2.1:40000 > 198.51.100.2:443")
    assert flow.smoothed == found.smoothed
    assert flow.flow != made.flows(BULK, 5, secret=b"key")[0].flow


def test_one_segment_is_timed_at_a_time() -> None:
    made = tracker()
    for number in range(10):
        sends(made, number, 1000 * number)
    answers(made, 25, 5000)  # acknowledges the first, which is the one that is timed
    assert made.classes(now=0)[BULK].counts.timed == 1
    assert made.classes(now=0)[BULK].smoothed == pytest.approx(0.025)
    answers(made, 35, 10000)
    assert made.classes(now=0)[BULK].counts.timed == 1


def test_nothing_is_timed_over_a_retransmission() -> None:
    made = tracker()
    sends(made, 0, 0)
    sends(made, 1, 1000)
    sends(made, 300, 0)
    answers(made, 310, 2000)
    found = made.classes(now=0)[BULK]
    assert (found.counts.segments, found.counts.retransmitted, found.counts.timed) == (3, 1, 0)
    assert found.smoothed is None
    sends(made, 400, 2000)
    answers(made, 420, 3000)
    assert made.classes(now=0)[BULK].smoothed == pytest.approx(0.020)


def test_what_was_dropped_before_it_was_ever_seen_fills_a_gap_later() -> None:
    """The class's own queue dropped the second: after the third it comes as a retransmission."""
    made = tracker()
    sends(made, 0, 0)
    sends(made, 2, 2000)
    sends(made, 30, 1000)
    assert made.classes(now=0)[BULK].counts.retransmitted == 1


def test_bare_acknowledgements_and_resets_are_no_segments() -> None:
    made = tracker()
    sends(made, 0, 0, payload=0)
    made.sent(of(tcp(sequence=5, flags=RST)), MS)
    assert made.classes(now=0) == {}
    sends(made, 2, 0, payload=0, flags=FIN)
    answers(made, 12, 1)
    assert made.classes(now=0)[BULK].counts.timed == 1


def test_sequence_numbers_go_round() -> None:
    made = tracker()
    sends(made, 0, 2**32 - 500)
    answers(made, 10, 500)
    sends(made, 20, 500)
    sends(made, 30, 2**32 - 500)
    found = made.classes(now=0)[BULK].counts
    assert (found.segments, found.retransmitted, found.timed) == (3, 1, 1)


def test_the_same_ports_may_be_another_connection_and_a_syn_twice_is_not() -> None:
    made = tracker()
    for at in (0, 1000):
        made.sent(of(tcp(sequence=5_000_000, flags=SYN)), at * MS)
    assert made.classes(now=0)[BULK].counts.retransmitted == 1
    made.sent(of(tcp(sequence=77, flags=SYN)), 2000 * MS)
    answers(made, 2030, 78)
    found = made.classes(now=0)[BULK]
    assert (found.counts.retransmitted, found.smoothed) == (1, pytest.approx(0.030))


def test_another_dscp_may_be_another_class_and_classes_have_their_own_flows() -> None:
    made = tracker()
    sends(made, 0, 0)
    answers(made, 80, 1000)
    sends(made, 100, 0, sport=40001, tos=46 << 2)
    answers(made, 110, 1000, sport=40001)
    found = made.classes(now=200 * MS)
    assert (found[BULK].smoothed, found[VOICE].smoothed) == (pytest.approx(0.080), pytest.approx(0.010))
    sends(made, 200, 1000, tos=46 << 2)
    found = made.classes(now=11_000 * MS)
    assert [(found[one].flows, found[one].counts.segments) for one in (BULK, VOICE)] == [(0, 1), (0, 2)]
    assert found[BULK].smoothed is None, "silent for too long"
    assert found[BULK].counts.least == pytest.approx(0.080)


def test_memory_is_bounded_and_the_silent_go_first() -> None:
    made = Tracker(lambda _: BULK, most=2)
    for number, port in enumerate((1, 2, 1, 3)):
        sends(made, number, 1000 * number, sport=port)
    assert {one.flow.split(":")[1].split(" ")[0] for one in made.flows(BULK, 9)} == {"1", "3"}
    assert made.classes(now=0)[BULK].counts.segments == 4


def test_after_frames_were_lost_here_nothing_pending_is_timed() -> None:
    made = tracker()
    sends(made, 0, 0)
    made.missed()
    answers(made, 5000, 1000)
    assert made.classes(now=0)[BULK].counts.timed == 0


def test_a_super_packet_is_as_many_segments_as_it_becomes() -> None:
    whole = tcp(sequence=0, acknowledged=1, payload=14480, options=bytes(12))
    assert of(whole).pieces == 10
    assert of(whole).span == 14480
    cut = segment(whole[:SNAP], len(whole), mtu=1500)
    assert cut == of(whole)


@given(st.binary(max_size=120), st.integers(0, 2000))
def test_any_bytes_are_a_segment_or_none(data: bytes, length: int) -> None:
    for kind in (b"\x08\x00\x45", b"\x86\xdd\x60", b""):
        found = segment(bytes(12) + kind + data, length, mtu=1500)
        assert found is None or (found.span >= 0 and found.pieces >= 1)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 30), max_size=60), st.floats(0.001, 0.3))
def test_a_path_of_one_delay_is_found_whatever_is_sent_again(first: int, again: list[int], delay: float) -> None:
    """Every segment is acknowledged `delay` later, those sent again too; no sample is of anything else."""
    made, wait, at = tracker(), round(delay * 1e9), 0
    high = 0
    for number in again:
        sequence = min(number, high)
        made.sent(of(tcp(sequence=(first + 100 * sequence) % 2**32, acknowledged=1, payload=100)), at)
        high = max(high, sequence + 1)
        back = (first + 100 * high) % 2**32
        made.came(of(tcp(sequence=1, acknowledged=back, back=True)), at + wait)
        at += wait * 2
    found = made.classes(now=at)
    if again:
        counts = found[BULK].counts
        assert counts.segments == len(again)
        assert counts.timed == counts.segments - counts.retransmitted
        assert counts.least == (pytest.approx(delay, abs=1e-8) if counts.timed else None)


def picks(sampling: int, frame: bytes) -> int:
    skb = Skb(data=frame, network=14, protocol=int.from_bytes(frame[12:14], "big"))
    return run([Insn(*one) for one in tcp_filter(sampling)], skb)


@pytest.mark.parametrize("sampling", [1, 2, 64])
def test_the_filter_takes_tcp_alone(sampling: int) -> None:
    check([Insn(*one) for one in tcp_filter(sampling)])
    for other in (udp(), udp6(), b"\2" * 12 + b"\x08\x06" + bytes(46)):
        assert picks(sampling, other) == 0
    fragment = bytearray(tcp(sequence=1))
    fragment[21] = 5
    assert picks(sampling, bytes(fragment)) == 0
    assert picks(sampling, tagged(tcp(sequence=1), (0x8100, 7))) == 0


def test_of_a_flow_the_filter_takes_both_ways_or_neither_and_samples_are_nested() -> None:
    random = Random(1)
    taken = dict.fromkeys((1, 2, 4, 16), 0)
    for number in range(2000):
        about = {"sport": random.randrange(1024, 65536), "v6": bool(number % 2)}
        out = tcp(sequence=random.getrandbits(32), acknowledged=5, payload=9, options=bytes(4), **about)  # type: ignore[arg-type]
        back = tcp(sequence=random.getrandbits(32), acknowledged=77, back=True, **about)  # type: ignore[arg-type]
        held = {sampling: picks(sampling, out) for sampling in taken}
        assert held == {sampling: picks(sampling, back) for sampling in taken}
        assert set(held.values()) <= {0, SNAP}
        assert not [n for n in (2, 4, 16) if held[n] and not held[n // 2 if n < 16 else 4]]
        for sampling, length in held.items():
            taken[sampling] += length > 0
    assert taken[1] == 2000
    assert [2000 / sampling * 0.7 < taken[sampling] < 2000 / sampling * 1.3 for sampling in (2, 4, 16)] == [True] * 3
