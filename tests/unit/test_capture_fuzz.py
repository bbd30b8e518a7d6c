"""Frames that nobody should send: none ends the measurement, and what cannot be read is nobody's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import tagged, udp, udp6

from collectors.account import Account
from collectors.evidence import Evidence
from collectors.frames import dissect, parts_of
from collectors.sample import CaptureWindow, FlowKey

KNOWN, REST = 1, 2
byte = st.integers(0, 255)
extension = st.tuples(st.sampled_from((0, 43, 60)), st.integers(0, 3)).map(
    lambda made: (made[0], bytes((made[1],)) + bytes(6 + made[1] * 8))
)
sound = st.one_of(
    st.builds(udp, payload=st.binary(max_size=60), sport=st.integers(0, 65535), tos=byte, number=st.integers(0, 65535)),
    st.builds(udp6, payload=st.binary(max_size=60), chain=st.lists(extension, max_size=12).map(tuple)),
)
tags = st.lists(st.tuples(st.sampled_from((0x8100, 0x88A8, 0x9100)), st.integers(0, 4095)), max_size=4)


def classify(key: FlowKey) -> int:
    return KNOWN if key.dport == 5010 else REST


def window_of(frames: list[bytes]) -> CaptureWindow:
    """Every frame before the queue, audited by scapy, and the same after it."""
    account = Account(
        mtu=1500, sampling=1, classify=classify, horizon=1.0, audit_rate=1_000_000, taus=(0.1,), hitters=True
    )
    before = [(number * 10_000, len(data), data) for number, data in enumerate(frames)]
    account.add(before, [(stamp + 5_000, length, data) for stamp, length, data in before])
    return account.window(now=1.0, complete=2**62, drops=0)


@given(
    st.lists(st.tuples(sound, tags, st.lists(st.tuples(st.integers(0, 200), byte), max_size=6), st.integers(0, 200)))
)
def test_every_frame_is_a_class_s_or_undecoded(
    made: list[tuple[bytes, list[tuple[int, int]], list[tuple[int, int]], int]],
) -> None:
    frames = []
    for frame, outer, damage, cut in made:
        data = bytearray(tagged(frame, *outer))
        for at, value in damage:
            if at < len(data):
                data[at] = value
        frames.append(bytes(data[: cut or None]))
    window = window_of(frames)
    attributed = sum(one.arrived_packets for one in window.classes.values())
    assert attributed + window.undecoded == len(frames)
    assert window.undecoded == sum(dissect(frame) is None for frame in frames)
    assert sum(one.matched for one in window.classes.values()) + window.ambiguous <= attributed


BROKEN = {
    "no frame": b"",
    "half an Ethernet header": udp()[:9],
    "no IP header": udp()[:14],
    "half an IP header": udp()[:30],
    "half a UDP header": udp()[:38],
    "a header length below 20": udp()[:14] + b"\x44" + udp()[15:],
    "a header longer than the packet": udp()[:14] + b"\x4f" + udp()[15:],
    "a total length below the header": udp()[:16] + b"\x00\x0a" + udp()[18:],
    "a total length that cuts UDP": udp()[:16] + b"\x00\x18" + udp()[18:],
    "IPv4 that says it is IPv6": udp()[:14] + b"\x65" + udp()[15:],
    "half an IPv6 header": udp6()[:40],
    "an IPv6 length that cuts UDP": udp6()[:18] + b"\x00\x04" + udp6()[20:],
    "a chain that is cut off": udp6(chain=((0, b"\0" + bytes(6)),))[:58],
    "a chain without an end": udp6(chain=((60, b"\0" + bytes(6)),) * 12),
    "an extension beyond the packet": udp6(chain=((0, b"\xff" + bytes(6)),)),
    "three tags": tagged(udp(), (0x88A8, 1), (0x8100, 2), (0x8100, 3)),
    "a tag and nothing": tagged(udp(), (0x8100, 7))[:16],
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_nobodys(what: str) -> None:
    window = window_of([BROKEN[what]])
    assert (window.undecoded, dict(window.classes), window.ambiguous, window.misclassified) == (1, {}, 0, 0)


@pytest.mark.parametrize(
    ("frame", "classid"),
    [
        (udp(), KNOWN),
        (udp6(), KNOWN),
        (tagged(udp(), (0x8100, 5)), KNOWN),
        (tagged(udp6(), (0x88A8, 5), (0x8100, 6)), KNOWN),
        (udp6(chain=((0, b"\0" + bytes(6)), (60, b"\1" + bytes(14)))), KNOWN),
        # Fragments have no ports, the first as little as the others.
        (udp()[:20] + b"\x20\x00" + udp()[22:], REST),
        (udp()[:20] + b"\x00\xb9" + udp()[22:], REST),
        (udp6(chain=((44, b"\0\0\x08" + bytes(4)),)), REST),
    ],
    ids=[
        "IPv4",
        "IPv6",
        "a tag",
        "a tag in a tag",
        "two extensions",
        "first fragment",
        "later fragment",
        "IPv6 fragment",
    ],
)
def test_what_is_sound_is_its_class_s(frame: bytes, classid: int) -> None:
    window = window_of([frame])
    assert (window.undecoded, list(window.classes), window.audited, window.misclassified) == (0, [classid], 1, 0)


@given(sound, tags, st.lists(st.tuples(st.integers(0, 120), byte), max_size=4), st.integers(0, 160))
def test_headers_end_within_the_frame(
    frame: bytes, outer: list[tuple[int, int]], damage: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(tagged(frame, *outer))
    for at, value in damage:
        if at < len(data):
            data[at] = value
    found = parts_of(bytes(data[: cut or None]))
    if found is not None:
        addresses, width, end = found
        assert 14 < addresses < addresses + 2 * width <= end <= len(data)


def test_evidence_of_what_is_broken_is_its_ethernet_header() -> None:
    evidence = object.__new__(Evidence)
    evidence._payload, evidence._addresses, evidence._key = False, b"", b"key"
    assert [len(evidence._kept(frame)) for frame in BROKEN.values()] == [min(14, len(one)) for one in BROKEN.values()]
