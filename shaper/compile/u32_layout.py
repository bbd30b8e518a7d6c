"""From the ways to meet a rule to u32 filters, and the tables by which they link from one header to the next.

A filter asks for bits at an offset; one that links to a table makes it look further on, by as much as a length in the
packet says. So the transport header is found behind IPv4's options, and IPv6's extension headers are passed over one by
one, by a table that links to itself. Filters link to tables with a lower number than their own, or the same: so each
can be added when all it needs is there, in the order of handles, and taken away in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shaper.compile.u32_ways import Bits, Way, joined
from shaper.model.match import ETHERTYPE_IPV4
from shaper.tree import U32_ROOT, Action, Handle, U32Filter, U32Key, U32Link, U32Table, u32_place

_NO_FRAGMENT: Bits = ((4, 0, 0x3FFF),)
"""IPv4: no offset, and no more to come."""
_OPTIONS, _FRAGMENT = (0, 43, 60), 44

Node = U32Table | U32Filter


class _Skip(NamedTuple):
    """Past a header: `bytes`, and as many more as the 16 bits at `at` say."""

    bytes: int
    at: int = 0
    mask: int = 0
    shift: int = 0


_PAST_IPV4 = _Skip(0, 0, 0x0F00, 6)
"""Its length in words of 4 bytes is the low half of its first byte."""
_PAST_IPV6 = _Skip(40)
_PAST_EXTENSION = _Skip(8, 1, 0xFF00, 5)
"""Its length in units of 8 bytes, without the first, is its second byte."""


class Block:
    """All tables and filters of one place, which share the numbers of tables."""

    def __init__(self, parent: Handle) -> None:
        self.parent = parent
        self.nodes: list[Node] = []
        self.filters = self.tables = 0


class Place:
    """The rules of one ethertype, in their order."""

    def __init__(self, block: Block, ethertype: int) -> None:
        self.block = block
        self.ethertype = ethertype
        self.lengths: dict[Handle, int] = {}
        block.nodes.append(U32Table(block.parent, u32_place(ethertype), 0, ethertype))

    def add(self, found: Iterable[Way], classid: Handle, actions: tuple[Action, ...]) -> None:
        """One rule behind those before."""
        rule = _Rule(self, classid, actions)
        by_header: dict[Bits, list[Way]] = {}
        for way in found:
            by_header.setdefault(way.header, []).append(way)
        for header, met in sorted(by_header.items()):
            rule.add(header, met)


class _Rule:
    """The filters of one rule: all name one class, so their order among themselves is the same to a packet."""

    def __init__(self, place: Place, classid: Handle, actions: tuple[Action, ...]) -> None:
        self._place = place
        self._classid = classid
        self._actions = actions
        self._tables: dict[object, Handle] = {}

    def add(self, header: Bits, met: Sequence[Way]) -> None:
        """The ways that ask the same of the network header."""
        if any(way.protocol is None for way in met):
            self._take(U32_ROOT, header)
            return
        behind: dict[int, set[Bits]] = {}
        for way in met:
            assert way.protocol is not None
            behind.setdefault(way.protocol, set()).add(way.transport)
        if self._place.ethertype == ETHERTYPE_IPV4:
            self._ipv4(header, behind)
        else:
            self._ipv6(header, behind)

    def _ipv4(self, header: Bits, behind: Mapping[int, set[Bits]]) -> None:
        for protocol, transports in sorted(behind.items()):
            asked: Bits = ((8, protocol << 16, 0xFF << 16),)
            if () in transports:
                self._take(U32_ROOT, header, asked)
            else:
                self._link(U32_ROOT, self._asking(transports), _PAST_IPV4, header, asked, _NO_FRAGMENT)

    def _ipv6(self, header: Bits, behind: Mapping[int, set[Bits]]) -> None:
        """A header says which one follows: the first in its seventh byte, an extension in its first."""
        ends = {
            protocol: None if () in transports else self._asking(transports)
            for protocol, transports in sorted(behind.items())
            if protocol not in (*_OPTIONS, _FRAGMENT)
        }
        whole = [((0, protocol << 24, 0xFF << 24),) for protocol, transports in behind.items() if () in transports]
        if whole:  # behind a fragment's header nothing is passed over, and nothing is asked
            ends |= {_FRAGMENT: self._asking(whole)}
        known = frozenset(ends.items())
        if known not in self._tables:
            self._tables[known] = again = self._table()
            self._next(again, again, ends, _PAST_EXTENSION, (), 0, 24)
        self._next(U32_ROOT, self._tables[known], ends, _PAST_IPV6, header, 4, 8)

    def _next(
        self,
        into: Handle,
        options: Handle,
        ends: Mapping[int, Handle | None],
        skip: _Skip,
        header: Bits,
        offset: int,
        shift: int,
    ) -> None:
        """A filter for each number of a following header that matters, which stands at a place of a word."""
        for number, table in (*ends.items(), *((number, options) for number in _OPTIONS)):
            asked: Bits = ((offset, number << shift, 0xFF << shift),)
            if table is None:
                self._take(into, header, asked)
            else:
                self._link(into, table, skip, header, asked)

    def _asking(self, each: Iterable[Bits]) -> Handle:
        """The table that takes what meets one of these."""
        asked = frozenset(each)
        if asked not in self._tables:
            self._tables[asked] = table = self._table()
            for bits in sorted(asked):
                self._take(table, bits)
        return self._tables[asked]

    def _take(self, into: Handle, *asked: Bits) -> None:
        self._filter(into, asked, None)

    def _link(self, into: Handle, table: Handle, skip: _Skip, *asked: Bits) -> None:
        self._filter(into, asked, U32Link(table, *skip))

    def _filter(self, into: Handle, asked: Iterable[Bits], link: U32Link | None) -> None:
        bits = joined(*asked)
        if bits is None:  # one of no next header has a next header
            return
        place, block = self._place, self._place.block
        keys = tuple(U32Key(*word) for word in bits if word[2])
        number = place.lengths[into] = place.lengths.get(into, 0) + 1
        at = block.parent, u32_place(place.ethertype), into | number, place.ethertype
        block.nodes.append(
            U32Filter(*at, keys, link=link) if link else U32Filter(*at, keys, self._classid, None, self._actions)
        )
        block.filters += 1

    def _table(self) -> Handle:
        block = self._place.block
        block.tables += 1
        handle = block.tables << 20
        block.nodes.append(U32Table(block.parent, u32_place(self._place.ethertype), handle, self._place.ethertype))
        return handle
