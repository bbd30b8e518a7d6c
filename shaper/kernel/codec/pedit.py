"""act_pedit, as far as it writes a DSCP: one key of 32 bits at the IP header's start, the others of its bits kept."""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes, each_attribute
from shaper.tree import PIPE, SetDscp

_PARMS_EX, _KEYS_EX, _KEY_EX = 4, 5, 6
_HEADER_TYPE, _COMMAND = 1, 2
_IP4, _IP6, _SET = 2, 3, 0
_NEST = 0x8000
# struct tc_pedit_sel: index, capab, action, refcnt, bindcnt, nkeys, flags; then struct tc_pedit_key: mask and value as
# they stand in the packet, off, at, offmask, shift.
_SELECTOR = struct.Struct("=IIiiiBB2x")
_KEY = struct.Struct("=4s4sIIII")
_PLACES = {4: (_IP4, 16 + 2), 6: (_IP6, 20 + 2)}
"""By IP version: the kind of header, and how far the DSCP is from the end of its first word."""
_DSCP = 0x3F


def encode(action: SetDscp) -> bytes:
    """The whole action."""
    header, _ = _PLACES[action.version]
    key = _KEY.pack(*_key(action.version, action.dscp), 0, 0, 0, 0)
    extra = attribute(_HEADER_TYPE, struct.pack("=H", header)) + attribute(_COMMAND, struct.pack("=H", _SET))
    return attribute(_PARMS_EX, _SELECTOR.pack(0, 0, PIPE, 0, 0, 1, 0) + key) + attribute(
        _KEYS_EX | _NEST, attribute(_KEY_EX | _NEST, extra)
    )


def decode(data: bytes) -> SetDscp | None:
    """Of a dumped action; None where it writes anything else."""
    found = attributes(data)
    parms = found.get(_PARMS_EX, b"")
    if len(parms) < _SELECTOR.size + _KEY.size:
        return None
    _index, _capab, verdict, _refs, _binds, keys, _flags = _SELECTOR.unpack_from(parms)
    mask, value, *place = _KEY.unpack_from(parms, _SELECTOR.size)
    extras = [attributes(extra) for kind, extra in each_attribute(found.get(_KEYS_EX, b"")) if kind == _KEY_EX]
    if keys != 1 or verdict != PIPE or any(place) or len(extras) != 1:
        return None
    header, command = (
        struct.unpack_from("=H", extras[0].get(kind, b"\xff\xff"))[0] for kind in (_HEADER_TYPE, _COMMAND)
    )
    for version, (wanted, shift) in _PLACES.items():
        dscp = int.from_bytes(value, "big") >> shift
        same = (header, command) == (wanted, _SET) and dscp <= _DSCP
        if same and _key(version, dscp) == (mask, value):
            return SetDscp(version, dscp)
    return None


def _key(version: int, dscp: int) -> tuple[bytes, bytes]:
    """Which bits of the first word stay, and what the others become."""
    _, shift = _PLACES[version]
    return (~(_DSCP << shift) & 0xFFFFFFFF).to_bytes(4, "big"), (dscp << shift).to_bytes(4, "big")
