"""Which of a class's delays and losses are of which slice of time, where a capture listens in slices.

Packets of one slice wait alike: how far slices are from each other says how far they may be from what nobody saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Slice(NamedTuple):
    """Of one class: packets matched and lost, in one window, that arrived in a slice. Numbers go up in time, from 1."""

    number: int
    matched: int
    lost: int


def parted(delays: Sequence[float], slices: Sequence[Slice]) -> Iterator[tuple[int, Sequence[float]]]:
    """The delays of each slice by its number; first, as 0, those of packets that came while it listened always."""
    at = len(delays) - sum(one.matched for one in slices)
    yield 0, delays[:at]
    for number, matched, _ in slices:
        yield number, delays[at : at + matched]
        at += matched
