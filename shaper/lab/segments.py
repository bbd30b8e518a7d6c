"""TCP as the receiver sees it: when each segment was sent is in the segment, in milliseconds (RFC 7323, TSval).

Both hosts of the lab stamp by the same clock without an offset (`tcp_timestamps=2`), and a retransmission has a stamp
of its own. So the delay of TCP is known without any account of the sender's, to half a millisecond.
"""

from __future__ import annotations

import ctypes
import socket
import struct

_SO_ATTACH_FILTER = 26
_ETH_P_ALL = 3
_TCP, _TIMESTAMPS, _END, _NOP = 6, 8, 0, 1
_MS = 10**6
_KEPT = 160
INCOMING_TCP = (
    (0x20, 0, 0, 0xFFFFF004),  # the packet's direction (SKF_AD_PKTTYPE)
    (0x15, 9, 0, 4),  # PACKET_OUTGOING: no
    (0x30, 0, 0, 0),
    (0x54, 0, 0, 0xF0),  # IP version
    (0x15, 0, 2, 0x40),
    (0x30, 0, 0, 9),
    (0x15, 3, 4, _TCP),
    (0x15, 0, 3, 0x60),
    (0x30, 0, 0, 6),
    (0x15, 0, 1, _TCP),
    (0x06, 0, 0, _KEPT),
    (0x06, 0, 0, 0),
)


def tap() -> socket.socket:
    """A packet socket that gets the first bytes, from the IP header on, of every TCP segment that comes in."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in INCOMING_TCP))
    program = struct.pack("HP", len(INCOMING_TCP), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    return sock


def start(sock: socket.socket, device: str) -> None:
    """Lets it take what comes in by the device."""
    sock.bind((device, _ETH_P_ALL))


def stamp_of(packet: bytes) -> tuple[int, int] | None:
    """(destination port, TSval in ms) of an IPv4 or IPv6 packet with a TCP segment; None where it carries no stamp."""
    at = 40 if packet[0] >> 4 == 6 else (packet[0] & 15) * 4
    end = min(len(packet), at + (packet[at + 12] >> 4) * 4)
    (port,) = struct.unpack_from("!H", packet, at + 2)
    at += 20
    while at + 1 < end and packet[at] != _END:
        if packet[at] == _NOP:
            at += 1
            continue
        if packet[at] == _TIMESTAMPS and at + 6 <= end:
            return port, struct.unpack_from("!I", packet, at + 2)[0]
        at += max(2, packet[at + 1])
    return None


def sent_at(stamp: int, *, arrived: int, offset: int) -> int:
    """When a segment with this TSval was sent, in ns of the wall clock, `offset` ns ahead of the stamps' clock.

    The middle of the millisecond, but not after it `arrived`. The 32 bits of a TSval come round every 49 days.
    """
    now = (arrived - offset) // _MS
    age = (now - stamp + 2**31) % 2**32 - 2**31
    return min((now - age) * _MS + _MS // 2 + offset, arrived)
