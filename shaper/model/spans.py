"""Ranges of whole numbers, both ends included: joined, intersected, and cut into blocks that one mask can ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Span = tuple[int, int]


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same values in the fewest ranges, sorted."""
    joined: list[Span] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def common(left: Iterable[Span], right: Iterable[Span]) -> list[Span]:
    """The values that are in both."""
    others = list(right)
    pairs = ((max(a, c), min(b, d)) for a, b in left for c, d in others)
    return merged((first, last) for first, last in pairs if first <= last)


def blocks(span: Span) -> Iterator[Span]:
    """Pairs of a value and the size of the block of a power of two that begins there; together they are the span."""
    first, last = span
    while first <= last:
        size = first & -first or 1 << last.bit_length()
        while first + size - 1 > last:
            size >>= 1
        yield first, size
        first += size
