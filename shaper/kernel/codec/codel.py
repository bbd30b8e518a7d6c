"""codel: times cross the wire in microseconds and are kept in units of 1024 ns."""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.kernel.codec.clock import codel_read
from shaper.tree import CodelOptions

_TARGET, _LIMIT, _INTERVAL, _ECN = 1, 2, 3, 4
_U32 = struct.Struct("=I")


def encode(options: CodelOptions) -> bytes:
    """The whole of it."""
    values = [
        (_TARGET, options.target),
        (_LIMIT, options.limit),
        (_INTERVAL, options.interval),
        (_ECN, int(options.ecn)),
    ]
    return b"".join(attribute(kind, _U32.pack(value)) for kind, value in values)


def decode(data: bytes) -> CodelOptions:
    """Of a dumped qdisc."""
    found = {kind: _U32.unpack_from(value)[0] for kind, value in attributes(data).items() if len(value) >= 4}
    return CodelOptions(
        limit=found.get(_LIMIT, 0),
        target=codel_read(found.get(_TARGET, 0)),
        interval=codel_read(found.get(_INTERVAL, 0)),
        ecn=bool(found.get(_ECN, 0)),
    )
