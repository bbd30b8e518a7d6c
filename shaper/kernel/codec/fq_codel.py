"""fq_codel: times cross the wire in microseconds and are kept in units of 1024 ns.

The kernel rounds a time down twice, on the way in and on the way out: 5000 us is dumped as 4999, and 4999 sent again
would be dumped as 4998. So a dumped time is turned back into the smallest one that the kernel keeps the same way.
"""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import FqCodelOptions

_TARGET, _LIMIT, _INTERVAL, _ECN, _FLOWS, _QUANTUM, _MEMORY = 1, 2, 3, 4, 5, 6, 9
_U32 = struct.Struct("=I")


def canonical_time(microseconds: int) -> int:
    """The smallest time in us that the kernel keeps as it keeps this one; whole milliseconds are canonical."""
    return _smallest(microseconds * 1000 >> 10)


def _smallest(units: int) -> int:
    return -(-units * 1024 // 1000)


def encode(options: FqCodelOptions, *, creating: bool) -> bytes:
    """Everything, except that the number of flows is settled when the qdisc is made."""
    values = [
        (_LIMIT, options.limit),
        (_TARGET, options.target),
        (_INTERVAL, options.interval),
        (_QUANTUM, options.quantum),
        (_MEMORY, options.memory),
        (_ECN, int(options.ecn)),
    ]
    if creating:
        values.append((_FLOWS, options.flows))
    return b"".join(attribute(kind, _U32.pack(value)) for kind, value in values)


def decode(data: bytes) -> FqCodelOptions:
    """Of a dumped qdisc; what an old kernel leaves out counts as zero."""
    found = {kind: _U32.unpack_from(value)[0] for kind, value in attributes(data).items() if len(value) >= 4}

    def time(kind: int) -> int:
        return _smallest(-(-found.get(kind, 0) * 1000 // 1024))

    return FqCodelOptions(
        limit=found.get(_LIMIT, 0),
        target=time(_TARGET),
        interval=time(_INTERVAL),
        quantum=found.get(_QUANTUM, 0),
        flows=found.get(_FLOWS, 0),
        memory=found.get(_MEMORY, 0),
        ecn=bool(found.get(_ECN, 0)),
    )
