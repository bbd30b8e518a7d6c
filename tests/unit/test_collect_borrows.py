"""What a class sent by its own rate and by another's, from HTB's statistics to the status."""

from __future__ import annotations

import struct

import pytest

from collectors.borrows import WRAP, lent_and_borrowed
from collectors.netlink import attribute
from shaper.kernel.protocol import ClassCounters
from shaper.model.status import Borrowing
from shaper.run.borrowing import added, borrowed

XSTATS = struct.pack("=IIIii", 1200, 345, 6, -7000, 89)


def stats2(data: bytes) -> bytes:
    """With the counters that stand before it in a dump."""
    return attribute(1, bytes(12)) + attribute(3, bytes(20)) + attribute(4, data)


def counters(lends: int | None, borrows: int | None) -> ClassCounters:
    return ClassCounters(0, 0, 0, 0, 0, 0, lends=lends, borrows=borrows)


def test_htb_says_both() -> None:
    assert lent_and_borrowed("htb", stats2(XSTATS)) == (1200, 345)


@pytest.mark.parametrize("kind", ["hfsc", "ets", "cake", "prio"])
def test_where_nobody_borrows_nothing_is_said_and_not_zero(kind: str) -> None:
    assert lent_and_borrowed(kind, stats2(XSTATS)) is None


@pytest.mark.parametrize("data", [b"", b"\0" * 7, stats2(b""), stats2(XSTATS[:7]), attribute(1, bytes(12))])
def test_statistics_that_are_missing_or_cut_say_nothing(data: bytes) -> None:
    assert lent_and_borrowed("htb", data) is None


def test_the_difference_of_two_readings() -> None:
    assert borrowed(counters(10, 4), counters(15, 4)) == Borrowing(5, 0)
    assert borrowed(None, counters(15, 4)) == Borrowing(15, 4)
    assert borrowed(counters(10, 4), counters(None, None)) is None


def test_a_counter_that_began_at_zero_again_goes_on() -> None:
    assert borrowed(counters(WRAP - 3, 0), counters(2, 0)) == Borrowing(5, 0)


def test_a_class_that_was_made_anew_counts_from_zero() -> None:
    assert borrowed(counters(1000, 1000), counters(3, 2)) == Borrowing(3, 2)


def test_what_is_not_known_adds_nothing() -> None:
    assert added(None, None) is None
    assert added(Borrowing(1, 2), None) == added(None, Borrowing(1, 2)) == Borrowing(1, 2)
    assert added(Borrowing(1, 2), Borrowing(10, 20)) == Borrowing(11, 22)


def test_the_ratio_is_of_all_that_was_sent() -> None:
    assert Borrowing(30, 10).ratio == 0.25
    assert Borrowing(0, 0).ratio is None
