"""The queue of a leaf class, sized in time: fq_codel where the kernel has it, else a FIFO in bytes.

For traffic that fills its queue the queue's size, not the rate, sets the delay: size = rate x delay.
"""

from __future__ import annotations

from dataclasses import dataclass

from shaper.model.aqm import Aqm, AqmKind
from shaper.model.policy import TrafficClass
from shaper.tree import FifoOptions, FqCodelOptions, Handle, LinkFacts, Qdisc

UNTARGETED_DELAY = 0.1
"""Seconds of queue where the policy names no delay: room for TCP over a wide-area round trip."""
SMALLEST_FRAMES = 3
_LARGEST = 2**31
_BORROWED_SHARE = 4
"""A class that promises little is sized for a quarter of its limit: it lives on what it borrows."""

_CODEL_STEP = 128
"""Microseconds that CoDel's clock (1024 ns) holds exactly: what is sent is what the kernel says it has."""
_CODEL_TARGET = 0.005
_CODEL_INTERVAL = 0.1
_TRUESIZE = 2
"""fq_codel counts the kernel's memory, about twice the bytes of a full frame."""


@dataclass(frozen=True, slots=True)
class LeafQueue:
    """A leaf's qdisc, the bounds of its limit, and the delay in seconds of a full one at the rate it is sized for.

    `rate` is that rate in bit/s; `size` the static size in bytes. `smallest`, `limit` and `largest` are in the unit of
    the qdisc's limit. `floored` says that three super-packets are more than the delay asks for: in a queue that holds
    only one, TCP collapses (0.7 of 20 Mbit/s were measured).
    """

    qdisc: Qdisc
    smallest: int
    limit: int
    largest: int
    size: int
    rate: int
    floored: bool

    @property
    def delay(self) -> float:
        return self.size * 8 / self.rate


def delay_of(cls: TrafficClass) -> float:
    """The delay in seconds that the class's queue is sized for: its tightest target."""
    return min((target.seconds for target in cls.sla.delays), default=UNTARGETED_DELAY)


def leaf_queue(
    cls: TrafficClass, *, rate: int, ceil: int, handle: Handle, parent: Handle, link: LinkFacts, fq_codel: bool
) -> LeafQueue:
    """The queue under a leaf class with this guarantee and limit in bit/s."""
    aqm = cls.aqm or Aqm()
    fq_codel = fq_codel and aqm.kind is AqmKind.FQ_CODEL
    delay = delay_of(cls)
    frame = link.mtu + link.header
    smallest = SMALLEST_FRAMES * max(frame, link.super_packet)
    basis = rate if cls.sla.delays and cls.guarantee else max(rate, ceil // _BORROWED_SHARE)
    wanted = _bytes(basis, delay)
    size = max(wanted, smallest)
    largest = max(size, _bytes(ceil, delay))
    factor = _TRUESIZE if fq_codel else 1
    smallest, limit, largest = (min(number * factor, _LARGEST) for number in (smallest, size, largest))
    counted = aqm.size if fq_codel or aqm.packets is None else aqm.packets
    if counted is not None:  # as the policy says, so nobody moves it
        smallest = limit = largest = counted
        size = counted * frame if counted == aqm.packets else counted
    options = _fq_codel(cls, aqm, limit, frame) if fq_codel else FifoOptions(limit)
    fifo = "pfifo" if aqm.packets is not None else "bfifo"
    return LeafQueue(
        qdisc=Qdisc(handle, parent, "fq_codel" if fq_codel else fifo, options),
        smallest=smallest,
        limit=limit,
        largest=largest,
        size=size,
        rate=basis,
        floored=link.super_packet > frame and wanted < SMALLEST_FRAMES * link.super_packet,
    )


def _bytes(rate: int, seconds: float) -> int:
    return int(rate * seconds / 8)


def _fq_codel(cls: TrafficClass, aqm: Aqm, memory: int, frame: int) -> FqCodelOptions:
    """Target 5 ms, or a tenth of a laxer delay target; interval 100 ms, never under ten targets (RFC 8289, 4.2-4.4)."""
    target = aqm.target or max(_CODEL_TARGET, delay_of(cls) / 10 if cls.sla.delays else 0.0)
    interval = aqm.interval or max(_CODEL_INTERVAL, 10 * target)
    return FqCodelOptions(
        limit=aqm.packets or 10240,
        target=_codel_time(target),
        interval=_codel_time(interval),
        quantum=frame,
        flows=1024,
        memory=memory,
        ecn=aqm.ecn is not False,
    )


def _codel_time(seconds: float) -> int:
    return round(seconds * 1e6 / _CODEL_STEP) * _CODEL_STEP
