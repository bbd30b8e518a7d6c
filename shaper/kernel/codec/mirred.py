"""mirred: the action that copies a packet to another device and lets the filters go on."""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes, text

_KIND, _OPTIONS = 1, 2
_PARMS = 2
# struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
_MIRRED = struct.Struct("=IIiiiiI")
_GO_ON = -1  # TC_ACT_UNSPEC: ask the next filter
_MIRROR = 2  # TCA_EGRESS_MIRROR


def encode_mirror(index: int) -> bytes:
    """A list of one action: a copy to the device with that index."""
    parms = attribute(_PARMS, _MIRRED.pack(0, 0, _GO_ON, 0, 0, _MIRROR, index))
    return attribute(1, attribute(_KIND, b"mirred\0") + attribute(_OPTIONS, parms))


def decode_mirror(data: bytes) -> int | None:
    """The index of the device that gets the copy, 0 when it is gone; None when these are not our actions."""
    actions = list(attributes(data).values())
    if len(actions) != 1:
        return None
    found = attributes(actions[0])
    parms = attributes(found.get(_OPTIONS, b"")).get(_PARMS, b"")
    if text(found.get(_KIND, b"")) != "mirred" or len(parms) < _MIRRED.size:
        return None
    _index, _capab, action, _refs, _binds, eaction, device = _MIRRED.unpack_from(parms)
    return int(device) if (action, eaction) == (_GO_ON, _MIRROR) else None
