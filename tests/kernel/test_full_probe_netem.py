"""Probes over paths whose delay, loss, duplicates and order netem makes: what is measured is what was made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from collectors.probe.kernel_clock import clock_error
from collectors.probe.reflector import Reflector
from collectors.probe.serve import bound, reflect
from collectors.probe.session import paced
from collectors.probe.summary import Summary, summarise
from shaper.model.probe import Probe, ProbeKind
from shaper.run.clock import SystemClock
from shaper.run.probers import prober

pytestmark = [pytest.mark.kernel, pytest.mark.full]
CLOCK = SystemClock()
LATE = 0.012
"""Seconds by which a busy machine's timers and programs may be late; netem's own are exact."""


@contextmanager
def reflecting(netns: Any, address: str) -> Iterator[Reflector]:
    """Our reflector at the far end, in a thread."""
    made = Reflector((ip_network("10.0.0.0/8"),), clock_error, stateful=True)
    stop = threading.Event()
    with ExitStack() as stack:
        socket = netns.inside(lambda: stack.enter_context(bound(address, 862)), peer=True)
        thread = threading.Thread(target=reflect, args=(socket, made, CLOCK), kwargs={"stopped": stop.is_set})
        thread.start()
        try:
            yield made
        finally:
            stop.set()
            thread.join()


def path(netns: Any, device: str, netem: str, *, peer: bool = False) -> None:
    netns.run(f"tc qdisc replace dev {device} root netem limit 100000 {netem}", peer=peer)


def measured(
    netns: Any, to: str, *, count: int, interval: float, kind: ProbeKind = ProbeKind.STAMP, stateful: bool = False
) -> Summary:
    made = prober(Probe(to, kind, 862, interval), CLOCK, timeout=1.0, netns=netns.name)
    try:
        settled = tuple(paced(made, CLOCK, interval=interval, count=count))
        return summarise(settled, interval=interval, own=clock_error(), peer=made.log.peer, stateful=stateful)
    finally:
        made.close()


@pytest.fixture
def to(netns: Any) -> Iterator[str]:
    """The far end, its neighbours known."""
    pair = netns.link_pair()
    netns.run(f"ping -c 2 -i 0.2 {pair.b_v4}")
    with reflecting(netns, pair.b_v4):
        yield pair.b_v4


@pytest.mark.parametrize("kind", [ProbeKind.STAMP, ProbeKind.ICMP])
def test_a_known_delay_is_found(netns: Any, to: str, kind: ProbeKind) -> None:
    path(netns, "a1", "delay 30ms")
    path(netns, "b1", "delay 10ms", peer=True)
    found = measured(netns, to, count=20, interval=0.02, kind=kind)
    assert found.lost == 0
    assert 0.040 <= min(found.round_trips) < 0.040 + LATE
    # The first 30 ms pass in the queue of our own device, and the kernel's stamps say so.
    assert len(found.waits) == 20
    assert 0.030 <= min(found.waits) < 0.030 + LATE
    if found.one_way is not None:
        # Both ends read one clock here; where nobody says so, half a round trip is all that is claimed.
        assert abs(min(found.one_way.there) - 0.030) <= found.one_way.error + LATE
        assert abs(min(found.one_way.back) - 0.010) <= found.one_way.error + LATE


def test_the_direction_that_varies_is_named_without_synchronised_clocks(netns: Any, to: str) -> None:
    path(netns, "a1", "delay 20ms 15ms")
    path(netns, "b1", "delay 20ms", peer=True)
    found = measured(netns, to, count=60, interval=0.01)
    assert max(found.pdv_there) > 0.015
    assert sorted(found.pdv_back)[30] < 0.010
    assert len(found.ipdv_there) == len(found.ipdv_back) == 59


def test_loss_is_that_of_netem(netns: Any, to: str) -> None:
    """Of 400 packets 20 % are lost: between 45 and 120 of them, but for one time in a million."""
    path(netns, "a1", "loss 20%")
    found = measured(netns, to, count=400, interval=0.003)
    assert 45 <= found.lost <= 120
    assert found.received == 400 - found.lost == len(found.round_trips)


@pytest.mark.parametrize("device", ["a1", "b1"])
def test_loss_is_told_apart_by_direction_as_netem_counts_it(netns: Any, to: str, device: str) -> None:
    path(netns, device, "loss 20%", peer=device == "b1")
    found = measured(netns, to, count=300, interval=0.003, stateful=True)
    shown = netns.run(f"tc -s qdisc show dev {device}", peer=device == "b1").replace(",", "").split()
    dropped = int(shown[shown.index("(dropped") + 1])
    assert dropped - 3 <= found.lost <= dropped, "neighbours are asked for, too"
    assert found.ways is not None
    told = found.lost - found.ways.untold
    assert (found.ways.there, found.ways.back) == ((told, 0) if device == "a1" else (0, told))
    assert told > 20


def test_duplicates_are_counted_beside_what_was_sent(netns: Any, to: str) -> None:
    path(netns, "b1", "duplicate 100%", peer=True)
    found = measured(netns, to, count=30, interval=0.005)
    assert (found.sent, found.lost, found.duplicates) == (30, 0, 30)


def test_reordering_is_seen(netns: Any, to: str) -> None:
    """Half of the packets pass at once what waits 40 ms, so that many overtake; in order none does."""
    assert measured(netns, to, count=30, interval=0.005).reordered == 0
    path(netns, "a1", "delay 40ms reorder 50%")
    found = measured(netns, to, count=100, interval=0.005)
    assert 10 <= found.reordered <= 90
    assert found.lost == 0
