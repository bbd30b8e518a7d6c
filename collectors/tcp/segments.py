"""Ethernet frames to TCP segments: of which flow, which bytes, and what they acknowledge. Headers are enough."""

from __future__ import annotations

import struct
from typing import NamedTuple

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_TCP, _ETHERNET = 6, 14
_FIN, SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_FIELDS = struct.Struct("!4sIIBB")  # ports, sequence, acknowledgement, length of the header, flags


class Segment(NamedTuple):
    """`flow` as `collectors.frames` names it, without its DS byte; `back` is the same the other way.

    `span` is how many sequence numbers it takes, `payload` of them bytes, in `pieces` segments on the wire.
    `acknowledged` is None without ACK.
    """

    flow: bytes
    back: bytes
    tos: int
    sequence: int
    span: int
    pieces: int
    acknowledged: int | None
    opens: bool


def segment(frame: bytes, length: int, *, mtu: int) -> Segment | None:
    """Of an untagged frame that had `length` bytes; None of what is no whole TCP header.

    A super-packet counts for as many segments as the device's `mtu` (bytes) makes of it.
    """
    kind = frame[12:14]
    if kind == _IPV4:
        if len(frame) < 34 or frame[23] != _TCP or frame[20] & 0x3F or frame[21]:
            return None
        at, said = _ETHERNET + (frame[14] & 0x0F) * 4, frame[16] << 8 | frame[17]
        version, tos, addresses, width = b"\x04\0\x06", frame[15], frame[26:34], 4
        end = _ETHERNET + said if said else length
    elif kind == _IPV6:
        if len(frame) < 54 or frame[20] != _TCP:
            return None
        at, said = 54, frame[18] << 8 | frame[19]
        version, tos, addresses, width = b"\x06\0\x06", (frame[14] & 0x0F) << 4 | frame[15] >> 4, frame[22:54], 16
        end = 54 + said if said else length
    else:
        return None
    if at < 34 or len(frame) < at + 20:
        return None
    ports, sequence, acknowledged, size, flags = _FIELDS.unpack_from(frame, at)
    begins = at + (size >> 4) * 4
    payload = end - begins
    if size < 0x50 or payload < 0 or end > length:
        return None
    most = mtu + _ETHERNET - begins
    return Segment(
        flow=version + addresses + ports,
        back=version + addresses[width:] + addresses[:width] + ports[2:] + ports[:2],
        tos=tos,
        sequence=sequence,
        span=payload + (flags & SYN > 0) + (flags & _FIN > 0) if not flags & _RST else 0,
        pieces=-(-payload // most) if payload > most > 0 else 1,
        acknowledged=acknowledged if flags & _ACK else None,
        opens=bool(flags & SYN),
    )
