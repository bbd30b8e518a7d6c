"""A class that sends more than its rate: what it borrowed is what tc says, and what its own rate could not send."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from test_kernel_netlink import EF_TO_10, TOP, adds, cls, send_udp

from shaper.kernel.protocol import ClassCounters
from shaper.tree import ROOT, BpfFilter, FifoOptions, HtbOptions, Qdisc

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.kernel

RATE, CEIL, PACKETS, BITS = 1_000_000, 4_000_000, 300, 1042 * 8
BURST = 10_000 * 8
"""Bits, as `cls` gives every class; twice that at its ceil."""


def told(text: str, minor: int) -> tuple[int, int]:
    """What tc says of a class: iproute2 may print it as words or as JSON."""
    about = text[text.index(f"5a00:{minor:x}") :]
    return tuple(int(re.findall(rf'{word}"?: ?(\d+)', about)[0]) for word in ("lended", "borrowed"))  # type: ignore[return-value]


def test_what_a_class_borrows_is_counted_as_tc_has_it(netns: Lab) -> None:
    pair, kernel = netns.link_pair(), netns.kernel()
    busy, other = TOP | 0x10, TOP | 0x20
    tree = (
        Qdisc(TOP, ROOT, "htb", HtbOptions(0x20)),
        cls(1, 0, CEIL, CEIL),
        cls(0x10, 1, RATE, CEIL),
        cls(0x20, 1, RATE, CEIL),
        Qdisc(0x5B100000, busy, "pfifo", FifoOptions(PACKETS)),
        Qdisc(0x5B200000, other, "pfifo", FifoOptions(PACKETS)),
        BpfFilter(TOP, 10, 1, EF_TO_10),
    )
    kernel.send(pair.a, adds(*tree))
    fresh = kernel.counters(pair.a).classes[busy]
    assert (fresh.lends, fresh.borrows) == (0, 0)

    began = time.monotonic()
    send_udp(netns, pair, PACKETS, dscp=46)
    seen = _when_empty(lambda: kernel.counters(pair.a).classes[busy], until=began + 20)
    took = time.monotonic() - began

    assert seen.lends is not None
    assert seen.borrows is not None
    assert (seen.sent_packets, seen.drops) == (PACKETS, 0)
    assert seen.lends + seen.borrows == PACKETS
    assert PACKETS * BITS / took > RATE, "it sent no more than its rate: it had nothing to borrow"
    assert CEIL * took + 2 * BURST + BITS >= PACKETS * BITS
    assert seen.lends * BITS <= RATE * took + BURST + BITS, "its own rate cannot have sent so much"
    shown = netns.run(f"tc -s -j class show dev {pair.a}")
    assert told(shown, 0x10) == (seen.lends, seen.borrows)
    beside = kernel.counters(pair.a).classes[other]  # what the hosts say of themselves
    assert (beside.borrows, told(shown, 0x20)[1]) == (0, 0)


def _when_empty(read: Callable[[], ClassCounters], *, until: float) -> ClassCounters:
    """The counters once all has left the queue."""
    seen = read()
    while seen.sent_packets + seen.drops < PACKETS and time.monotonic() < until:
        time.sleep(0.01)
        seen = read()
    return seen
