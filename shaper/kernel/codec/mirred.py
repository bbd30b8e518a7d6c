"""mirred: the action that copies a packet to another device and lets the filters go on, or sends it there instead."""

from __future__ import annotations

import struct
from typing import NamedTuple

from collectors.netlink import attribute, attributes, text

_KIND, _OPTIONS = 1, 2
_PARMS = 2
# struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
_MIRRED = struct.Struct("=IIiiiiI")
_MIRROR = (-1, 2)  # TC_ACT_UNSPEC: ask the next filter; TCA_EGRESS_MIRROR
_REDIRECT = (4, 1)  # TC_ACT_STOLEN; TCA_EGRESS_REDIR


class Sent(NamedTuple):
    """Where a match goes: the index of the device, 0 when it is gone; a copy, or the packet itself (`away`)."""

    device: int
    away: bool = False


def encode(sent: Sent) -> bytes:
    """One action."""
    action, eaction = _REDIRECT if sent.away else _MIRROR
    parms = attribute(_PARMS, _MIRRED.pack(0, 0, action, 0, 0, eaction, sent.device))
    return attribute(_KIND, b"mirred\0") + attribute(_OPTIONS, parms)


def decode(data: bytes) -> Sent | None:
    """None when this is not our action."""
    found = attributes(data)
    parms = attributes(found.get(_OPTIONS, b"")).get(_PARMS, b"")
    if text(found.get(_KIND, b"")) != "mirred" or len(parms) < _MIRRED.size:
        return None
    _index, _capab, action, _refs, _binds, eaction, device = _MIRRED.unpack_from(parms)
    known = {_MIRROR: False, _REDIRECT: True}
    return Sent(int(device), known[action, eaction]) if (action, eaction) in known else None
