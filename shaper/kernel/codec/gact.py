"""act_gact: a verdict and nothing else."""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import COUNT_INDEXES, Finish

_PARMS, _RANDOM = 2, 3
_GENERIC = struct.Struct("=IIiii")  # index, capab, action, refcnt, bindcnt


def encode(action: Finish) -> bytes:
    """The whole action. Without an index the kernel gives it one, which says nothing."""
    return attribute(_PARMS, _GENERIC.pack(action.index, 0, action.verdict, 0, 0))


def decode(data: bytes) -> Finish | None:
    """Of a dumped action; None for one that throws dice."""
    found = attributes(data)
    parms = found.get(_PARMS, b"")
    if len(parms) < _GENERIC.size or _RANDOM in found:
        return None
    index, _, verdict, *_ = _GENERIC.unpack_from(parms)
    return Finish(verdict, index if index in COUNT_INDEXES else 0)
