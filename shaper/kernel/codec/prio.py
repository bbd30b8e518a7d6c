"""prio: struct tc_prio_qopt, a number of bands and the band of each packet priority, and no nest around it."""

from __future__ import annotations

import struct

from shaper.tree import PRIORITIES, PrioOptions

_QOPT = struct.Struct(f"=i{PRIORITIES}s")


def encode(options: PrioOptions) -> bytes:
    """The whole of it."""
    return _QOPT.pack(options.bands, bytes(options.priomap))


def decode(data: bytes) -> PrioOptions:
    """Of a dumped qdisc."""
    bands, priomap = _QOPT.unpack_from(data)
    return PrioOptions(bands, tuple(priomap))
