"""How a sequence number becomes a packet of each kind, and an answer a number again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from collectors.probe import stamp
from collectors.probe.log import Answer
from collectors.probe.ntp import ErrorEstimate, to_ntp

_ECHO = struct.Struct("!BBHHH")
_DNS = struct.Struct("!HHHHHH")
_RECURSE, _IS_ANSWER = 0x0100, 0x8000
_SOA, _INTERNET = 6, 1
_WRAP = 1 << 16


class Codec(Protocol):
    """`pack` is given the wall time in ns; `unpack` raises stamp.BadPacketError for what answers none of ours."""

    def pack(self, sequence: int, *, wall: int) -> bytes: ...
    def unpack(self, data: bytes) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """STAMP, and with `tlv` false TWAMP-light, which pads with zeroes. `clock` says how far our clock may be off."""

    clock: Callable[[], ErrorEstimate]
    size: int = stamp.BASE
    key: bytes = b""
    session: int = 0
    tlv: bool = True

    def pack(self, sequence: int, *, wall: int) -> bytes:
        request = stamp.Request(sequence, to_ntp(wall), self.clock().pack(), self.session)
        return stamp.pack_request(request, size=self.size, key=self.key, tlv=self.tlv)

    def unpack(self, data: bytes) -> Answer:
        reply = stamp.unpack_reply(data, key=self.key)
        came, went = reply.times
        return Answer(reply.sender_sequence, came, went, reply.estimate, reply.sender_ttl, reply.sequence)


class Echo:
    """ICMP echo (RFC 792, RFC 4443) of `size` bytes of data.

    The kernel writes the identifier of a ping socket; a raw one has `identifier` written and looked for here.
    """

    def __init__(self, *, v6: bool, size: int, identifier: int | None = None) -> None:
        self._request, self._reply = (128, 129) if v6 else (8, 0)
        self._summed = not v6  # of IPv6 the kernel writes the checksum
        self._size = size
        self._identifier = identifier
        self._numbers = _Sixteen()

    def pack(self, sequence: int, *, wall: int) -> bytes:
        del wall
        rest = bytes(index & 0xFF for index in range(self._size))
        number = self._numbers.of(sequence)
        head = _ECHO.pack(self._request, 0, 0, self._identifier or 0, number)
        if not self._summed:
            return head + rest
        return _ECHO.pack(self._request, 0, _checksum(head + rest), self._identifier or 0, number) + rest

    def unpack(self, data: bytes) -> Answer:
        if len(data) < _ECHO.size:
            raise stamp.BadPacketError("short")
        kind, _, _, identifier, number = _ECHO.unpack_from(data)
        if kind != self._reply or (self._identifier is not None and identifier != self._identifier):
            raise stamp.BadPacketError("not-ours")
        return Answer(self._numbers.whole(number))


class Dns:
    """A DNS query for the SOA of a name (RFC 1035); any answer with its number is one, also that there is no name."""

    def __init__(self, name: str) -> None:
        """Raises ValueError for what can be no name."""
        labels = [label.encode("idna") for label in name.strip(".").split(".")] if name.strip(".") else []
        if any(not 0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
            raise ValueError(f"{name!r} is no domain name")
        self._question = b"".join(bytes((len(label),)) + label for label in labels)
        self._question += struct.pack("!BHH", 0, _SOA, _INTERNET)
        self._numbers = _Sixteen()

    def pack(self, sequence: int, *, wall: int) -> bytes:
        del wall
        return _DNS.pack(self._numbers.of(sequence), _RECURSE, 1, 0, 0, 0) + self._question

    def unpack(self, data: bytes) -> Answer:
        if len(data) < _DNS.size:
            raise stamp.BadPacketError("short")
        number, flags = struct.unpack_from("!HH", data)
        if not flags & _IS_ANSWER:
            raise stamp.BadPacketError("not-ours")
        return Answer(self._numbers.whole(number))


class _Sixteen:
    """Sequence numbers in sixteen bits: the newest that was sent says which round a short one is of."""

    def __init__(self) -> None:
        self._newest = 0

    def of(self, sequence: int) -> int:
        self._newest = sequence
        return sequence % _WRAP

    def whole(self, number: int) -> int:
        return self._newest - (self._newest - number) % _WRAP


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
