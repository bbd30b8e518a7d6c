"""The queue of a leaf class, sized in time: the one that it asks for, or the nearest that the kernel has.

For traffic that fills its queue the queue's size, not the rate, sets the delay: size = rate x delay.
"""

from __future__ import annotations

from dataclasses import dataclass

from shaper.compile.hosts import host_filter
from shaper.compile.nearest import Choice, choose_queue
from shaper.compile.queues import Basis, options_of
from shaper.model.aqm import AqmKind
from shaper.model.policy import TrafficClass
from shaper.tree import (
    Capabilities,
    CodelOptions,
    FifoOptions,
    FqCodelOptions,
    Handle,
    LinkFacts,
    Node,
    Options,
    PieOptions,
    Qdisc,
    RedOptions,
    SfqOptions,
    aqm_target,
    queue_limit,
)

_IN_MEMORY = frozenset({AqmKind.FQ_CODEL, AqmKind.FQ_PIE, AqmKind.CAKE})

UNTARGETED_DELAY = 0.1
"""Seconds of queue where the policy names no delay: room for TCP over a wide-area round trip."""
SMALLEST_FRAMES = 3
SHORTEST_TARGET = 1_024
"""Microseconds: the least that an AQM's target may be moved to; what a frame takes at a rate is the law's matter."""
_LARGEST = 2**31
_BORROWED_SHARE = 4
"""A class that promises little is sized for a quarter of its limit: it lives on what it borrows."""

_TRUESIZE = 2
"""fq_codel and its kin count the kernel's memory, about twice the bytes of a full frame."""


@dataclass(frozen=True, slots=True)
class LeafQueue:
    """A leaf's qdisc, the bounds of its limit, and the delay in seconds of a full one at the rate it is sized for.

    `rate` is that rate in bit/s; `size` the static size in bytes. `smallest`, `limit` and `largest` are in the unit of
    the qdisc's limit. `floored` says that it was made to hold three super-packets, more than the delay asks for: in a
    queue that holds only one, TCP collapses (0.7 of 20 Mbit/s were measured). `targets` are the least and the compiled
    target of its AQM in microseconds, 0 without one: the same where the policy says it, or promises no delay.
    """

    qdisc: Qdisc
    choice: Choice
    smallest: int
    limit: int
    largest: int
    size: int
    rate: int
    floored: bool
    targets: tuple[int, int] = (0, 0)

    @property
    def target(self) -> int:
        return self.targets[1]

    @property
    def delay(self) -> float:
        return self.size * 8 / self.rate

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The qdisc, and the filter that tells it hosts apart."""
        choice, options = self.choice, self.qdisc.options
        if not choice.hashed or choice.fairness is None:
            return (self.qdisc,)
        flows = options.divisor if isinstance(options, SfqOptions) else 1
        flows = options.flows if isinstance(options, FqCodelOptions) else flows
        return (self.qdisc, host_filter(self.qdisc.handle, choice.fairness, flows))


def delay_of(cls: TrafficClass) -> float:
    """The delay in seconds that the class's queue is sized for: its tightest target."""
    return min((target.seconds for target in cls.sla.bounds), default=UNTARGETED_DELAY)


def leaf_queue(
    cls: TrafficClass,
    *,
    rate: int,
    ceil: int,
    handle: Handle,
    parent: Handle,
    link: LinkFacts,
    have: Capabilities,
) -> LeafQueue:
    """The queue under a leaf class with this guarantee and limit in bit/s.

    Raises UnavailableError where the kernel has none that means what the class asks for.
    """
    choice = choose_queue(cls, have)
    aqm = choice.aqm
    delay = delay_of(cls)
    frame = link.mtu + link.header
    smallest = SMALLEST_FRAMES * max(frame, link.super_packet)
    basis = rate if cls.sla.bounds and cls.guarantee else max(rate, ceil // _BORROWED_SHARE)
    wanted = _bytes(basis, delay)
    size = max(wanted, smallest)
    largest = max(size, _bytes(ceil, delay))
    factor = _TRUESIZE if aqm.kind in _IN_MEMORY else 1
    bounds = [min(number * factor, _LARGEST) for number in (smallest, size, largest)]
    counted = aqm.size if aqm.kind is not AqmKind.FIFO or aqm.packets is None else aqm.packets
    if counted is not None:  # as the policy says, so nobody moves it
        bounds = [counted] * 3
        size = counted * frame if counted == aqm.packets else counted
    options: Options
    targets = (0, 0)
    if aqm.kind is AqmKind.FIFO:
        kind, options = "pfifo" if aqm.packets is not None else "bfifo", FifoOptions(bounds[1])
    else:
        promised = delay if cls.sla.bounds else None
        kind, options = options_of(choice, Basis(promised, basis, frame, size, smallest, bounds[1]))
        size = _held(options, size, frame)
        if queue_limit(options) is None:  # the controller has no limit to move
            bounds = [size] * 3
        target = aqm_target(options)
        moves = bool(cls.sla.bounds) and aqm.target is None
        targets = (min(SHORTEST_TARGET, target) if moves else target, target)
    return LeafQueue(
        qdisc=Qdisc(handle, parent, kind, options),
        choice=choice,
        smallest=bounds[0],
        limit=bounds[1],
        largest=bounds[2],
        size=size,
        rate=basis,
        floored=counted is None and link.super_packet > frame and wanted < smallest <= size,
        targets=targets,
    )


def _held(options: Options, size: int, frame: int) -> int:
    """Bytes of a full queue: as it was sized, or as its own limit has it."""
    if isinstance(options, (CodelOptions, PieOptions, SfqOptions)):
        return options.limit * frame
    return options.limit if isinstance(options, RedOptions) else size


def _bytes(rate: int, seconds: float) -> int:
    return int(rate * seconds / 8)
