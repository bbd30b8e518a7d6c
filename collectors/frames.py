"""Ethernet frames to what the measurement needs of them: which packet it is, and which flow it belongs to.

Both are plain bytes: `identity` is what nothing changes while the packet waits, `flow` what decides its class. Not in
the identity: the time to live, the DS byte (marks change), checksums (finished after the queue where the device is to).
"""

from __future__ import annotations

import struct

from collectors.sample import FlowKey

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_VLAN = frozenset((b"\x81\x00", b"\x88\xa8", b"\x91\x00"))
_VLAN_DEPTH = 2

_ICMP, TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_DCCP, _SCTP, _UDPLITE = 33, 132, 136
_FRAGMENT = 44
_EXTENSIONS = frozenset((0, 43, 60, _FRAGMENT))
_EXTENSION_DEPTH = 8

_NO_NEXT = 59
_LONGEST = 65535

_DATAGRAMS = frozenset((_UDP, _UDPLITE, _DCCP))
_CONTROL = frozenset((_ICMP, _ICMPV6))

_PAYLOAD = 32  # bytes of payload in an identity: RTP's sequence number and more
_OPAQUE = 24  # of what we cannot look into; in a tunnel it ends before the checksums of the inner packet

_IPV4_HEADER = struct.Struct("!B1s6sx1s2x8s")  # the 6 are length, identification, flags and fragment offset
_PORTS = struct.Struct("!HH")


def dissect(frame: bytes, *, detailed: bool = False) -> tuple[bytes, bytes] | None:
    """`(identity, flow)` of an IPv4 or IPv6 frame, possibly cut short; None when it is neither, or malformed.

    VLAN tags are stepped over; two frames that differ only in them count as alike. With `detailed` the length and TCP's
    flags are part of the flow: then there are many more of them.
    """
    kind = frame[12:14]
    if kind == _IPV4:
        return _ipv4(frame, 14, detailed)
    at = 14
    for _ in range(_VLAN_DEPTH):
        if kind not in _VLAN:
            break
        kind = frame[at + 2 : at + 4]
        at += 4
    if kind == _IPV4:
        return _ipv4(frame, at, detailed)
    if kind == _IPV6:
        return _ipv6(frame, at, detailed)
    return None


def parts_of(frame: bytes) -> tuple[int, int, int] | None:
    """Where an IP frame's addresses begin, how long one is, and where its headers end; None as `dissect`."""
    if dissect(frame) is None:
        return None
    at, kind = 12, frame[12:14]
    while kind in _VLAN:
        at += 4
        kind = frame[at : at + 2]
    at += 2
    if kind == _IPV4:
        upper, protocol = at + (frame[at] & 0x0F) * 4, frame[at + 9]
        fragment = bool(frame[at + 6] & 0x3F or frame[at + 7])
        addresses, width = at + 12, 4
    else:
        upper, protocol, fragment = at + 40, frame[at + 6], False
        while protocol in _EXTENSIONS and not fragment:
            fragment = protocol == _FRAGMENT
            protocol, length = frame[upper], 8 if fragment else (frame[upper + 1] + 1) * 8
            upper += length
        addresses, width = at + 8, 16
    if fragment:
        size = 0
    elif protocol == TCP:
        size = (frame[upper + 12] >> 4) * 4
    else:
        size = 8 if protocol in _DATAGRAMS | _CONTROL else 12 if protocol == _SCTP else 0
    return addresses, width, min(len(frame), upper + size)


def _ipv4(frame: bytes, at: int, detailed: bool) -> tuple[bytes, bytes] | None:
    if len(frame) < at + 20:
        return None
    first, tos, fixed, protocol, addresses = _IPV4_HEADER.unpack_from(frame, at)
    header = (first & 0x0F) * 4
    # A length of 0 is a super-packet too large for the field.
    end = at + (fixed[0] << 8 | fixed[1] or len(frame))
    if first >> 4 != 4 or header < 20 or at + header > end:
        return None
    fragment = fixed[4] & 0x3F or fixed[5]  # more to come, or an offset
    upper = _upper(frame, at + header, end, -1 if fragment else protocol[0])
    if upper is None:
        return None
    selector, tail = upper
    if detailed:
        said = fixed[0:2] if fixed[0:2] != b"\0\0" else b"\xff\xff"
        selector = said + (b"" if fragment else _flags(frame, at + header, protocol[0])) + selector
    return fixed + protocol + addresses + tail, b"\x04" + tos + protocol + addresses + selector


