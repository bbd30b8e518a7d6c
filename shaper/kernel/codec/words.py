"""Options that are 32-bit words, one attribute each, as CoDel's and PIE's kin have them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from collectors.netlink import attribute, attributes

_WORD = struct.Struct("=I")


def pack_words(values: Iterable[tuple[int, int]]) -> bytes:
    """Attributes by kind and value."""
    return b"".join(attribute(kind, _WORD.pack(value)) for kind, value in values)


def read_words(data: bytes) -> dict[int, int]:
    """The first word of each attribute, by kind; shorter ones are left out."""
    return {kind: _WORD.unpack_from(value)[0] for kind, value in attributes(data).items() if len(value) >= 4}
