"""What the control law works on: the link and its leaf classes, as they do not change from tick to tick."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from shaper.control.tuning import Tuning
from shaper.model.decision import Allocation, Bounds, Grant
from shaper.model.policy import Interface, Tier
from shaper.model.sla import Sla

_TARGET_STEP = 128
"""Microseconds that CoDel's clock (1024 ns) and the packet scheduler's (64 ns) hold exactly."""


def whole(rate: float) -> int:
    """A rate rounded down to whole bytes a second, as the kernel keeps it."""
    return int(rate) // 8 * 8


@dataclass(frozen=True, slots=True)
class ClassSetup:
    """One leaf class. Rates in bit/s; `weight` is its share inside its tier; `static` where it starts.

    `floor` is what nothing takes, `guarantee` what it is entitled to while the tiers above it hold their SLA; `step`
    the grid of its grants above the lowest, 0 for none; `tightest` the shortest delay that any of its targets allows,
    in seconds. `memory` says that its queue keeps itself short, and that its limit is of the kernel's memory.
    """

    path: str
    tier: Tier
    weight: float
    guarantee: int
    floor: int
    limit: int
    sla: Sla
    bounds: Bounds
    static: Grant
    step: int = 0
    memory: bool = False
    tightest: float | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tightest = min((target.seconds for target in self.sla.bounds), default=None)
        object.__setattr__(self, "tightest", tightest)

    @property
    def lowest(self) -> int:
        """The least rate it may ever be granted, in whole bytes a second."""
        return -(-self.bounds.rate[0] // 8) * 8

    @property
    def highest(self) -> int:
        """The most rate it may ever be granted: its bounds and its limit."""
        return max(self.lowest, whole(min(self.bounds.rate[1], self.bounds.ceil[1], self.limit)))

    def stepped(self, rate: float) -> float:
        """The least rate of the grid that is no less, as far as the highest."""
        if not self.step or rate <= self.lowest:
            return rate
        return min(self.highest, self.lowest + math.ceil((rate - self.lowest) / self.step) * self.step)

    def aimed(self, target: float) -> int:
        """A target of its AQM, in microseconds that the kernel holds exactly, within its bounds."""
        low, high = self.bounds.target
        return min(high, max(low, int(target) // _TARGET_STEP * _TARGET_STEP))

    def on_grid(self, rate: int) -> int:
        """The largest rate of the grid that is no more; the guarantee and the highest are part of the grid."""
        if not self.step or rate <= self.lowest or rate >= self.highest:
            return rate
        below = self.lowest + (rate - self.lowest) // self.step * self.step
        return max(below, whole(self.guarantee) if self.lowest <= self.guarantee <= rate else 0)


@dataclass(frozen=True, slots=True)
class LinkSetup:
    """`bandwidth` in bit/s; `mtu_frame` the largest frame in bytes at the qdisc; `burst_seconds` of rate in a burst.

    `share` is what the bandwidth is of the one that was compiled, of a link that moves; None of one that stands.
    """

    bandwidth: int
    mtu_frame: int = 1514
    burst_seconds: float = 0.001
    share: float | None = None


@dataclass(frozen=True, slots=True)
class ParentSetup:
    """An inner class: the rates of the leaves below it never exceed its limit (bit/s) together."""

    path: str
    limit: int
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """One direction of one interface. `classes` are the leaves in the policy's order.

    With `tins` they are those of one CAKE: of them nothing moves but the one target of its AQM.
    """

    link: LinkSetup
    classes: tuple[ClassSetup, ...]
    parents: tuple[ParentSetup, ...] = ()
    tins: bool = False
    _served: Mapping[Tier, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        served = {tier: sum(cls.tier <= tier for cls in self.classes) for tier in Tier}
        object.__setattr__(self, "_served", served)

    def carrying(self, bandwidth: int, *, base: int) -> Setup:
        """On the same link while it carries so much (bit/s) and not the `base` that was compiled."""
        return replace(self, link=replace(self.link, bandwidth=bandwidth, share=bandwidth / base))

    def static(self) -> dict[str, Grant]:
        """The allocation everything starts from and falls back to."""
        return {cls.path: cls.static for cls in self.classes}

    def shortest_target(self, cls: ClassSetup, rate: float, tuning: Tuning) -> int:
        """The least target of the class's AQM while it is served at `rate` bit/s, in microseconds."""
        frames = tuning.aqm_frames * self.link.mtu_frame * 8e6 / max(rate, 8.0)
        return cls.aimed(max(tuning.aqm_least * 1e6, frames) + _TARGET_STEP - 1)

    def latency(self, cls: ClassSetup) -> float:
        """Seconds that a packet inside its class's rate may wait for others: one frame of every class that is served
        no later than its own, one frame already on the wire, and their bursts (the part of theta without L/r)."""
        others = self._served[cls.tier] - 1
        return (others + 1) * self.link.mtu_frame * 8 / self.link.bandwidth + self.link.burst_seconds


def setup_from(
    interface: Interface,
    bounds: Mapping[str, Bounds],
    static: Allocation,
    *,
    mtu_frame: int = 1514,
    burst_seconds: float = 0.001,
    reserved: int = 0,
    memories: Set[str] = frozenset(),
    tins: bool = False,
) -> Setup:
    """The setup of an interface whose tree was compiled with these bounds and this static allocation, by leaf path.

    `reserved` bit/s of the link are granted to nobody. `memories` are the leaves whose limits are of memory. `tins`
    says that the classes are those of one CAKE.
    """
    leaves = tuple(
        ClassSetup(
            leaf.path,
            leaf.tier,
            leaf.share if leaf.share > 0 else 1.0,
            leaf.guarantee,
            leaf.floor,
            leaf.limit,
            leaf.sla,
            bounds[leaf.path],
            static[leaf.path],
            leaf.step // 8 * 8,
            leaf.path in memories,
        )
        for leaf in interface.leaves()
    )
    parents = tuple(
        ParentSetup(inner.path, inner.limit, tuple(leaf.path for leaf in inner.walk() if not leaf.children))
        for inner in interface.walk()
        if inner.children
    )
    return Setup(LinkSetup(interface.bandwidth - reserved, mtu_frame, burst_seconds), leaves, parents, tins)
