"""Delay variation in its two forms (RFC 5481, section 4): over the least delay, and from packet to packet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise


def variation(delay: float, least: float) -> float:
    """PDV (RFC 5481, 4.2): how far a delay, or a quantile of delays, is above the least of the same window, in s."""
    return max(0.0, delay - least)


def consecutive(delays: Iterable[float]) -> Iterator[float]:
    """IPDV (RFC 3393): each packet's delay less that of the packet before it, in s; one less than there are delays.

    `delays` are in the order in which the packets were sent, of one class; a lost one is skipped (section 2.2's
    selection function: consecutive packets that arrived).
    """
    return (after - before for before, after in pairwise(delays))
