"""cls_u32: a filter as struct tc_u32_sel with a key for each word asked, a table as its number of buckets, one.

The table that a preference begins with has a number of the kernel's, here U32_ROOT, by which the kernel finds the table
too, but no filter in it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from collectors.netlink import attribute, attributes
from shaper.kernel.codec import actions as lists
from shaper.tree import U32_ROOT, Action, Handle, U32Filter, U32Key, U32Link, U32Table

_CLASSID, _HASH, _LINK, _DIVISOR, _SEL, _ACT, _PCNT, _MARK, _FLAGS, _PAD = 1, 2, 3, 4, 5, 7, 9, 10, 11, 12
_HEAD = struct.Struct("=BBBx2sHhhI")  # flags, offshift, nkeys, offmask (in network order), off, offoff, hoff, hmask
_KEY = struct.Struct(">II")
_PLACE = struct.Struct("=ii")
_TERMINAL, _OFFSET, _VAR_OFFSET, _EAT = 1, 2, 4, 8
_IN_HW, _NOT_IN_HW = 1 << 2, 1 << 3
_OWN = 0x80000000
"""The first handle of the tables that the kernel numbers."""
_NODE, _TABLE = 0xFFF, 0xFFF00000
_MOST_KEYS, _MOST_SKIP, _MOST_SHIFT = 128, 0x7FFF, 15


class U32Options(NamedTuple):
    """What a filter asks, the class that it names, the table that it links to, and what is done to what meets it."""

    keys: tuple[U32Key, ...]
    classid: Handle = 0
    link: U32Link | None = None
    actions: tuple[Action, ...] = ()


def encode_table() -> bytes:
    """A table of one list."""
    return attribute(_DIVISOR, struct.pack("=I", 1))


def encode(node: U32Filter) -> bytes:
    """The whole filter. It must be without `fault`."""
    table = node.handle & _TABLE
    data = attribute(_HASH, struct.pack("=I", table)) if table != U32_ROOT else b""
    data += attribute(_CLASSID, struct.pack("=I", node.classid)) if node.classid else b""
    flags, offset, shift, at, mask = _TERMINAL, 0, 0, 0, 0
    if node.link is not None:
        data += attribute(_LINK, struct.pack("=I", node.link.table))
        _, offset, at, mask, shift = node.link
        flags = _EAT | (_VAR_OFFSET if mask else _OFFSET) | (_OFFSET if offset else 0)
    words = _HEAD.pack(flags, shift, len(node.keys), mask.to_bytes(2, "big"), offset, at, 0, 0)
    words += b"".join(_KEY.pack(key.mask, key.value) + _PLACE.pack(key.offset, 0) for key in node.keys)
    data += attribute(_SEL, words)
    return data + (attribute(_ACT, lists.encode(node.actions)) if node.actions else b"")


def handle_sent(number: Handle, first: Handle) -> Handle:
    """The handle in a message: in the first table by its handle, and a new one, with a `first` of 0, by its number."""
    return first | number & ~_TABLE if number > U32_ROOT else number


def handle_read(number: Handle) -> Handle:
    """The handle in the tree of one that was dumped."""
    return U32_ROOT | number & ~_TABLE if number >= _OWN else number


def is_first_table(number: Handle) -> bool:
    """Whether a dumped handle is that of a preference's own table, which is no node."""
    return number >= _OWN and not number & ~_TABLE


def decode(data: bytes) -> U32Options | None:
    """Of a dumped filter; None for what is not ours to program: another selector, a mark, what is for hardware only."""
    found = {kind: value for kind, value in attributes(data).items() if kind not in (_HASH, _PCNT, _PAD)}
    flags = _number(found.pop(_FLAGS, b""))
    classid, table = (_number(found.pop(kind, b"")) for kind in (_CLASSID, _LINK))
    actions = lists.decode(found.pop(_ACT, b""))
    selector = found.pop(_SEL, b"")
    if found or actions is None or flags & ~(_IN_HW | _NOT_IN_HW) or len(selector) < _HEAD.size:
        return None
    kind, shift, count, mask, skip, at, hash_at, hash_mask = _HEAD.unpack_from(selector)
    keys = []
    for start in range(_HEAD.size, _HEAD.size + 16 * count, 16):
        asked, value = _KEY.unpack_from(selector, start)
        offset, moved = _PLACE.unpack_from(selector, start + 8)
        if moved:
            return None
        if asked:  # tc asks for nothing by a key without a mask
            keys.append(U32Key(offset, value, asked))
    if hash_at or hash_mask:
        return None
    mask = int.from_bytes(mask, "big")
    if not table:
        plain = kind == _TERMINAL and not (shift or mask or skip or at)
        return U32Options(tuple(keys), classid, None, actions) if plain else None
    if kind & ~_OFFSET != _EAT | (_VAR_OFFSET if mask else 0) or not (mask or kind & _OFFSET):
        return None
    return U32Options(tuple(keys), classid, U32Link(table, skip, at, mask, shift), actions)


def is_table(data: bytes) -> bool:
    """Whether a dumped node is a table of one list."""
    found: Mapping[int, bytes] = attributes(data)
    return _number(found.get(_DIVISOR, b"")) == 1 and _SEL not in found


def _number(value: bytes) -> int:
    return int(struct.unpack_from("=I", value)[0]) if len(value) >= 4 else 0


def fault(node: U32Filter | U32Table) -> str:
    """Why the kernel can't have it as it is, "" when it can: some it refuses, of others it makes something else."""
    table, number = node.handle & _TABLE, node.handle & ~_TABLE
    if isinstance(node, U32Table):
        return f"{node.handle:#x} is no handle of a table" if number or node.handle >= _OWN else ""
    if not table or (table >= _OWN and table != U32_ROOT) or not 0 < number <= _NODE:
        return f"{node.handle:#x} is no handle of a filter in a table of ours"
    if len(node.keys) > _MOST_KEYS:
        return f"a filter has at most {_MOST_KEYS} keys"
    for key in node.keys:
        if not key.mask or key.value & ~key.mask or key.offset % 4:
            return f"{key} is no key in canonical form"
    if list(node.keys) != sorted(node.keys) or len({key.offset for key in node.keys}) < len(node.keys):
        return "the keys are not sorted, or two are of one word"
    if node.link is None:
        return "" if node.classid else "a filter names a class or links to a table"
    if node.classid or node.actions:
        return "a filter that links names no class"
    _, skip, at, mask, shift = node.link
    wrong = not (0 <= skip <= _MOST_SKIP and 0 <= mask <= 0xFFFF and 0 <= shift <= _MOST_SHIFT)
    return f"{node.link} skips too much" if wrong or (not mask and (at or shift)) else ""
