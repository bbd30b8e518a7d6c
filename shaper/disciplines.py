"""The values of the queueing disciplines beside HTB: service curves and options, as the kernel holds and reads back.

Rates are bit/s in whole bytes a second, times microseconds: what is sent is what the kernel says it has.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import NamedTuple

LARGEST_CURVE = (2**32 - 1) * 8
"""bit/s: HFSC's curves are 32-bit bytes a second, and there is no wider attribute."""


class Curve(NamedTuple):
    """HFSC's service curve: `m1` bit/s for `d` microseconds after a class becomes busy, then `m2` bit/s."""

    m1: int
    d: int
    m2: int


def straight(rate: int) -> Curve:
    """One rate from the first moment on, as tc's `rate` writes it."""
    return Curve(0, 0, rate)


class HfscOptions(NamedTuple):
    """`default` is the minor of the class for what no filter matches; with 0 it is dropped."""

    default: int


@dataclass(frozen=True, slots=True)
class HfscClass:
    """`rt` is what a leaf is served in real time, `ls` how siblings share the rest, `ul` what it never passes.

    None stands for a curve that is not there: the kernel has no real-time service for inner classes, and no change
    takes a curve away. `parent` is the root qdisc's handle for a top class.
    """

    handle: int
    parent: int
    rt: Curve | None
    ls: Curve | None
    ul: Curve | None

    @property
    def key(self) -> tuple[str, int, int]:
        return ("class", self.handle, 0)

    @property
    def rate(self) -> int:
        """What it is served in the long run whatever the others want, in bit/s; an inner class, its share."""
        curve = self.rt or self.ls
        return curve.m2 if curve else 0

    @property
    def ceil(self) -> int:
        """In bit/s; without an upper limit its rate."""
        return self.ul.m2 if self.ul else self.rate

    def granted(self, rate: int, ceil: int) -> HfscClass:
        """With another rate and limit. The first slope stays where the new rate is below it: it makes the delay."""
        if (rate, ceil) == (self.rate, self.ceil):
            return self
        rt = self.rt
        if rt is not None:
            rt = Curve(max(rt.m1, rate), rt.d, rate) if rt.m1 > rt.m2 else straight(rate)
        return replace(self, rt=rt, ul=self.ul and straight(ceil))


class Diffserv(enum.StrEnum):
    """How CAKE sorts packets into tins by their DSCP; in the kernel's own order."""

    DIFFSERV3 = "diffserv3"
    DIFFSERV4 = "diffserv4"
    DIFFSERV8 = "diffserv8"
    BESTEFFORT = "besteffort"
    PRECEDENCE = "precedence"


class FlowMode(enum.StrEnum):
    """Among whom CAKE shares a tin; in the kernel's own order."""

    FLOWBLIND = "flowblind"
    SRCHOST = "srchost"
    DSTHOST = "dsthost"
    HOSTS = "hosts"
    FLOWS = "flows"
    DUAL_SRCHOST = "dual-srchost"
    DUAL_DSTHOST = "dual-dsthost"
    TRIPLE_ISOLATE = "triple-isolate"


class AckFilter(enum.StrEnum):
    NONE = "no-ack-filter"
    FILTER = "ack-filter"
    AGGRESSIVE = "ack-filter-aggressive"


class Cells(enum.StrEnum):
    """What a link makes of a packet: ATM's cells of 48 bytes, PTM's 64 of 65, or nothing."""

    NONE = "noatm"
    ATM = "atm"
    PTM = "ptm"


class CakeOptions(NamedTuple):
    """`rate` in bit/s, 0 for no limit; `rtt` and `target` in microseconds; `memory` in bytes, 0 for the kernel's own.

    `overhead` in bytes is added to each packet, None counts what the kernel counts; `mpu` is a packet's least size in
    bytes. `fwmark` is the mask of a mark that names a tin. `wash` clears the DSCP, `ingress` counts drops as sent.
    """

    rate: int
    diffserv: Diffserv
    flows: FlowMode = FlowMode.TRIPLE_ISOLATE
    rtt: int = 100_000
    target: int = 5_000
    nat: bool = False
    wash: bool = False
    ack_filter: AckFilter = AckFilter.NONE
    split_gso: bool = True
    ingress: bool = False
    autorate: bool = False
    overhead: int | None = None
    mpu: int = 0
    cells: Cells = Cells.NONE
    memory: int = 0
    fwmark: int = 0


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
