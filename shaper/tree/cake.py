"""CAKE's options, as the kernel holds and reads them back."""

from __future__ import annotations

import enum
from typing import NamedTuple

RTT_TARGETS = 20
"""How many targets CAKE's round trip is: tc has a twentieth of it for the target."""


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

    def aimed(self, target: int) -> CakeOptions:
        """With another target in microseconds, and the round trip as much longer or shorter as tc has it for that."""
        return self._replace(target=target, rtt=self.rtt + (target - self.target) * RTT_TARGETS)