def _ipv6(frame: bytes, at: int, detailed: bool) -> tuple[bytes, bytes] | None:
    if len(frame) < at + 40 or frame[at] >> 4 != 6:
        return None
    protocol = frame[at + 6]
    upper_at = at + 40
    payload = frame[at + 4] << 8 | frame[at + 5]
    end = upper_at + payload if payload else len(frame)
    fragment = False
    for _ in range(_EXTENSION_DEPTH + 1):
        if protocol not in _EXTENSIONS or fragment:
            break
        if min(len(frame), end) < upper_at + 8:
            return None
        fragment = protocol == _FRAGMENT
        protocol = frame[upper_at]
        upper_at += 8 if fragment else (frame[upper_at + 1] + 1) * 8
    else:
        return None
    upper = _upper(frame, upper_at, end, protocol if not fragment else -1)
    if upper is None:
        return None
    selector, tail = upper
    mark = bytes((protocol,))
    addresses = frame[at + 8 : at + 40]
    traffic_class = (frame[at] & 0x0F) << 4 | frame[at + 1] >> 4
    # The extension headers are in the identity whole: a fragment's number is in them.
    identity = frame[at + 4 : at + 6] + mark + addresses + frame[at + 40 : upper_at] + tail
    if detailed:
        silent = 40 if frame[at + 6] == _NO_NEXT else _LONGEST
        length = min(payload + 40, _LONGEST) if payload else silent
        selector = length.to_bytes(2, "big") + (b"" if fragment else _flags(frame, upper_at, protocol)) + selector
    return identity, bytes((6, traffic_class)) + mark + addresses + selector


def _upper(frame: bytes, at: int, end: int, protocol: int) -> tuple[bytes, bytes] | None:
    """What of layer 4 selects the class, and what identifies the packet; `protocol` is -1 in fragments.

    Headers that the length in the IP header (`end`) or the frame cuts short are malformed.
    """
    end = min(end, len(frame))
    if protocol in _DATAGRAMS:
        if end < at + 8:
            return None
        ports = frame[at : at + 4]
        return ports, ports + frame[at + 8 : at + 8 + _PAYLOAD]
    if protocol == TCP:
        if end < at + 20 or (header := (frame[at + 12] >> 4) * 4) < 20:
            return None
        return frame[at : at + 4], frame[at : at + 16] + frame[at + 18 : at + header + _PAYLOAD]
    if protocol == _SCTP:
        if end < at + 12:
            return None
        return frame[at : at + 4], frame[at : at + 8] + frame[at + 12 : at + 12 + _PAYLOAD]
    if protocol in _CONTROL:
        if end < at + 4:
            return None
        return frame[at : at + 1], frame[at : at + 2] + frame[at + 4 : at + 4 + _PAYLOAD]
    if end < at:
        return None
    return b"", frame[at : at + _OPAQUE]


def _flags(frame: bytes, at: int, protocol: int) -> bytes:
    """TCP's flags; `_upper` has seen that they are there."""
    return frame[at + 13 : at + 14] if protocol == TCP else b""


def flow_key(flow: bytes, *, detailed: bool = False) -> FlowKey:
    """The fields of a flow that `dissect` gave."""
    width = 4 if flow[0] == 4 else 16
    split = 3 + width
    selector = flow[split + width :]
    length = flags = None
    if detailed:
        length, selector = int.from_bytes(selector[:2], "big"), selector[2:]
        if len(selector) == 5:
            flags, selector = selector[0], selector[1:]
    sport, dport = _PORTS.unpack(selector) if len(selector) == 4 else (None, None)
    return FlowKey(
        ethertype=0x0800 if width == 4 else 0x86DD,
        protocol=flow[2],
        src=int.from_bytes(flow[3:split], "big"),
        dst=int.from_bytes(flow[split : split + width], "big"),
        sport=sport,
        dport=dport,
        dscp=flow[1] >> 2,
        icmp_type=selector[0] if len(selector) == 1 else None,
        ecn=flow[1] & 3,
        tcp_flags=flags,
        length=length,
    )


def is_tcp(flow: bytes) -> bool:
    """Whether the flow's sender slows down by itself."""
    return flow[2] == TCP
