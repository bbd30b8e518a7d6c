"""Recorded frames: pcap and pcapng read, whoever wrote them; and pcap with nanoseconds written.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. What is not Ethernet gets an Ethernet header put before
it, so that the measurement reads all frames alike: raw IP, and what `tcpdump -i any` writes (Linux SLL and SLL2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from collectors.errors import CaptureError
from collectors.ring import Frame

_MAGICS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # ns in the unit of a stamp's fraction
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_ORDER = 0x1A2B3C4D
_RESOLUTION, _OFFSET = 9, 14
_ETHERNET, _RAW, _SLL, _SLL2 = 1, 101, 113, 276
_RAWS = frozenset((_RAW, 12, 14, 228, 229))
_LARGEST = 1 << 24
"""No block of a file may be larger: what says so is damaged."""
_MOST_INTERFACES = 1 << 12
_ADDRESSES = bytes(12)
_HEADER = struct.Struct("=IHHiIII")
_RECORD = struct.Struct("=IIII")


class DamagedError(CaptureError):
    """The file is no capture, or broken off."""


def frames(path: Path) -> Iterator[Frame]:
    """Every frame of a capture, in its order. Raises DamagedError where it is damaged, and OSError."""
    with path.open("rb") as file:
        start = file.read(4)
        if len(start) < 4:
            raise DamagedError(f"{path} is empty", "record it again, with `tcpdump -w` for instance")
        if start == struct.pack("=I", _SECTION):  # alike in both orders
            yield from _Blocks(path, file).frames()
            return
        for order in "<>":
            unit = _MAGICS.get(struct.unpack(order + "I", start)[0])
            if unit is not None:
                yield from _records(path, file, order, unit)
                return
    raise DamagedError(f"{path} is neither pcap nor pcapng", "record it with `tcpdump -w` or `shaper measure --pcap`")


def header() -> bytes:
    """The beginning of a file that `record` goes on with."""
    return _HEADER.pack(0xA1B23C4D, 2, 4, 0, 0, 65535, _ETHERNET)


def record(frame: Frame) -> bytes:
    """A frame as a file has it."""
    stamp, length, data = frame
    return _RECORD.pack(stamp // 10**9 & 0xFFFFFFFF, stamp % 10**9, len(data), max(length, len(data))) + data


def _records(path: Path, file: BinaryIO, order: str, unit: int) -> Iterator[Frame]:
    rest = _exactly(path, file, 20)
    kind = struct.unpack(order + "I", rest[16:])[0] & 0xFFFF
    while head := file.read(16):
        if len(head) < 16:
            raise _broken(path)
        seconds, fraction, kept, length = struct.unpack(order + "IIII", head)
        if kept > _LARGEST:
            raise _broken(path)
        data = _exactly(path, file, kept)
        yield _ethernet(path, kind, seconds * 10**9 + fraction * unit, length, data)


@dataclass(slots=True)
class _Interface:
    kind: int
    numerator: int = 1000
    """A stamp is so many ns, over the denominator."""
    denominator: int = 1
    offset: int = 0


@dataclass(slots=True)
class _Blocks:
    path: Path
    file: BinaryIO
    order: str = "<"
    interfaces: list[_Interface] = field(default_factory=list)

    def frames(self) -> Iterator[Frame]:
        """After the first four bytes."""
        kind: int | None = _SECTION
        while kind is not None:
            body = self._body(kind)
            if kind == _INTERFACE:
                self._interface(body)
            elif kind == _ENHANCED:
                yield self._enhanced(body)
            elif kind == _SIMPLE:
                hint = "record it with time stamps: `tcpdump -w` does"
                raise DamagedError(f"{self.path} has frames without time stamps", hint)
            head = self.file.read(4)
            if head and len(head) < 4:
                raise _broken(self.path)
            kind = struct.unpack(self.order + "I", head)[0] if head else None

    def _body(self, kind: int) -> bytes:
        head = _exactly(self.path, self.file, 8 if kind == _SECTION else 4)
        if kind == _SECTION:
            orders = [order for order in "<>" if struct.unpack(order + "I", head[4:])[0] == _ORDER]
            if not orders:
                raise _broken(self.path)
            self.order, self.interfaces = orders[0], []
        length = struct.unpack(self.order + "I", head[:4])[0]
        if not 12 <= length <= _LARGEST or length % 4:
            raise _broken(self.path)
        body = _exactly(self.path, self.file, length - 4 - len(head) - 4)
        if struct.unpack(self.order + "I", _exactly(self.path, self.file, 4))[0] != length:
            raise _broken(self.path)
        return body

    def _interface(self, body: bytes) -> None:
        if len(body) < 8 or len(self.interfaces) >= _MOST_INTERFACES:
            raise _broken(self.path)
        made = _Interface(struct.unpack(self.order + "H", body[:2])[0])
        at = 8
        while at + 4 <= len(body):
            code, length = struct.unpack(self.order + "HH", body[at : at + 4])
            value = body[at + 4 : at + 4 + length]
            if code == 0:
                break
            if code == _RESOLUTION and len(value) == 1:
                power = value[0] & 0x7F
                if power > 40:
                    raise _broken(self.path)
                made.numerator, made.denominator = 10**9, (2 if value[0] & 0x80 else 10) ** power
            elif code == _OFFSET and len(value) == 8:
                made.offset = struct.unpack(self.order + "q", value)[0]
            at += 4 + length + (-length) % 4
        self.interfaces.append(made)

    def _enhanced(self, body: bytes) -> Frame:
        if len(body) < 20:
            raise _broken(self.path)
        number, high, low, kept, length = struct.unpack(self.order + "IIIII", body[:20])
        if number >= len(self.interfaces) or kept > len(body) - 20:
            raise _broken(self.path)
        one = self.interfaces[number]
        stamp = (high << 32 | low) * one.numerator // one.denominator + one.offset * 10**9
        return _ethernet(self.path, one.kind, stamp, length, body[20 : 20 + kept])


def _ethernet(path: Path, kind: int, stamp: int, length: int, data: bytes) -> Frame:
    if kind == _ETHERNET:
        return stamp, length, data
    if kind in _RAWS:
        ethertype = b"\x86\xdd" if data[:1] and data[0] >> 4 == 6 else b"\x08\x00"
        return stamp, length + 14, _ADDRESSES + ethertype + data
    if kind == _SLL:
        return stamp, length - 2, _ADDRESSES + data[14:16] + data[16:]
    if kind == _SLL2:
        return stamp, length - 6, _ADDRESSES + data[:2] + data[20:]
    raise DamagedError(f"{path} has frames of link type {kind}", "Ethernet, raw IP and Linux SLL are read")


def _exactly(path: Path, file: BinaryIO, count: int) -> bytes:
    data = file.read(count) if count >= 0 else b""
    if len(data) != count:
        raise _broken(path)
    return data


def _broken(path: Path) -> DamagedError:
    return DamagedError(f"{path} is damaged, or was cut off", "record it again, and end the recorder before it is read")
