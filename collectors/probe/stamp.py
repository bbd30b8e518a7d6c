"""The packets of STAMP (RFC 8762), and of TWAMP-light (RFC 5357, appendix I), which share their places.

What follows the base packet is padding or TLVs (RFC 8972). A reflector gives it back as it came: a sender sets the flag
"unrecognised" on each TLV, and what nobody understood keeps it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from collectors.probe.ntp import ErrorEstimate, from_ntp, from_ptp

PORT = 862
BASE, BASE_AUTHENTICATED = 44, 112
SHORTEST_REPLY = 41
"""What a TWAMP-light reflector needs (RFC 5357, section 4.2.1): STAMP's 44 without the last three zeroes."""

_SIGNED, _DIGEST = 96, 16
_SHORTEST_REQUEST = 14
_TLV = struct.Struct("!BBH")
_UNRECOGNISED, _EXTRA_PADDING = 0x80, 1

_REQUEST = struct.Struct("!IQHH")
_REPLY = struct.Struct("!IQHHQIQHxxB")
_REQUEST_AUTHENTICATED = struct.Struct("!I12xQHH")
_REPLY_AUTHENTICATED = struct.Struct("!I12xQHH4xQ8xI12xQH6xB")


class BadPacketError(ValueError):
    """Bytes that are no test packet. `reason` is one of `short`, `hmac` and `error-estimate`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Request:
    """What a Session-Sender sends; `stamp` as on the wire, `session` its identifier (RFC 8972; 0 without one)."""

    sequence: int
    stamp: int
    error: int
    session: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a Session-Reflector answers: its own sequence, stamps of sending and receiving, and the request's fields."""

    sequence: int
    stamp: int
    error: int
    session: int
    received: int
    sender_sequence: int
    sender_stamp: int
    sender_error: int
    sender_ttl: int

    @property
    def estimate(self) -> ErrorEstimate:
        """Of the reflector's clock."""
        return ErrorEstimate.unpack(self.error)

    @property
    def times(self) -> tuple[int, int]:
        """When the request came and the reply went by the reflector's clock, Unix time in ns."""
        read = from_ptp if self.estimate.ptp else from_ntp
        return read(self.received), read(self.stamp)


def pack_request(request: Request, *, size: int = 0, key: bytes = b"", tlv: bool = True) -> bytes:
    """A test packet of at least `size` bytes, authenticated where there is a key.

    What goes beyond the base packet is an Extra Padding TLV; zeroes where there is no room for one, or `tlv` is false.
    """
    layout, base = (_REQUEST_AUTHENTICATED, BASE_AUTHENTICATED) if key else (_REQUEST, BASE)
    head = layout.pack(request.sequence, request.stamp, request.error, request.session)
    return _signed(head, base, key) + _padding(size - base, tlv=tlv)


def pack_reply(reply: Reply, request: bytes, *, key: bytes = b"") -> bytes:
    """The answer to a request's bytes, exactly as long as it. Raises BadPacketError for what is too short for one."""
    layout, base = (_REPLY_AUTHENTICATED, BASE_AUTHENTICATED) if key else (_REPLY, BASE)
    if len(request) < (base if key else SHORTEST_REPLY):
        raise BadPacketError("short")
    head = layout.pack(
        reply.sequence,
        reply.stamp,
        reply.error,
        reply.session,
        reply.received,
        reply.sender_sequence,
        reply.sender_stamp,
        reply.sender_error,
        reply.sender_ttl,
    )
    return (_signed(head, base, key) + request[base:])[: len(request)]


def unpack_request(data: bytes, *, key: bytes = b"") -> Request:
    """What a sender sent. Raises BadPacketError."""
    if len(data) < (BASE_AUTHENTICATED if key else _SHORTEST_REQUEST):
        raise BadPacketError("short")
    if key:
        _verify(data, key)
        request = Request(*_REQUEST_AUTHENTICATED.unpack_from(data))
    else:
        request = Request(*_REQUEST.unpack_from(data.ljust(BASE, b"\0")))
    _estimate(request.error)
    return request


def unpack_reply(data: bytes, *, key: bytes = b"") -> Reply:
    """What a reflector answered. Raises BadPacketError."""
    if len(data) < (BASE_AUTHENTICATED if key else SHORTEST_REPLY):
        raise BadPacketError("short")
    if key:
        _verify(data, key)
    reply = Reply(*(_REPLY_AUTHENTICATED if key else _REPLY).unpack_from(data))
    _estimate(reply.error)
    return reply


def _signed(head: bytes, base: int, key: bytes) -> bytes:
    """The base packet: zeroes after the head, and where there is a key the digest of the first six blocks."""
    if not key:
        return head.ljust(base, b"\0")
    head = head.ljust(_SIGNED, b"\0")
    return head + _digest(head, key)


def _digest(data: bytes, key: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)[:_DIGEST]


def _verify(data: bytes, key: bytes) -> None:
    if not hmac.compare_digest(_digest(data[:_SIGNED], key), data[_SIGNED:BASE_AUTHENTICATED]):
        raise BadPacketError("hmac")


def _estimate(bits: int) -> None:
    try:
        ErrorEstimate.unpack(bits)
    except ValueError:
        raise BadPacketError("error-estimate") from None


def _padding(size: int, *, tlv: bool) -> bytes:
    if size <= 0:
        return b""
    if not tlv or size < _TLV.size:
        return bytes(size)
    return _TLV.pack(_UNRECOGNISED, _EXTRA_PADDING, size - _TLV.size).ljust(size, b"\0")
