"""Numbers of nf_tables and the form of its messages (include/uapi/linux/netfilter/nf_tables.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from collectors.netlink import attribute, attributes, each_attribute, text

NEWTABLE, GETTABLE, DELTABLE = 0, 1, 2
NEWCHAIN, GETCHAIN = 3, 4
NEWRULE, GETRULE = 6, 7
NEWSET, GETSET = 9, 10
NEWSETELEM, GETSETELEM = 12, 13
GETGEN = 16

TABLE_NAME, TABLE_FLAGS = 1, 2
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE = 1, 3, 4, 5, 7
HOOK_NUMBER, HOOK_PRIORITY = 1, 2
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS = 1, 2, 4
SET_TABLE, SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_KEY_LENGTH, SET_ID = 1, 2, 3, 4, 5, 10
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
ELEMENT_KEY, ELEMENT_FLAGS = 1, 3
DATA_VALUE, DATA_VERDICT = 1, 2
GEN_ID = 1

SET_INTERVAL, ELEMENT_ENDS = 0x4, 0x1
INET = 1
FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_NESTED = 0x8000
_SUBSYSTEM = 10
_EXPRESSION, _NAME, _FIELDS = 1, 1, 2

Expression = tuple[str, dict[int, bytes]]
"""Its name and its attributes, data unwrapped."""


def message(number: int) -> int:
    """The type of a message of nf_tables."""
    return _SUBSYSTEM << 8 | number


def head(family: int = INET) -> bytes:
    """struct nfgenmsg."""
    return struct.pack("!BBH", family, 0, 0)


def family_of(body: bytes) -> int:
    return body[0]


def said(body: bytes) -> dict[int, bytes]:
    """The attributes of a message."""
    return attributes(body, 4)


def name(value: str) -> bytes:
    return value.encode() + b"\0"


def number(value: int) -> bytes:
    """nf_tables keeps its numbers in network order."""
    return struct.pack("!I", value & 0xFFFFFFFF)


def nested(kind: int, payload: bytes) -> bytes:
    return attribute(kind | _NESTED, payload)


_DATA = {("cmp", 3), ("bitwise", 4), ("bitwise", 5), ("immediate", 2)}
"""Attributes of expressions that hold data in a nest."""


def expressions(wanted: Iterator[Expression] | list[Expression]) -> bytes:
    """NFTA_RULE_EXPRESSIONS, whole."""
    listed = b""
    for kind, fields in wanted:
        body = b"".join(
            nested(key, attribute(DATA_VALUE, value)) if (kind, key) in _DATA else attribute(key, value)
            for key, value in fields.items()
        )
        listed += nested(_EXPRESSION, attribute(_NAME, name(kind)) + nested(_FIELDS, body))
    return nested(RULE_EXPRESSIONS, listed)


def parse_expressions(data: bytes) -> list[Expression]:
    """Of a dumped rule; a verdict keeps its nest."""
    found = []
    for _, one in each_attribute(data):
        parts = attributes(one)
        kind = text(parts.get(_NAME, b""))
        fields = {}
        for key, value in attributes(parts.get(_FIELDS, b"")).items():
            inside = attributes(value) if (kind, key) in _DATA else {}
            fields[key] = inside.get(DATA_VALUE, value)
        found.append((kind, fields))
    return found
