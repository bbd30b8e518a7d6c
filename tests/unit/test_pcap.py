"""Recordings: what was written is read again, what others wrote too, and damage is refused and nothing else."""

from __future__ import annotations

import struct
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_samples import udp

from collectors import pcap
from collectors.errors import CaptureError
from collectors.evidence import Evidence
from collectors.frames import dissect
from collectors.matching import Matcher
from collectors.ring import Frame

BEGUN = 1_700_000_000 * 10**9

any_frames = st.lists(
    st.tuples(st.integers(0, 2**32 * 10**9 - 1), st.integers(0, 70_000), st.binary(max_size=200)), max_size=20
)


def written(path: Path, frames: list[Frame]) -> Path:
    path.write_bytes(pcap.header() + b"".join(map(pcap.record, frames)))
    return path


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, 12 + len(body)) + body + struct.pack(order + "I", 12 + len(body))


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", link: int = 1, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, 0) + options, order)


def packet(stamp: int, data: bytes, order: str = "<", number: int = 0) -> bytes:
    head = struct.pack(order + "IIIII", number, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
    return block(6, head + data, order)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=any_frames)
def test_what_is_written_is_read_again(tmp_path: Path, frames: list[Frame]) -> None:
    read = list(pcap.frames(written(tmp_path / "x.pcap", frames)))
    assert read == [(stamp, max(length, len(data)), data) for stamp, length, data in frames]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_old_pcap_in_both_orders_and_units(tmp_path: Path, order: str, magic: int, unit: int) -> None:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    (tmp_path / "x").write_bytes(head + struct.pack(order + "IIII", 7, 5, 3, 60) + b"abc")
    assert list(pcap.frames(tmp_path / "x")) == [(7 * 10**9 + 5 * unit, 60, b"abc")]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("resolution", "stamp"),
    [(b"", BEGUN // 1000), (b"\x09", BEGUN), (b"\x8a", BEGUN // 10**9 << 10), (b"\x00", BEGUN // 10**9)],
)
def test_pcapng_in_both_orders_and_any_resolution(tmp_path: Path, order: str, resolution: bytes, stamp: int) -> None:
    option = struct.pack(order + "HH", 9, 1) + resolution + bytes(3) if resolution else b""
    other = block(0x0BAD, b"unknown", order)
    content = section(order) + interface(order, options=option) + other + packet(stamp, b"abcde", order)
    (tmp_path / "x").write_bytes(content)
    assert list(pcap.frames(tmp_path / "x")) == [(BEGUN, 5, b"abcde")]


def test_scapy_writes_what_is_read(tmp_path: Path) -> None:
    from scapy.layers.inet import IP, UDP  # noqa: PLC0415
    from scapy.layers.l2 import Ether  # noqa: PLC0415
    from scapy.utils import PcapNgWriter, wrpcap  # noqa: PLC0415

    frame = (
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / IP(dst="192.0.2.1") / UDP(sport=5, dport=7) / b"xyz"
    )
    frame.time = 1_700_000_000.25
    wrpcap(str(tmp_path / "old.pcap"), [frame])
    writer = PcapNgWriter(str(tmp_path / "new.pcapng"))
    writer.write(frame)
    writer.close()
    for name in ("old.pcap", "new.pcapng"):
        assert list(pcap.frames(tmp_path / name)) == [(BEGUN + 250_000_000, len(bytes(frame)), bytes(frame))]


@pytest.mark.parametrize(
    ("link", "data", "ethertype"),
    [
        (101, b"\x45" + bytes(19), b"\x08\x00"),
        (101, b"\x60" + bytes(39), b"\x86\xdd"),
        (113, bytes(14) + b"\x86\xdd" + b"\x60" + bytes(39), b"\x86\xdd"),
        (276, b"\x08\x00" + bytes(18) + b"\x45" + bytes(19), b"\x08\x00"),
    ],
)
def test_other_links_look_like_ethernet(tmp_path: Path, link: int, data: bytes, ethertype: bytes) -> None:
    (tmp_path / "x").write_bytes(section() + interface(link=link) + packet(1, data))
    ((_, length, frame),) = pcap.frames(tmp_path / "x")
    assert (frame[12:14], length, frame[14] >> 4 in (4, 6)) == (ethertype, len(frame), True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"GIF89a..", "neither pcap nor pcapng"),
        (pcap.header()[:10], "damaged"),
        (pcap.header() + b"half", "damaged"),
        (pcap.header() + struct.pack("=IIII", 0, 0, 1 << 30, 0), "damaged"),
        (section() + packet(1, b"of no interface"), "damaged"),
        (section() + block(3, bytes(8)), "without time stamps"),
        (section() + struct.pack("<II", 6, 9), "damaged"),
        (section() + interface(link=147) + packet(1, b"x"), "link type 147"),
    ],
)
def test_what_is_damaged_is_refused_with_a_mend(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CaptureError, match=said) as refused:
        list(pcap.frames(tmp_path / "x"))
    assert refused.value.hint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), old=st.booleans())
