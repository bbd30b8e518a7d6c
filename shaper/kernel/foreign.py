"""Filters that are not ours to program, read so far that an import can say what they mean: u32 and fw."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from collectors.netlink import Channel, attributes, open_socket
from collectors.qdisc import FilterReading, dump_filters, dump_qdiscs, parse_filters, parse_qdiscs
from shaper.kernel import explain
from shaper.policy.importers.tc import Selector
from shaper.policy.importers.u32 import Word

_U32_CLASSID, _U32_LINK, _U32_DIVISOR, _U32_SELECTOR, _U32_POLICE, _U32_ACTION, _U32_MARK = 1, 3, 4, 5, 6, 7, 10
_FW_CLASSID, _FW_POLICE, _FW_ACTION, _FW_MASK = 1, 2, 4, 5
_HEAD = struct.Struct("=BBB1xHHhhI")  # struct tc_u32_sel: flags, offshift, nkeys, offmask, off, offoff, hoff, hmask
_KEY = struct.Struct(">II")  # of struct tc_u32_key: mask and value in network order; then off and offmask in ours
_PLACE = struct.Struct("=ii")
_MARK = struct.Struct("=III")  # struct tc_u32_mark: value, mask, how often it was met
_ALL_BITS = 0xFFFFFFFF


def selectors(device: str, index: int, netns: str | None = None) -> tuple[Selector, ...]:
    """The u32 and fw filters below the device's qdiscs. Raises ShaperError."""
    with open_socket(netns) as sock, explain.reading(device):
        channel = Channel(sock)
        hooks = [reading.handle for reading in parse_qdiscs(dump_qdiscs(channel), index) if reading.kind == "htb"]
        readings = [one for hook in hooks for one in parse_filters(dump_filters(channel, index, hook))]
    return tuple(found for reading in readings if (found := decode(reading)) is not None)


def decode(reading: FilterReading) -> Selector | None:
    """One dumped filter; None for other kinds, for heads of a preference and for hash tables."""
    found = attributes(reading.options)
    if reading.kind == "u32" and reading.handle & 0xFFF:
        return _u32(reading, found)
    if reading.kind == "fw" and reading.handle:
        return _fw(reading, found)
    return None


def _u32(reading: FilterReading, found: Mapping[int, bytes]) -> Selector:
    selector = found.get(_U32_SELECTOR, b"")
    why = ""
    if _U32_LINK in found or _U32_DIVISOR in found or len(selector) < _HEAD.size or reading.handle & 0xFF000:
        why = "it is part of a u32 hash table"
    elif found.get(_U32_ACTION) or found.get(_U32_POLICE):
        why = "it has an action of its own"
    count = _HEAD.unpack_from(selector)[2] if len(selector) >= _HEAD.size else 0
    words = []
    for place in range(_HEAD.size, min(len(selector) - 15, _HEAD.size + 16 * count), 16):
        mask, value = _KEY.unpack_from(selector, place)
        offset, moved = _PLACE.unpack_from(selector, place + 8)
        words.append(Word(offset, mask, value, bool(moved)))
    mark = _MARK.unpack_from(found[_U32_MARK])[:2] if len(found.get(_U32_MARK, b"")) >= _MARK.size else None
    return _selector(reading, _number(found.get(_U32_CLASSID)), tuple(words), mark, why)


def _fw(reading: FilterReading, found: Mapping[int, bytes]) -> Selector:
    why = "it has an action of its own" if found.get(_FW_ACTION) or found.get(_FW_POLICE) else ""
    mask = _number(found.get(_FW_MASK)) or _ALL_BITS
    return _selector(reading, _number(found.get(_FW_CLASSID)), (), (reading.handle & mask, mask), why)


def _selector(
    reading: FilterReading, classid: int, words: tuple[Word, ...], mark: tuple[int, int] | None, why: str
) -> Selector:
    place = reading.parent, reading.preference, reading.handle, reading.protocol
    return Selector(*place, classid, words, mark, why)


def _number(value: bytes | None) -> int:
    return int(struct.unpack_from("=I", value)[0]) if value and len(value) >= 4 else 0
