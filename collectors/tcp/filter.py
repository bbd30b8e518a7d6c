"""The socket filter that picks TCP: whole flows, both ways, one in a power of two by a hash of both ends."""

from __future__ import annotations

from collectors.ring import Instruction

SNAP = 160
"""Bytes that are kept: Ethernet, the longest IPv4 header, TCP's with all of its options, and room."""

_NET, _PROTOCOL = 0xFFF00000, 0xFFFFF000
_WORD, _HALF, _BYTE, _HALF_AT_X = 0x20, 0x28, 0x30, 0x48
_SET, _RECALL_X, _STORE, _TO_X = 0x00, 0x61, 0x02, 0x07
_AND, _XOR_X, _ADD_X, _MULTIPLY, _SHIFT_LEFT, _SHIFT_RIGHT = 0x54, 0xAC, 0x0C, 0x24, 0x64, 0x74
_EQUAL, _ANY_OF, _GO, _RETURN = 0x15, 0x45, 0x05, 0x06
_TCP, _OFFSET, _GOLDEN = 6, 0x1FFF, 0x9E3779B1
_ENDS, _PORT = 0, 1

_V6, _PORTS, _TAKE, _LEAVE = range(1, 5)
"""Places that instructions jump to; 0 is the next."""

_Draft = tuple[int, int, int, int]


def tcp_filter(sampling: int) -> tuple[Instruction, ...]:
    """Keeps the first `SNAP` bytes of untagged TCP without IPv6 extension headers: of one flow in `sampling`.

    The ends of a flow are mixed so that both of its directions are alike. More bits of the same hash pick fewer.
    """
    drafts: list[int | _Draft] = [
        (_HALF, 0, 0, _PROTOCOL),
        (_EQUAL, 0, _V6, 0x0800),
        (_BYTE, 0, 0, _NET + 9),
        (_EQUAL, 0, _LEAVE, _TCP),
        (_HALF, 0, 0, _NET + 6),
        (_ANY_OF, _LEAVE, 0, _OFFSET),
        *_mixed(_NET + 12, _NET + 16),
        (_BYTE, 0, 0, _NET),
        (_AND, 0, 0, 0x0F),
        (_SHIFT_LEFT, 0, 0, 2),
        (_GO, 0, 0, _PORTS),
        _V6,
        (_EQUAL, 0, _LEAVE, 0x86DD),
        (_BYTE, 0, 0, _NET + 6),
        (_EQUAL, 0, _LEAVE, _TCP),
        *_mixed(_NET + 20, _NET + 36),
        (_SET, 0, 0, 40),
        _PORTS,
        (_TO_X, 0, 0, 0),
    ]
    if sampling > 1:
        drafts += [
            (_HALF_AT_X, 0, 0, _NET),
            (_STORE, 0, 0, _PORT),
            (_HALF_AT_X, 0, 0, _NET + 2),
            (_RECALL_X, 0, 0, _PORT),
            (_XOR_X, 0, 0, 0),
            (_RECALL_X, 0, 0, _ENDS),
            (_ADD_X, 0, 0, 0),
            (_MULTIPLY, 0, 0, _GOLDEN),
            (_SHIFT_RIGHT, 0, 0, 32 - (sampling.bit_length() - 1)),
            (_EQUAL, _TAKE, _LEAVE, 0),
        ]
    return _placed([*drafts, _TAKE, (_RETURN, 0, 0, SNAP), _LEAVE, (_RETURN, 0, 0, 0)])


def _mixed(source: int, destination: int) -> tuple[_Draft, ...]:
    """What the two addresses have in common whichever way the packet goes."""
    return (
        (_WORD, 0, 0, source),
        (_TO_X, 0, 0, 0),
        (_WORD, 0, 0, destination),
        (_XOR_X, 0, 0, 0),
        (_STORE, 0, 0, _ENDS),
    )


def _placed(drafts: list[int | _Draft]) -> tuple[Instruction, ...]:
    """With distances for the names of places."""
    places: dict[int, int] = {}
    code: list[_Draft] = []
    for one in drafts:
        if isinstance(one, int):
            places[one] = len(code)
        else:
            code.append(one)

    def distance(at: int, place: int) -> int:
        return places[place] - at - 1 if place else 0

    return tuple(
        (kind, 0, 0, distance(at, k)) if kind == _GO else (kind, distance(at, yes), distance(at, no), k)
        for at, (kind, yes, no, k) in enumerate(code)
    )
