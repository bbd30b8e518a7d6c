"""act_skbedit, as far as it sets the mark and the priority that the kernel holds beside a packet."""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes
from shaper.tree import PIPE, SetMeta

_TIMES, _PARMS, _PRIORITY, _MARK, _PAD, _MASK = 1, 2, 3, 5, 6, 8
_GENERIC = struct.Struct("=IIiii")  # index, capab, action, refcnt, bindcnt
_ALL = 0xFFFFFFFF


def encode(action: SetMeta) -> bytes:
    """The whole action."""
    data = attribute(_PARMS, _GENERIC.pack(0, 0, PIPE, 0, 0))
    if action.priority is not None:
        data += attribute(_PRIORITY, struct.pack("=I", action.priority))
    if action.mark is not None:
        data += attribute(_MARK, struct.pack("=I", action.mark))
        if action.mask != _ALL:
            data += attribute(_MASK, struct.pack("=I", action.mask))
    return data


def decode(data: bytes) -> SetMeta | None:
    """Of a dumped action; None where it sets anything else."""
    found = attributes(data)
    parms = found.get(_PARMS, b"")
    if len(parms) < _GENERIC.size or _GENERIC.unpack_from(parms)[2] != PIPE:
        return None
    if found.keys() - {_TIMES, _PARMS, _PRIORITY, _MARK, _PAD, _MASK}:
        return None
    mark, mask, priority = (
        struct.unpack_from("=I", found[kind])[0] if kind in found else None for kind in (_MARK, _MASK, _PRIORITY)
    )
    return SetMeta(mark, _ALL if mask is None else mask, priority)
