"""What a rule asks as the ways in which a packet of one ethertype can meet it: bits of words in its headers.

A way asks for bits of the network header, for a protocol, and for bits of the transport header, which a fragment does
not have. All that is asked at once is joined word by word; two that contradict each other are no way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, MAX_LENGTH, TCP, Match, Prefix
from shaper.model.spans import Span, blocks, merged

CARRIED = frozenset(("ethertypes", "dscp", "tos", "ecn", "protocols", "icmp", "tcp_flags", "src", "dst", "net"))
CARRIED |= {"sport", "dport", "port", "length", "any_of", "all_of"}
"""The fields of a match that can be said."""
MOST_WAYS = 20_000

_WITH_PORTS = (TCP, 17, 33, 132, 136)  # and UDP, DCCP, SCTP, UDP-Lite
_IPV6_HEADER, _NO_NEXT = 40, 59

Bits = tuple[tuple[int, int, int], ...]
"""Offset, value and mask of each word that is asked, sorted; the offsets are multiples of 4."""


class TooManyError(Exception):
    """More ways than `MOST_WAYS`."""


class Way(NamedTuple):
    """What a packet must have; `transport` is asked only beside a protocol, and not of fragments."""

    header: Bits = ()
    protocol: int | None = None
    transport: Bits = ()


def ways(conjunction: Iterable[Match], ethertype: int) -> list[Way]:
    """No two alike, none where no packet of the ethertype meets all. Raises TooManyError."""
    return _all(partial(_match, match, ethertype) for match in conjunction)


def joined(*parts: Bits) -> Bits | None:
    """All that is asked, None where that contradicts itself."""
    words: dict[int, tuple[int, int]] = {}
    for offset, value, mask in (word for part in parts for word in part):
        held, known = words.get(offset, (0, 0))
        if (held ^ value) & known & mask:
            return None
        words[offset] = held | value, known | mask
    return tuple((offset, *words[offset]) for offset in sorted(words))


def _both(one: Way, two: Way) -> Way | None:
    if one.protocol is not None and two.protocol is not None and one.protocol != two.protocol:
        return None
    header, transport = joined(one.header, two.header), joined(one.transport, two.transport)
    if header is None or transport is None:
        return None
    return Way(header, two.protocol if one.protocol is None else one.protocol, transport)


def _all(parts: Iterable[Callable[[], Iterable[Way]]]) -> list[Way]:
    """The ways to meet every part."""
    found = [Way()]
    for part in parts:
        others, kept = list(part()), dict[Way, None]()
        for one in found:
            for other in others:
                if (both := _both(one, other)) is not None:
                    kept[both] = None
            if len(kept) > MOST_WAYS:
                raise TooManyError
        found = list(kept)
    return found


def _match(match: Match, ethertype: int) -> list[Way]:
    return _all(partial(_condition, match, name, ethertype) for name in match.asks)


def _condition(match: Match, name: str, ethertype: int) -> Iterator[Way]:
    """The ways to meet the condition in one field."""
    match name:
        case "ethertypes":
            if ethertype in match.ethertypes:
                yield Way()
        case "any_of":
            for part in match.any_of:
                yield from _match(part, ethertype)
        case "all_of":
            yield from ways(match.all_of, ethertype)
        case _ if ethertype in _FIELDS:
            yield from _ip(match, name, _FIELDS[ethertype])


def _ip(match: Match, name: str, at: _Header) -> Iterator[Way]:
    """Of what only IP has."""
    match name:
        case "protocols":
            yield from (Way(protocol=number) for number in match.protocols)
        case "dscp":
            yield from (Way(at.tos(value << 2, 0xFC)) for value in match.dscp)
        case "ecn":
            yield from (Way(at.tos(value, 3)) for value in match.ecn)
        case "tos":
            yield from (Way(at.tos(*wanted)) for wanted in match.tos)
        case "src" | "dst":
            yield from _networks(getattr(match, name), at, name)
        case "net":
            for side in ("src", "dst"):
                yield from _networks(match.net, at, side)
        case "sport" | "dport":
            yield from _ports(getattr(match, name), name)
        case "port":
            for side in ("sport", "dport"):
                yield from _ports(match.port, side)
        case "tcp_flags":
            for value, mask in match.tcp_flags:
                yield Way(protocol=TCP, transport=_word(12, value << 16, mask << 16) or _ANYTHING)
        case "icmp":
            numbers = (number for protocol, number in match.icmp if protocol == at.icmp)
            yield from (Way(protocol=at.icmp, transport=_word(0, number << 24, 0xFF << 24)) for number in numbers)
        case "length":
            yield from map(Way, at.lengths(merged(match.length)))
        case _:
            raise AssertionError(f"no bits for {name}")


def _word(offset: int, value: int, mask: int) -> Bits:
    return ((offset, value, mask),) if mask else ()


def _networks(prefixes: Iterable[Prefix], at: _Header, side: str) -> Iterator[Way]:
    for prefix in prefixes:
        if prefix.version == at.version:
            yield Way(_address(prefix, at.addresses[side]))


def _address(prefix: Prefix, offset: int) -> Bits:
    mask = (1 << prefix.bits) - (1 << prefix.bits - prefix.length)
    value = prefix.value & mask
    each = ((offset + index, 8 * (prefix.bits // 8 - 4 - index)) for index in range(0, prefix.bits // 8, 4))
    words = ((place, value >> shift & 0xFFFFFFFF, mask >> shift & 0xFFFFFFFF) for place, shift in each)
    return tuple(word for word in words if word[2])


def _ports(spans: Iterable[Span], side: str) -> Iterator[Way]:
    shift = 16 if side == "sport" else 0
    for value, size in (block for span in merged(spans) for block in blocks(span)):
        for protocol in _WITH_PORTS:
            transport = _word(0, value << shift, (-size & 0xFFFF) << shift)
            yield Way(protocol=protocol, transport=transport or _ANYTHING)


_ANYTHING: Bits = ((0, 0, 0),)
"""Of a transport header that is asked for nothing, but to be there."""


class _Header(NamedTuple):
    """Where the fields are in the header of one version of IP."""

    version: int
    icmp: int
    tos_shift: int
    addresses: Mapping[str, int]
    lengths: Callable[[Iterable[Span]], Iterator[Bits]]

    def tos(self, value: int, mask: int) -> Bits:
        return _word(0, value << self.tos_shift, mask << self.tos_shift)


def _ipv4_lengths(spans: Iterable[Span]) -> Iterator[Bits]:
    """A packet too large to say how long it is says 0."""
    for first, last in spans:
        if last == MAX_LENGTH:
            yield _word(0, 0, 0xFFFF)
        for value, size in blocks((max(first, 1), last)) if last else ():
            yield _word(0, value, -size & 0xFFFF)


def _ipv6_lengths(spans: Iterable[Span]) -> Iterator[Bits]:
    """The header says what follows it: 0 of nothing, and then no next header, or of more than it can say."""
    for first, last in spans:
        longest = MAX_LENGTH if last == MAX_LENGTH else last - _IPV6_HEADER
        if longest >= 1:
            for value, size in blocks((max(first - _IPV6_HEADER, 1), longest)):
                yield _word(4, value << 16, (-size & 0xFFFF) << 16)
        if first <= _IPV6_HEADER <= last:
            yield _word(4, _NO_NEXT << 8, 0xFFFFFF00)
        if last == MAX_LENGTH:
            for value, size in (*blocks((0, _NO_NEXT - 1)), *blocks((_NO_NEXT + 1, 0xFF))):
                yield _word(4, value << 8, 0xFFFF0000 | (-size & 0xFF) << 8)


_FIELDS: Mapping[int, _Header] = {
    ETHERTYPE_IPV4: _Header(4, ICMP, 16, {"src": 12, "dst": 16}, _ipv4_lengths),
    ETHERTYPE_IPV6: _Header(6, ICMPV6, 20, {"src": 8, "dst": 24}, _ipv6_lengths),
}
