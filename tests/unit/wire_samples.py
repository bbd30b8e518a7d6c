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
