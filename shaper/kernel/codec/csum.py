"""act_csum, as far as it reckons the checksum of an IPv4 header anew."""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import PIPE, Checksum

_PARMS = 1
_CSUM = struct.Struct("=IIiiiI")  # struct tc_csum: index, capab, action, refcnt, bindcnt, update_flags
_IPV4_HEADER = 1


def encode(_action: Checksum) -> bytes:
    """The whole action."""
    return attribute(_PARMS, _CSUM.pack(0, 0, PIPE, 0, 0, _IPV4_HEADER))


def decode(data: bytes) -> Checksum | None:
    """Of a dumped action; None where it reckons anything else."""
    parms = attributes(data).get(_PARMS, b"")
    if len(parms) < _CSUM.size:
        return None
    _index, _capab, verdict, _refs, _binds, flags = _CSUM.unpack_from(parms)
    return Checksum() if (verdict, flags) == (PIPE, _IPV4_HEADER) else None
