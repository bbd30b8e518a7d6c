"""act_police: one token bucket. The kernel counts its tokens in nanoseconds at the rate, and keeps a burst in ticks.

It asks for a rate table, of which it reads nothing but the size when the link layer is said.
"""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import Police

_TBF, _RATE, _RESULT, _RATE64, _OVERHEADS = 1, 2, 5, 8, (3, 4, 9, 10, 11)
# struct tc_police: index, action, limit, burst, mtu; twice a struct tc_ratespec (cell_log, linklayer, overhead,
# cell_align, mpu, rate); refcnt, bindcnt, capab.
_POLICE = struct.Struct("=IiIIIBBHhHIBBHhHIiiI")
_CELL_LOG, _LINKLAYER_ETHERNET, _LINKLAYER_ATM = 3, 1, 2
_TABLE = bytes(1024)
_MAX32 = 0xFFFFFFFF


def encode(police: Police) -> bytes:
    """The whole action. One that exists with its index the kernel leaves as it is, unless told to replace it."""
    rate = police.rate // 8
    head = police.index, police.exceed, 0, police.burst, police.largest
    layer = _LINKLAYER_ATM if police.atm else _LINKLAYER_ETHERNET
    spec = _CELL_LOG, layer, police.overhead, 0, police.mpu, min(rate, _MAX32)
    data = attribute(_TBF, _POLICE.pack(*head, *spec, *(0,) * 6, 0, 0, 0)) + attribute(_RATE, _TABLE)
    if police.conform:
        data += attribute(_RESULT, struct.pack("=I", police.conform))
    if rate > _MAX32:
        data += attribute(_RATE64, struct.pack("=Q", rate))
    return data


def decode(data: bytes) -> Police | None:
    """Of a dumped action; None where it has what we never ask for: a peak rate, an average, packets a second."""
    found = attributes(data)
    parms = found.get(_TBF, b"")
    if len(parms) < _POLICE.size or any(kind in found for kind in _OVERHEADS):
        return None
    index, exceed, _limit, burst, mtu, *specs = _POLICE.unpack_from(parms)
    layer, overhead, mpu, rate, peak = specs[1], specs[2], specs[4], specs[5], specs[11]
    if peak:
        return None
    if _RATE64 in found:
        (rate,) = struct.unpack_from("=Q", found[_RATE64])
    conform = struct.unpack_from("=I", found[_RESULT])[0] if _RESULT in found else 0
    return Police(index, rate * 8, burst, conform, exceed, mtu, overhead, mpu, layer == _LINKLAYER_ATM)
