"""connmark: gives a packet all of its connection's mark; skbedit behind it clears the bits that were not asked for.

The two together are what ctinfo does for a mark.
"""

from __future__ import annotations

import struct

from collectors.netlink import attribute, attributes, text
from shaper.kernel.codec import skbedit
from shaper.tree import PIPE, Restore, SetMeta

_KIND, _OPTIONS = 1, 2
_PARMS = 1
_CONNMARK = struct.Struct("=IIiiiH2x")  # struct tc_connmark: index, capab, action, refcnt, bindcnt, zone
_ALL = 0xFFFFFFFF


def encode(restore: Restore) -> tuple[bytes, bytes]:
    """Both actions, each of which passes on to the next."""
    taking = attribute(_PARMS, _CONNMARK.pack(0, 0, PIPE, 0, 0, 0))
    clearing = skbedit.encode(SetMeta(0, _ALL ^ restore.mark, None))
    return (
        attribute(_KIND, b"connmark\0") + attribute(_OPTIONS, taking),
        attribute(_KIND, b"skbedit\0") + attribute(_OPTIONS, clearing),
    )


def decode(taking: bytes, clearing: bytes) -> Restore | None:
    """None when these are not our two actions."""
    first, second = attributes(taking), attributes(clearing)
    if (text(first.get(_KIND, b"")), text(second.get(_KIND, b""))) != ("connmark", "skbedit"):
        return None
    parms = attributes(first.get(_OPTIONS, b"")).get(_PARMS, b"")
    edit = skbedit.decode(second.get(_OPTIONS, b""))
    if len(parms) < _CONNMARK.size or edit is None or (edit.mark, edit.priority) != (0, None):
        return None
    _, _, action, _, _, zone = _CONNMARK.unpack_from(parms)
    return Restore(_ALL ^ edit.mask, connmark=True) if (action, zone) == (PIPE, 0) else None
