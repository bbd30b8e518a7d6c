"""ETS: strict bands, bands by quantum, and the band of each packet priority, in nests of like attributes.

What is left out the kernel makes its own (a frame a turn, the last band), so all is sent, quanta of the shared bands
only. The lists repeat one attribute type, which a dictionary of attributes would fold into its last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from collectors.netlink import attribute, attributes
from shaper.tree import EtsOptions

_BANDS, _STRICT, _QUANTA, _QUANTUM, _PRIOMAP, _BAND = range(1, 7)
_NEST = 0x8000
_U32 = struct.Struct("=I")


def encode(options: EtsOptions) -> bytes:
    """The whole of it. Raises ValueError when the quanta are not those of the shared bands, or one is nothing."""
    if len(options.quanta) != options.bands - options.strict:
        raise ValueError(f"{options.bands - options.strict} bands share, {len(options.quanta)} quanta are given")
    if 0 in options.quanta:  # which some kernels refuse and others make 256
        raise ValueError("a band that shares needs a quantum")
    data = attribute(_BANDS, bytes([options.bands])) + attribute(_STRICT, bytes([options.strict]))
    if options.quanta:
        quanta = b"".join(attribute(_QUANTUM, _U32.pack(quantum)) for quantum in options.quanta)
        data += attribute(_NEST | _QUANTA, quanta)
    return data + attribute(_NEST | _PRIOMAP, b"".join(attribute(_BAND, bytes([band])) for band in options.priomap))


def decode(data: bytes) -> EtsOptions:
    """Of a dumped qdisc; a kernel leaves out a count of zero."""
    found = attributes(data)
    bands, strict = (found[kind][0] if kind in found else 0 for kind in (_BANDS, _STRICT))
    quanta = tuple(int(_U32.unpack_from(value)[0]) for value in _each(found.get(_QUANTA, b"")))
    return EtsOptions(
        bands, strict, quanta[: bands - strict], tuple(value[0] for value in _each(found.get(_PRIOMAP, b"")))
    )


def _each(data: bytes) -> Iterator[bytes]:
    """The payloads of a list of attributes, in order."""
    offset = 0
    while offset + 4 <= len(data):
        length = struct.unpack_from("=H", data, offset)[0]
        if length < 4:
            return
        yield data[offset + 4 : offset + length]
        offset += length + 3 & ~3
