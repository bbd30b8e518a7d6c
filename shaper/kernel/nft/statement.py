"""Between our statements and the kernel's expressions: registers loaded, compared, looked up, masked, written."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Sequence

from collectors.netlink import text
from shaper.kernel.cgroups import number_of, path_of
from shaper.kernel.nft.wire import Expression, name, number
from shaper.tree import Statement

_REGISTER = number(1)
_IIFNAME, _OIFNAME, _NFPROTO, _META_MARK = 6, 7, 15, 3
_CT_MARK = 3
_EQUAL, _DIFFERS = 0, 1
_NETWORK, _TRANSPORT = 1, 2
_SOURCE = {4: (12, 4), 6: (8, 16)}
_DS_FIELD = {4: (1, 1, 2), 6: (0, 2, 6)}
"""Offset and bytes of what holds the DSCP, and how far to the left the DSCP stands in it."""
_NAME_LENGTH = 16
_CGROUP, _CGROUP_NUMBER = 3, 8
"""NFT_SOCKET_CGROUPV2, and the bytes of what it gives."""
_MOST = 3


def encode(statement: Statement) -> list[Expression]:
    """Raises ValueError for what is not ours to write, OSError for a cgroup that is not there."""
    match statement:
        case Statement("iifname" | "oifname" as what, text=device):
            key = _OIFNAME if what == "oifname" else _IIFNAME
            return [_meta(key), _compare(_EQUAL, device.encode().ljust(_NAME_LENGTH, b"\0"))]
        case Statement("nfproto", number=family):
            return [_meta(_NFPROTO), _compare(_EQUAL, bytes((family,)))]
        case Statement("saddr", number=version, mask=inverted, text=held):
            return [_payload(_NETWORK, *_SOURCE[version]), _lookup(held, inverted)]
        case Statement("sport", mask=inverted, text=held):
            return [_payload(_TRANSPORT, 0, 2), _lookup(held, inverted)]
        case Statement("dscp" | "no-dscp" as what, number=version, mask=mask):
            offset, length, shift = _DS_FIELD[version]
            asked = (mask << shift).to_bytes(length, "big")
            test = _DIFFERS if what == "dscp" else _EQUAL
            return [_payload(_NETWORK, offset, length), _bitwise(asked, bytes(length)), _compare(test, bytes(length))]
        case Statement("cgroup", number=level, text=path):
            group = number_of(path).to_bytes(_CGROUP_NUMBER, sys.byteorder)
            return [("socket", {1: number(_CGROUP), 2: _REGISTER, 3: number(level)}), _compare(_EQUAL, group)]
        case Statement("mark", number=bits, mask=kept):
            return [_meta(_META_MARK), _marked(kept, bits), ("meta", {2: number(_META_MARK), 3: _REGISTER})]
        case Statement("ct-mark", number=bits, mask=kept):
            return [
                ("ct", {1: _REGISTER, 2: number(_CT_MARK)}),
                _marked(kept, bits),
                ("ct", {2: number(_CT_MARK), 4: _REGISTER}),
            ]
    raise ValueError(f"a rule with {statement.what!r} is not ours to write")


def decode(expressions: Sequence[Expression]) -> tuple[Statement, ...]:
    """What a dumped rule says; what is not exactly a statement of ours is `other`, with what tells it apart."""
    rest, found = list(expressions), []
    while rest:
        for count in range(1, _MOST + 1):
            guess = _guess(rest[:count])
            if guess is not None and encode(guess) == rest[:count]:
                found.append(guess)
                del rest[:count]
                break
        else:
            kind, fields = rest.pop(0)
            found.append(Statement("other", zlib.crc32(repr(sorted(fields.items())).encode()), text=kind))
    return tuple(found)


def _guess(some: Sequence[Expression]) -> Statement | None:
    """The statement that these may be."""
    (first, says), (last, ends) = some[0], some[-1]
    middle = some[1][1] if len(some) == _MOST else {}
    match first, last, len(some):
        case "meta", "cmp", 2:
            return _compared(_number(says.get(2)), ends.get(3, b""))
        case "socket", "cmp", 2 if _number(says.get(1)) == _CGROUP:
            level = _number(says.get(3))
            path = path_of(int.from_bytes(ends.get(3, b""), sys.byteorder), level)
            return Statement("cgroup", level, text=path) if path else None  # it has gone, or come back as another
        case "payload", "lookup", 2:
            held, inverted = text(ends.get(1, b"")), _number(ends.get(5))
            if _number(says.get(2)) == _TRANSPORT:
                return Statement("sport", 0, inverted, held)
            return Statement("saddr", 4 if _number(says.get(4)) == _SOURCE[4][1] else 6, inverted, held)
        case "payload", "cmp", 3:
            version = 4 if _number(says.get(4)) == _DS_FIELD[4][1] else 6
            mask = int.from_bytes(middle.get(4, b""), "big") >> _DS_FIELD[version][2]
            return Statement("no-dscp" if _number(ends.get(2)) == _EQUAL else "dscp", version, mask)
        case ("meta", "meta", 3) | ("ct", "ct", 3):
            kept, bits = (int.from_bytes(middle.get(key, b""), sys.byteorder) for key in (4, 5))
            return Statement("mark" if first == "meta" else "ct-mark", bits, kept)
    return None


def _compared(key: int, value: bytes) -> Statement | None:
    if key == _NFPROTO and len(value) == 1:
        return Statement("nfproto", value[0])
    if key in (_IIFNAME, _OIFNAME):
        return Statement("oifname" if key == _OIFNAME else "iifname", text=text(value))
    return None


def _meta(key: int) -> Expression:
    return ("meta", {2: number(key), 1: _REGISTER})


def _payload(base: int, offset: int, length: int) -> Expression:
    return ("payload", {1: _REGISTER, 2: number(base), 3: number(offset), 4: number(length)})


def _compare(how: int, value: bytes) -> Expression:
    return ("cmp", {1: _REGISTER, 2: number(how), 3: value})


def _lookup(held: str, inverted: int) -> Expression:
    return ("lookup", {1: name(held), 2: _REGISTER, 5: number(inverted)})


def _bitwise(mask: bytes, xor: bytes) -> Expression:
    return ("bitwise", {1: _REGISTER, 2: _REGISTER, 3: number(len(mask)), 6: number(0), 4: mask, 5: xor})


def _marked(kept: int, bits: int) -> Expression:
    return _bitwise(kept.to_bytes(4, sys.byteorder), bits.to_bytes(4, sys.byteorder))


def _number(value: bytes | None) -> int:
    return int(struct.unpack_from("!I", value)[0]) if value and len(value) >= 4 else 0
