"""What u32 asks of a header, by offset and mask, as our conditions."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from shaper.policy.importers.draft import Conditions, Scalar

_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
_TRANSPORT = {"ipv4": 20, "ipv6": 40}  # where u32 looks for it, whatever the header's length says
_TCP = 6


class Word(NamedTuple):
    """32 bits at `offset` bytes from the network header, or from the transport header: `value` under `mask`."""

    offset: int
    mask: int
    value: int
    transport: bool = False


def conditions(words: Sequence[Word], family: str, found: Conditions) -> str:
    """Adds what the words ask; what of them can't be carried, or ""."""
    asked: dict[int, tuple[int, int]] = {}
    for word in words:
        offset = word.offset + (_TRANSPORT[family] if word.transport else 0)
        mask, value = asked.get(offset, (0, 0))
        if value & word.mask & mask != word.value & word.mask & mask:
            return "two of its keys exclude each other"
        asked[offset] = mask | word.mask, value | word.value & word.mask
    header = _ipv4(asked, found) if family == "ipv4" else _ipv6(asked, found)
    wrong = header or _transport(asked, _TRANSPORT[family], found)
    left = [offset for offset, (mask, _) in asked.items() if mask]
    return wrong or (f"it asks for bytes at {left[0]}, which no condition names" if left else "")


def _take(asked: dict[int, tuple[int, int]], offset: int, part: int) -> tuple[int, int]:
    """(value, mask) of some bits of a word, shifted down; they are not asked any more."""
    mask, value = asked.get(offset, (0, 0))
    if not mask & part:
        return 0, 0
    shift = (part & -part).bit_length() - 1
    asked[offset] = mask & ~part, value & ~part
    return (value & mask & part) >> shift, (mask & part) >> shift


def _ipv4(asked: dict[int, tuple[int, int]], found: Conditions) -> str:
    version, mask = _take(asked, 0, 0xFF000000)
    if mask and (version & mask) != 0x45 & mask:
        return "it asks for IP options"
    tos, mask = _take(asked, 0, 0x00FF0000)
    if mask:
        add_tos(found, tos, mask)
    length, mask = _take(asked, 0, 0x0000FFFF)
    if mask and (wrong := _add_length(found, length, mask, 0)):
        return wrong
    return _add_protocol(found, *_take(asked, 8, 0x00FF0000)) or _addresses(asked, found, (12, 16), 1)


def _ipv6(asked: dict[int, tuple[int, int]], found: Conditions) -> str:
    _take(asked, 0, 0xF0000000)
    tos, mask = _take(asked, 0, 0x0FF00000)
    if mask:
        add_tos(found, tos, mask)
    length, mask = _take(asked, 4, 0xFFFF0000)
    if mask and (wrong := _add_length(found, length, mask, 40)):
        return wrong
    return _add_protocol(found, *_take(asked, 4, 0x0000FF00)) or _addresses(asked, found, (8, 24), 4)


def _addresses(asked: dict[int, tuple[int, int]], found: Conditions, offsets: tuple[int, int], words: int) -> str:
    for side, start in zip(("src", "dst"), offsets, strict=True):
        value = mask = 0
        for index in range(words):
            part, part_mask = _take(asked, start + 4 * index, 0xFFFFFFFF)
            value, mask = value << 32 | part, mask << 32 | part_mask
        if mask and (wrong := add_network(found, side, value, mask, 32 * words)):
            return wrong
    return ""


def _transport(asked: dict[int, tuple[int, int]], start: int, found: Conditions) -> str:
    for side, part in (("sport", 0xFFFF0000), ("dport", 0x0000FFFF)):
        value, mask = _take(asked, start, part)
        if mask and (wrong := add_ports(found, side, value, mask)):
            return wrong
    value, mask = _take(asked, start + 12, 0x00FF0000)
    if mask:
        if found.get("proto") != _TCP:
            return "it asks for TCP flags without asking for TCP"
        sides: dict[str, list[Scalar]] = {"set": [], "unset": []}
        for bit, name in enumerate(_FLAGS):
            if mask >> bit & 1:
                sides["set" if value >> bit & 1 else "unset"].append(name)
        found["tcp-flags"] = {side: names for side, names in sides.items() if names}
    return ""


def _add_protocol(found: Conditions, value: int, mask: int) -> str:
    if mask == 0xFF:
        found["proto"] = value
    return "" if mask in (0, 0xFF) else "it asks for a part of the protocol's number"


def _add_length(found: Conditions, value: int, mask: int, header: int) -> str:
    wide = 0xFFFF & ~mask
    if wide & (wide + 1):
        return "the mask of the length leaves a gap"
    found["length"] = f"{min(value + header, 65535)}-{min(value + wide + header, 65535)}"
    return ""


def add_tos(found: Conditions, value: int, mask: int) -> None:
    """The DS byte: its code point where that is all that is asked."""
    if mask == 0xFC:
        found["dscp"] = value >> 2
    else:
        found["tos"] = f"{value:#x}/{mask:#x}"


def add_ports(found: Conditions, side: str, value: int, mask: int) -> str:
    """A mask that leaves out the last bits is a range."""
    wide = 0xFFFF & ~mask
    if wide & (wide + 1):
        return f"the mask of {side} leaves a gap"
    found[side] = f"{value}-{value + wide}" if wide else value
    return ""


def add_network(found: Conditions, side: str, value: int, mask: int, bits: int) -> str:
    """An address with a mask."""
    host = (1 << bits) - 1 & ~mask
    if host & (host + 1):
        return f"the mask of {side} leaves a gap"
    address = ipaddress.IPv4Address(value) if bits == 32 else ipaddress.IPv6Address(value)
    found[side] = f"{address}/{bits - host.bit_length()}" if host else str(address)
    return ""
