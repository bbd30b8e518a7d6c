"""ctinfo: the action that gives a packet its connection's mark, and the DSCP that is kept in it."""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes, text
from shaper.tree import Restore

_KIND, _OPTIONS = 1, 2
_ACT, _DSCP_MASK, _DSCP_STATE, _MARK_MASK = 3, 5, 6, 7
_PIPE = 3
_NEST = 0x8000
"""ctinfo reads its options only when the nest says that it is one (NLA_F_NESTED)."""
_GENERAL = struct.Struct("=IIiii")  # struct tc_gen: index, capab, action, refcnt, bindcnt


def encode(restore: Restore) -> bytes:
    """One action, which passes on to the next."""
    options = attribute(_ACT, _GENERAL.pack(0, 0, _PIPE, 0, 0))
    if restore.dscp:
        options += attribute(_DSCP_MASK, _number(restore.dscp)) + attribute(_DSCP_STATE, _number(restore.state))
    if restore.mark:
        options += attribute(_MARK_MASK, _number(restore.mark))
    return attribute(_KIND, b"ctinfo\0") + attribute(_OPTIONS | _NEST, options)


def decode(data: bytes) -> Restore | None:
    """None when this is not our action."""
    found = attributes(data)
    options = attributes(found.get(_OPTIONS, b""))
    general = options.get(_ACT, b"")
    if text(found.get(_KIND, b"")) != "ctinfo" or len(general) < _GENERAL.size:
        return None
    if _GENERAL.unpack_from(general)[2] != _PIPE:
        return None
    mark, dscp, state = (
        struct.unpack_from("=I", options.get(kind, bytes(4)))[0] for kind in (_MARK_MASK, _DSCP_MASK, _DSCP_STATE)
    )
    return Restore(mark, dscp, state)


def _number(value: int) -> bytes:
    return struct.pack("=I", value)
