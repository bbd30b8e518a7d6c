"""Shares as HTB quanta: borrowers of one tier take turns of a quantum each, and so borrow in proportion to them.

HTB goes round an inner class's leaves before it goes on to the next class, so a leaf's weight is its share of its
parent's weight, and the parent's of the grandparent's, each time among those that have a leaf in the tier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shaper.model.policy import Interface, Tier, TrafficClass
from shaper.tree import LinkFacts

LARGEST_QUANTUM = 60_000
"""HTB warns of more; so the excess is shared by about 40 : 1 at most."""


def quanta(interface: Interface, link: LinkFacts, *, tiers: bool) -> dict[str, int]:
    """Bytes by leaf path; without `tiers` all leaves borrow alike.

    The least share has one frame, since a turn is a wait for the others; a class that is added then changes no other
    unless its weight is the least. Where super-packets pass the largest share has the largest quantum: a turn is one
    packet at least, and would else be the same for all.
    """
    frame = link.mtu + link.header
    found: dict[str, int] = {leaf.path: frame for leaf in interface.leaves()}
    for tier in Tier if tiers else (None,):
        weights = dict(_weights(interface.classes, tier, 1.0))
        if not weights:
            continue
        unit = frame / min(weights.values())
        if link.super_packet > frame:
            unit = LARGEST_QUANTUM / max(weights.values())
        for path, weight in weights.items():
            found[path] = max(frame, min(LARGEST_QUANTUM, round(unit * weight)))
    return found


def _weights(classes: Sequence[TrafficClass], tier: Tier | None, whole: float) -> Iterator[tuple[str, float]]:
    members = [cls for cls in classes if not cls.implied and _has_leaf(cls, tier)]
    total = sum(_share(cls) for cls in members)
    for cls in members:
        part = whole * _share(cls) / total
        if cls.children:
            yield from _weights(cls.children, tier, part)
        else:
            yield cls.path, part


def _has_leaf(cls: TrafficClass, tier: Tier | None) -> bool:
    return any(not one.children and tier in (None, one.tier) for one in cls.walk())


def _share(cls: TrafficClass) -> float:
    return cls.share if cls.share > 0 else 1.0
