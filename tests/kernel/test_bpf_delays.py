"""Delays, arrivals and losses as counted in the kernel, against the queue's theory and the kernel's drop counter."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from collectors.bpf.delays import BUCKETS, CUTS, LOWEST, ClassCounts, KernelDelays
from tests.kernel.test_capture_matching import BULK, LIMIT, RATE, REST, VOICE, Shaped, offer, shaped

if TYPE_CHECKING:
    from tests.kernel.conftest import Lab

__all__ = ["shaped"]
pytestmark = pytest.mark.kernel

NET = 0xFFF00000
PORTS = (
    (0x28, 0, 0, 0xFFFFF000),  # the ethertype
    (0x15, 0, 8, 0x0800),
    (0x30, 0, 0, NET + 9),  # the protocol
    (0x15, 0, 6, 17),
    (0xB1, 0, 0, NET),  # the length of the header
    (0x48, 0, 0, NET + 2),  # the destination port
    (0x15, 0, 1, 5010),
    (0x06, 0, 0, VOICE),
    (0x15, 0, 1, 5020),
    (0x06, 0, 0, BULK),
    (0x06, 0, 0, REST),
)
"""A class for each of two UDP ports, another for the rest."""


def quantile(counts: ClassCounts, q: float) -> float:
    """The upper edge of the bucket in which the quantile lies."""
    rank, below = q * sum(counts.delays), 0
    for number in range(BUCKETS):
        below += counts.delays[number]
        if below >= rank:
            octave, cut = divmod(number - 1, CUTS)
            return LOWEST if not number else LOWEST * 2**octave * (1 + (cut + 1) / CUTS)
    raise ValueError("no samples")


def hang(lab: Lab, device: str, fd: int) -> None:
    """The program on the hook in front of the queue."""

    def add() -> None:
        with IPRoute() as route:
            (index,) = route.link_lookup(ifname=device)
            if not any(each.get_attr("TCA_KIND") == "clsact" for each in route.get_qdiscs(index)):
                route.tc("add", "clsact", index)
            route.tc(
                "replace-filter", "bpf", index, 1, fd=fd, name="stamp", parent=0xFFFFFFF3, prio=5, classid=1, flags=1
            )

    lab.inside(add)


@contextlib.contextmanager
def counting(shaped: Shaped, *, sampling: int = 1) -> Iterator[KernelDelays]:
    delays = shaped.lab.inside(
        lambda: KernelDelays(device=shaped.pair.a, classifier=PORTS, handles=(VOICE, BULK, REST), sampling=sampling)
    )
    shaped.tc(f"filter del dev {shaped.pair.a} egress")
    try:
        hang(shaped.lab, shaped.pair.a, delays.entry)
        yield delays
    finally:
        delays.close()


@pytest.mark.timing
def test_losses_equal_the_drop_counter_and_delay_equals_the_queue(shaped: Shaped) -> None:
    with counting(shaped) as delays, shaped.socket() as sock:
        began = time.monotonic_ns()
        sent = offer(sock, shaped.pair.b_v4, 3.0, lambda: None)
        time.sleep(0.4)
        counts, health = delays.read()
        lost = delays.sweep(before=time.monotonic_ns())
        assert delays.waiting() == {}
    print(counts[BULK], counts[VOICE], health, lost, sent, shaped.leaf(20))
    assert counts[BULK].arrived == counts[BULK].stamped == sent[5020]
    assert lost[BULK] == shaped.leaf(20)[0] > 1000
    assert counts[BULK].matched + lost[BULK] == sent[5020]
    assert quantile(counts[BULK], 0.5) == pytest.approx(LIMIT * 8 / RATE, rel=0.05)
    assert counts[BULK].largest <= 1.05 * LIMIT * 8 / RATE
    assert counts[VOICE].matched == sent[5010] and VOICE not in lost
    assert quantile(counts[VOICE], 0.99) < 0.005
    assert (counts[BULK].ambiguous, counts[VOICE].ambiguous, health.undecoded) == (0, 0, 0)
