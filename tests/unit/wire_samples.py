"""Whole Ethernet frames, built by hand."""

from __future__ import annotations

import struct

MACS = bytes.fromhex("020000000002020000000001")


def udp(*, payload: bytes = b"payload", sport: int = 5000, dport: int = 5010, tos: int = 0, number: int = 1) -> bytes:
    """UDP in IPv4, of 192.0.2.1 to 198.51.100.2."""
    total = 28 + len(payload)
    addresses = bytes((192, 0, 2, 1, 198, 51, 100, 2))
    header = struct.pack("!BBHHHBBH", 0x45, tos, total, number, 0, 64, 17, 0) + addresses
    return MACS + b"\x08\x00" + header + struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def udp6(*, payload: bytes = b"payload", chain: tuple[tuple[int, bytes], ...] = (), dport: int = 5010) -> bytes:
    """UDP in IPv6 behind a chain of extension headers: pairs of a header's kind and its bytes but the first."""
    kinds = [kind for kind, _ in chain] + [17]
    extensions = b"".join(bytes((after,)) + body for (_, body), after in zip(chain, kinds[1:], strict=True))
    inner = struct.pack("!HHHH", 5000, dport, 8 + len(payload), 0) + payload
    head = struct.pack("!IHBB", 6 << 28, len(extensions) + len(inner), kinds[0], 64)
    return MACS + b"\x86\xdd" + head + bytes(15) + b"\1" + bytes(15) + b"\2" + extensions + inner


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """The frame behind VLAN tags, the outermost first: pairs of ethertype and number."""
    return frame[:12] + b"".join(struct.pack("!HH", kind, number) for kind, number in tags) + frame[12:]


def tcp(
    *,
    sequence: int,
    acknowledged: int | None = None,
    payload: int = 0,
    flags: int = 0,
    back: bool = False,
    sport: int = 40000,
    tos: int = 0,
    options: bytes = b"",
    v6: bool = False,
) -> bytes:
    """TCP of 192.0.2.1 (or an IPv6 address) to port 443 of another; `back` is the way from there."""
    ports = (443, sport) if back else (sport, 443)
    flags |= 0x10 if acknowledged is not None else 0
    header = struct.pack(
        "!HHIIBBHHH", *ports, sequence, acknowledged or 0, (20 + len(options)) // 4 << 4, flags, 512, 0, 0
    )
    inner = header + options + bytes(payload)
    ends = [bytes(15) + b"\1", bytes(15) + b"\2"] if v6 else [bytes((192, 0, 2, 1)), bytes((198, 51, 100, 2))]
    addresses = b"".join(reversed(ends) if back else ends)
    if v6:
        return MACS + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28 | tos << 20, len(inner), 6, 64) + addresses + inner
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(inner), 1, 0x4000, 64, 6, 0)
    return MACS + b"\x08\x00" + head + addresses + inner
