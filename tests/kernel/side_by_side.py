"""The same traffic by three accounts: the kernel's counters, its own programs (eBPF), and captured packets."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forwarding import by_address
from pyroute2 import IPRoute
from test_capture_matching import BULK, REST, VOICE, Shaped, capturing, offer, total

from collectors.bpf.counts import CUTS, ClassCounts, Health
from collectors.bpf.delays import KernelDelays

if TYPE_CHECKING:
    from conftest import Lab

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


def hang(lab: Lab, device: str, fd: int) -> None:
    """The program on the hook in front of the queue, before what mirrors."""

    def add() -> None:
        with IPRoute() as route:
            (index,) = route.link_lookup(ifname=device)
            if not any(each.get_attr("TCA_KIND") == "clsact" for each in route.get_qdiscs(index)):
                route.tc("add", "clsact", index)
            route.tc("replace-filter", "bpf", index, 1, fd=fd, name="stamp", parent=0xFFFFFFF3, prio=5, flags=1)

    lab.inside(add)


@contextlib.contextmanager
def counting(shaped: Shaped, *, sampling: int = 1, cuts: int = CUTS) -> Iterator[KernelDelays]:
    """The programs on the device."""
    handles = (VOICE, BULK, REST)
    delays = KernelDelays(classifier=PORTS, handles=handles, sampling=sampling, cuts=cuts)
    try:
        hang(shaped.lab, shaped.pair.a, delays.entry)
        delays.start(shaped.pair.a, netns=shaped.lab.name)
        yield delays
    finally:
        delays.close()


@dataclass(frozen=True)
class Account:
    """Of one class: what was sent and dropped, and what each of the two says of it. Delays in seconds, ascending."""

    sent: int
    dropped: int
    counts: ClassCounts
    counted_lost: int
    captured: list[float]
    captured_lost: int


@dataclass(frozen=True)
class Outcome:
    """`copied` says whether packets were known by their bytes. `read` and `drained` are the seconds of processor time
    that reading either account took."""

    voice: Account
    bulk: Account
    health: Health
    copied: bool
    sent: Counter[int]
    read: float
    drained: float


def side_by_side(shaped: Shaped, seconds: float, *, addresses: bool = False) -> Outcome:
    """Voice beside a bulk class that is offered more than twice what it may have; packets are known by their addresses,
    or by their bytes."""
    windows, spent = [], {"read": 0.0, "drained": 0.0}

    def tick() -> None:
        with _charged(spent, "drained"):
            windows.append(capture.drain(now=time.time()))
        with _charged(spent, "read"):
            delays.read()

    with counting(shaped) as delays, capturing(shaped, horizon=1.0) as capture, shaped.socket() as sock:
        if addresses:
            by_address(delays, lambda: sock.sendto(b"", (shaped.pair.b_v4, 9)))
        sent = offer(sock, shaped.pair.b_v4, seconds, tick)
        time.sleep(0.4)  # the queue is 178 ms long
        windows.append(capture.settle(now=time.time(), queued={}))
        counts, health = delays.read()
        lost, _ = delays.sweep(before=time.monotonic_ns())
    accounts = {}
    for handle, minor, port in ((VOICE, 10, 5010), (BULK, 20, 5020)):
        captured, captured_lost, _ = total(windows, handle)
        dropped, _ = shaped.leaf(minor)
        accounts[minor] = Account(sent[port], dropped, counts[handle], lost.get(handle, 0), captured, captured_lost)
    return Outcome(accounts[10], accounts[20], health, delays.copied, sent, spent["read"], spent["drained"])


@contextlib.contextmanager
def _charged(spent: dict[str, float], name: str) -> Iterator[None]:
    before = time.thread_time()
    yield
    spent[name] += time.thread_time() - before
