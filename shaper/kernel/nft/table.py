"""Our table as the messages that make it, and from what the kernel dumps back to the table."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from collectors.netlink import NLM_F_CREATE, NLM_F_EXCL, attribute, attributes, each_attribute, text
from shaper.kernel.nft import wire
from shaper.kernel.nft.statement import decode, encode
from shaper.tree import MarkChain, MarkSet, MarkTable

Message = tuple[int, int, bytes]

_KEY_TYPES = {32: 7, 128: 8, 16: 13}
"""What nft calls an address of IPv4, of IPv6, and a port, by the bits."""
_ACCEPT = 1
_CHUNK = 500
_APPEND = 0x800


def making(table: MarkTable) -> Iterator[Message]:
    """The messages of one transaction that make it where there is none."""
    named = attribute(wire.TABLE_NAME, wire.name(table.name))
    yield _new(wire.NEWTABLE, named + attribute(wire.TABLE_FLAGS, wire.number(0)), NLM_F_EXCL)
    for ident, held in enumerate(table.sets, 1):
        yield from _set(table.name, held, ident)
    for chain in table.chains:
        hook = attribute(wire.HOOK_NUMBER, wire.number(chain.hook))
        hook += attribute(wire.HOOK_PRIORITY, wire.number(chain.priority))
        body = attribute(wire.CHAIN_TABLE, wire.name(table.name)) + attribute(wire.CHAIN_NAME, wire.name(chain.name))
        body += wire.nested(wire.CHAIN_HOOK, hook) + attribute(wire.CHAIN_POLICY, wire.number(_ACCEPT))
        yield _new(wire.NEWCHAIN, body + attribute(wire.CHAIN_TYPE, wire.name("filter")), NLM_F_EXCL)
        for rule in chain.rules:
            place = attribute(wire.RULE_TABLE, wire.name(table.name))
            place += attribute(wire.RULE_CHAIN, wire.name(chain.name))
            said = wire.expressions([one for statement in rule for one in encode(statement)])
            yield _new(wire.NEWRULE, place + said, _APPEND)


def removing(table: MarkTable) -> Message:
    """With all that is in it."""
    body = wire.head() + attribute(wire.TABLE_NAME, wire.name(table.name))
    return (wire.message(wire.DELTABLE), 0, body)


def _new(kind: int, body: bytes, flags: int = 0) -> Message:
    return (wire.message(kind), NLM_F_CREATE | flags, wire.head() + body)


def _set(table: str, held: MarkSet, ident: int) -> Iterator[Message]:
    place = attribute(wire.SET_TABLE, wire.name(table)) + attribute(wire.SET_NAME, wire.name(held.name))
    yield _new(
        wire.NEWSET,
        place
        + attribute(wire.SET_FLAGS, wire.number(wire.SET_INTERVAL))
        + attribute(wire.SET_KEY_TYPE, wire.number(_KEY_TYPES[held.bits]))
        + attribute(wire.SET_KEY_LENGTH, wire.number(held.bits // 8))
        + attribute(wire.SET_ID, wire.number(ident)),
        NLM_F_EXCL,
    )
    points = list(_points(held))
    for begin in range(0, len(points), _CHUNK):
        listed = b"".join(wire.nested(1, one) for one in points[begin : begin + _CHUNK])
        place = attribute(wire.LIST_TABLE, wire.name(table)) + attribute(wire.LIST_SET, wire.name(held.name))
        yield _new(wire.NEWSETELEM, place + wire.nested(wire.LIST_ELEMENTS, listed))


def _points(held: MarkSet) -> Iterator[bytes]:
    """Where a range begins, and where it has ended; none where it reaches the last number."""
    size = held.bits // 8
    for first, last in held.ranges:
        yield _key(first, size)
        if last + 1 < 1 << held.bits:
            yield _key(last + 1, size) + attribute(wire.ELEMENT_FLAGS, wire.number(wire.ELEMENT_ENDS))


def _key(value: int, size: int) -> bytes:
    return wire.nested(wire.ELEMENT_KEY, attribute(wire.DATA_VALUE, value.to_bytes(size, "big")))


def decode_set(said: dict[int, bytes], elements: Iterable[bytes]) -> MarkSet:
    """From a dumped set and the bodies of the messages with its elements. A set without ranges has none of ours."""
    bits = _number(said.get(wire.SET_KEY_LENGTH)) * 8
    begins: list[int] = []
    ends: list[int] = []
    for body in elements:
        for _, one in each_attribute(wire.said(body).get(wire.LIST_ELEMENTS, b"")):
            found = attributes(one)
            value = attributes(found.get(wire.ELEMENT_KEY, b"")).get(wire.DATA_VALUE, b"")
            ended = _number(found.get(wire.ELEMENT_FLAGS)) & wire.ELEMENT_ENDS
            (ends if ended else begins).append(int.from_bytes(value, "big"))
    ends.append(1 << bits)
    ranges = tuple((first, min(end for end in ends if end > first) - 1) for first in sorted(begins))
    return MarkSet(text(said.get(wire.SET_NAME, b"")), bits, ranges)


def decode_chain(said: dict[int, bytes], rules: Iterable[bytes]) -> MarkChain:
    """From a dumped chain and the bodies of the messages with its rules."""
    hook = attributes(said.get(wire.CHAIN_HOOK, b""))
    (priority,) = struct.unpack("!i", hook.get(wire.HOOK_PRIORITY, bytes(4)))
    return MarkChain(
        text(said.get(wire.CHAIN_NAME, b"")),
        _number(hook.get(wire.HOOK_NUMBER)) if hook else -1,
        priority,
        tuple(decode(wire.parse_expressions(wire.said(body).get(wire.RULE_EXPRESSIONS, b""))) for body in rules),
    )


def _number(value: bytes | None) -> int:
    return int(struct.unpack_from("!I", value)[0]) if value else 0
