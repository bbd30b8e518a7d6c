"""The shapes in which every collector delivers: plain values with their counts, windows and health."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from collectors.histogram import DelayHistogram
from collectors.slices import Slice

EBPF, CAPTURE = "ebpf", "capture"
"""Where a window comes from: counted in the kernel, or from captured packets."""


class FlowKey(NamedTuple):
    """What of a frame decides its class; same order as the classifier's packet. Missing fields are None.

    `src` and `dst` are addresses as integers; ports, ICMP type and TCP flags are None in fragments. TCP flags and the
    length (IP bytes, 65535 where the header cannot say it) are None where nobody asked for details.
    """

    ethertype: int
    protocol: int | None = None
    src: int | None = None
    dst: int | None = None
    sport: int | None = None
    dport: int | None = None
    dscp: int | None = None
    icmp_type: int | None = None
    ecn: int | None = None
    tcp_flags: int | None = None
    length: int | None = None


Classifier = Callable[[FlowKey], int]
"""From a frame's flow key to the classid it will be queued in."""


@dataclass(frozen=True, slots=True)
class ClassWindow:
    """What a collector learnt of one class since the last window.

    `delays` are the queueing delays in seconds of the packets matched in this window, `histogram` the same where they
    were counted in the kernel; `arrived_*` count frames seen before the qdisc, `inelastic_bytes` those of them that are
    not TCP; of them `taken` were looked at, None for all; `lost` packets never left within the horizon; `envelope` maps
    tau in seconds to the most inelastic bytes that arrived in any window of that length. Where it listened in slices of
    time, `slices` says of which: the last of the `delays` are theirs, one after the other, and those before of none.
    """

    delays: tuple[float, ...] = ()
    arrived_packets: int = 0
    arrived_bytes: int = 0
    inelastic_bytes: int = 0
    matched: int = 0
    lost: int = 0
    envelope: Mapping[float, int] = field(default_factory=dict)
    histogram: DelayHistogram | None = None
    taken: int | None = None
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptureWindow:
    """One window of a collector, per class, and its own health. `sampling` n means 1 packet in n was looked at.

    With n > 1 every count is of the packets that were looked at: nothing is scaled up; but where `counted_all` what
    arrived is counted of all packets. `listening` is the share of time in which the tap behind the queue means to
    listen: with less than 1 delays and losses are those of slices of time, of each class's `taken` packets, and what
    arrived is counted as ever. `copied` says whether the kernel copied packets to be seen behind the queue at its end;
    where it did not, nothing is told of what never came out. `source` is the collector. `captured` counts frames of
    both taps, `capture_drops` those that either lost; `ambiguous`, `undecoded` and `super_packets` count frames before
    the qdisc that are attributed to no loss, `unmatched` frames after it that were never seen before it. `in_flight`
    maps classids to packets that have neither left nor are known to be lost. Of the `audited` frames `misclassified`
    disagreed with scapy.
    """

    seconds: float
    classes: Mapping[int, ClassWindow]
    captured: int
    capture_drops: int
    ambiguous: int
    undecoded: int
    super_packets: int
    in_flight: Mapping[int, int]
    sampling: int
    audited: int = 0
    misclassified: int = 0
    unmatched: int = 0
    source: str = CAPTURE
    counted_all: bool = False
    listening: float = 1.0
    copied: bool = True

    @property
    def losses_complete(self) -> bool:
        """Whether what was lost is known of all that is counted as arrived."""
        return self.copied and (self.sampling == 1 or not self.counted_all)

    @property
    def arrivals_complete(self) -> bool:
        """Whether what arrived is known of every packet."""
        return self.counted_all or self.sampling == 1