def test_any_damage_is_a_refusal_or_frames(tmp_path: Path, data: st.DataObject, old: bool) -> None:
    whole = pcap.header() + pcap.record((1, 5, b"abcde")) * 3
    if not old:
        whole = section() + interface(options=struct.pack("<HH", 9, 1) + b"\x09\0\0\0") + packet(1, b"abcde") * 3
    content = bytearray(whole)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8)):
        content[at] = value
    del content[data.draw(st.integers(0, len(whole))) :]
    (tmp_path / "x").write_bytes(content)
    try:
        list(pcap.frames(tmp_path / "x"))
    except CaptureError as error:
        assert error.hint


def frame_of(number: int, payload: bytes = b"") -> bytes:
    return udp(payload=number.to_bytes(4, "big") + (payload or b"very secret words that nobody needs"))


def kept(folder: Path, frames: list[Frame], **how: object) -> dict[str, list[Frame]]:
    evidence = Evidence(folder / "x.pcap", room=1 << 20, **how)  # type: ignore[arg-type]
    evidence.add(frames, [(stamp + 5, length, data) for stamp, length, data in frames])
    return {path.name: list(pcap.frames(path)) for path in evidence.close()}


def test_no_payload_is_kept_and_the_pair_still_matches(tmp_path: Path) -> None:
    frames = [(BEGUN + number, 100, frame_of(number)) for number in range(50)]
    found = kept(tmp_path, frames)
    assert sorted(found) == ["x.after.pcap", "x.before.pcap"]
    assert not [one for one in chain(*found.values()) if b"secret" in one[2] or len(one[2]) != 14 + 20 + 8 + 8]
    assert (tmp_path / "x.before.pcap").stat().st_mode & 0o777 == 0o600
    matcher = Matcher(horizon=1.0)
    arrivals = [(stamp, parts[0], 1, True) for stamp, _, data in found["x.before.pcap"] if (parts := dissect(data))]
    departures = [(stamp, parts[0]) for stamp, _, data in found["x.after.pcap"] if (parts := dissect(data))]
    matcher.add(arrivals, departures)
    assert matcher.match(complete=BEGUN + 10**9).delays == {1: [5e-9] * 50}


def test_addresses_are_hashed_alike_for_alike_and_otherwise_next_time(tmp_path: Path) -> None:
    frames = [(BEGUN, 100, frame_of(1)), (BEGUN, 100, frame_of(2))]
    first = kept(tmp_path, frames, secret=b"one")["x.before.pcap"]
    second = kept(tmp_path, frames, secret=b"two")["x.before.pcap"]
    (one, other), again, plain = (frame[2][26:34] for frame in first), second[0][2][26:34], frames[0][2][26:34]
    assert one == other != again
    assert not {one, again} & {plain}
    assert plain[:4] not in b"".join(frame[2] for frame in first)


def test_payload_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    frames = [(BEGUN, 100, frame_of(1))]
    assert kept(tmp_path, frames, payload=True)["x.before.pcap"] == frames


def test_files_never_take_more_room_than_they_may(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "x.pcap", room=64_000)
    for number in range(4000):
        evidence.add([(BEGUN + number, 100, frame_of(number))], [])
    files = evidence.close()
    assert len(files) == 4 + 1
    assert sum(path.stat().st_size for path in files) <= 64_000
    newest = list(pcap.frames(tmp_path / "x.before.pcap"))
    assert newest[-1][0] == BEGUN + 3999
    older = list(pcap.frames(tmp_path / "x.before.1.pcap"))
    assert older[-1][0] + 1 == newest[0][0]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="nowhere") as refused:
        Evidence(tmp_path / "nowhere" / "x.pcap", room=1 << 20)
    assert refused.value.hint
