"""The options of prio and ets, whose classes are bands that come with the qdisc."""

from __future__ import annotations

from typing import NamedTuple

PRIORITIES = 16
"""A packet's own priority, 0 to 15, names the band of what no filter matches."""
MOST_BANDS = 16


class PrioOptions(NamedTuple):
    """`bands` served in strict order; `priomap` is the band of each packet priority."""

    bands: int
    priomap: tuple[int, ...]


class EtsOptions(NamedTuple):
    """The first `strict` of `bands` in strict order, then the others by turns of `quanta` bytes."""

    bands: int
    strict: int
    quanta: tuple[int, ...]
    priomap: tuple[int, ...]


def bands_of(options: object) -> int:
    """How many classes the options make by themselves."""
    return options.bands if isinstance(options, (PrioOptions, EtsOptions)) else 0
