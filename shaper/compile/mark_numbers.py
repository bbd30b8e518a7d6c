"""Networks and ports as small numbers that fit into a mark.

Every address belongs to the smallest of some networks that holds it, and every port to one of the pieces into which
ranges cut each other. Numbers are given so that all of one network, smaller ones inside it included, are one run:
what asks for a network asks for a run of numbers, by a few masks. 0 stands for what nobody has looked at, 1 for none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from shaper.model.match import Masked, PortRange, Prefix
from shaper.model.spans import Span, blocks, merged
from shaper.tree import MarkSet

UNKNOWN, NONE, _FIRST = 0, 1, 2
_PORTS = 16


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers at the bits from `shift` on. `networks` are sorted, a network before those inside it."""

    shift: int
    networks: tuple[Prefix, ...] = ()
    pieces: tuple[Span, ...] = ()

    @property
    def width(self) -> int:
        """How many bits the numbers take; none where there is nothing to number."""
        count = len(self.networks) + len(self.pieces)
        return (_FIRST + count - 1).bit_length() if count else 0

    @property
    def unknown(self) -> Masked:
        """What a mark has that nobody has set."""
        return Masked(UNKNOWN << self.shift, (1 << self.width) - 1 << self.shift)

    def in_networks(self, wanted: Iterable[Prefix]) -> tuple[Masked, ...]:
        """What a mark has of an address in one of them; each must be known."""
        return self._masks(self._run(_plain(network)) for network in wanted)

    def in_ports(self, wanted: Iterable[PortRange]) -> tuple[Masked, ...]:
        """What a mark has of a port in one of the ranges; each must be known."""
        asked = merged(wanted)
        return self._masks(
            (_FIRST + place, _FIRST + place)
            for place, (first, last) in enumerate(self.pieces)
            if any(low <= first and last <= high for low, high in asked)
        )

    def sets(self) -> Iterator[tuple[int, MarkSet]]:
        """For each bit of the numbers the sets of what has it, which may be nothing: addresses of each IP version, or
        ports.
        """
        for bit in range(self.width):
            for bits, name, owners in self._owners():
                having = merged((first, last) for first, last, number in owners if number >> bit & 1)
                yield 1 << self.shift + bit, MarkSet(f"{name}-{bit}", bits, tuple(having))

    def _owners(self) -> Iterator[tuple[int, str, list[tuple[int, int, int]]]]:
        """Everything there is, cut into ranges with their numbers."""
        if self.pieces:
            owned = [(first, last, _FIRST + place) for place, (first, last) in enumerate(self.pieces)]
            yield _PORTS, "ports", _with_gaps(owned, _PORTS)
            return
        for version, bits in ((4, 32), (6, 128)):
            yield bits, f"ip{version}", _with_gaps(_own(self._numbered(version)), bits)

    def _numbered(self, version: int) -> list[tuple[int, int, int]]:
        return [
            (*_span(network), _FIRST + place)
            for place, network in enumerate(self.networks)
            if network.version == version
        ]

    def _run(self, network: Prefix) -> Span:
        first = self.networks.index(network)
        last = first
        while last + 1 < len(self.networks) and _holds(network, self.networks[last + 1]):
            last += 1
        return _FIRST + first, _FIRST + last

    def _masks(self, runs: Iterable[Span]) -> tuple[Masked, ...]:
        whole = (1 << self.width) - 1
        return tuple(
            Masked(value << self.shift, (whole & -size) << self.shift)
            for run in merged(runs)
            for value, size in blocks(run)
        )


def networks(wanted: Iterable[Prefix], shift: int) -> Numbers:
    """Numbers for the networks."""
    return Numbers(shift, networks=tuple(sorted({_plain(network) for network in wanted})))


def ports(wanted: Iterable[PortRange], shift: int) -> Numbers:
    """Numbers for the pieces into which the ranges cut each other."""
    ranges = list(wanted)
    ends = sorted({end for first, last in ranges for end in (first, last + 1)})
    pieces = [(first, after - 1) for first, after in pairwise(ends)]
    held = tuple(piece for piece in pieces if any(low <= piece[0] and piece[1] <= high for low, high in ranges))
    return Numbers(shift, pieces=held)


def _plain(network: Prefix) -> Prefix:
    """Without bits beyond its length."""
    shift = network.bits - network.length
    return network._replace(value=network.value >> shift << shift)


def _span(network: Prefix) -> Span:
    return network.value, network.value + (1 << network.bits - network.length) - 1


def _holds(network: Prefix, other: Prefix) -> bool:
    first, last = _span(network)
    return network.version == other.version and first <= other.value <= last


def _own(numbered: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """What of each network no smaller one takes. They come sorted, a network before those inside it."""
    owned: list[tuple[int, int, int]] = []
    open_: list[tuple[int, int]] = []  # the last address and the number of the networks that we are in
    at = 0

    def until(address: int) -> None:
        nonlocal at
        if open_ and at < address:
            owned.append((at, address - 1, open_[-1][1]))
        at = max(at, address)

    for first, last, number in numbered:
        while open_ and open_[-1][0] < first:
            until(open_[-1][0] + 1)
            open_.pop()
        until(first)
        open_.append((last, number))
    while open_:
        until(open_[-1][0] + 1)
        open_.pop()
    return owned


def _with_gaps(owned: list[tuple[int, int, int]], bits: int) -> list[tuple[int, int, int]]:
    """With what is in between, which is in none of them."""
    found, at = [], 0
    for first, last, number in owned:
        if at < first:
            found.append((at, first - 1, NONE))
        found.append((first, last, number))
        at = last + 1
    if at < 1 << bits:
        found.append((at, (1 << bits) - 1, NONE))
    return found
