"""Which SLAs cannot hold, by how much, on what link they would, and what is given up for the others, in which order.

It is asked what the link could do and not what was granted: a class that does not use its floor lends it, and headroom
and hold are the controller's own caution, which nobody is short of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shaper.control.allocate import MET, Claim, Share, allocate
from shaper.control.needs import Need
from shaper.control.setup import ClassSetup, Setup, whole
from shaper.control.tuning import Tuning
from shaper.model.decision import Shortfall
from shaper.model.policy import Tier
from shaper.units import format_rate


def infeasible(
    setup: Setup, needs: Mapping[str, Need], shares: Mapping[str, Share], tuning: Tuning
) -> tuple[tuple[Shortfall, ...], tuple[str, ...]]:
    """The shortfalls in the policy's order, and what is given up, first to last; `shares` are what was allocated."""
    found: list[Shortfall] = []
    asking = [(cls, needs[cls.path]) for cls in setup.classes if cls.path in needs and needs[cls.path].asked > 0]
    claims: dict[str, Claim] = {}
    could: Mapping[str, Share] = shares
    if any(_lacks(wanted.asked, shares[cls.path].rate, tuning) for cls, wanted in asking):
        claims = {cls.path: _claim(cls, needs.get(cls.path), shares[cls.path], tuning) for cls in setup.classes}
        could = allocate(setup, tuple(claims.values()))
    totals = _totals(tuple(claims.values()))
    for cls, wanted in asking:
        share = could[cls.path]
        if wanted.capacity is not None and wanted.capacity > setup.link.bandwidth:
            found.append(Shortfall(cls.path, wanted.capacity, share.rate, wanted.capacity, cls.sla.tightest, "latency"))
        elif _lacks(wanted.asked, share.rate, tuning):
            inside = share.bound in ("limit", "parent")
            capacity = (
                setup.link.bandwidth if inside else max(setup.link.bandwidth, _capacity(claims[cls.path], totals))
            )
            bound = share.bound if inside else "link"
            found.append(Shortfall(cls.path, int(wanted.asked), share.rate, capacity, _target(cls, wanted), bound))
    return tuple(found), tuple(_given_up(setup, could, found)) if found else ()


def _lacks(asked: float, rate: int, tuning: Tuning) -> bool:
    return asked - rate > max(tuning.apply_bits, tuning.asked_share * asked)


def _claim(cls: ClassSetup, wanted: Need | None, share: Share, tuning: Tuning) -> Claim:
    """What a class takes of the link: of its floor and its guarantee no more than it uses, the rest is lent. Who is met
    by what was allocated has its place here, too."""
    uses = wanted.demand / tuning.headroom if wanted is not None else float(cls.lowest)
    asked = wanted.asked if wanted is not None else 0.0
    lowest = whole(min(cls.lowest, uses))
    met = 0 < asked * MET <= share.rate
    return Claim(cls.path, cls.tier, cls.weight, lowest, min(cls.guarantee, uses), asked, 0.0, cls.highest, met=met)


def _served(claim: Claim) -> float:
    return max(claim.lowest, min(max(claim.entitled, claim.needed), claim.highest))


def _totals(claims: Sequence[Claim]) -> dict[Tier, float]:
    """By tier: what is taken by those that are served no later, and the floors of the others."""
    return {
        tier: sum(_served(claim) if claim.tier <= tier else claim.lowest for claim in claims)
        for tier in {claim.tier for claim in claims}
    }


def _capacity(claim: Claim, totals: Mapping[Tier, float]) -> int:
    """With what the class needs in the place of what it is entitled to."""
    needed = max(claim.lowest, min(claim.needed, claim.highest))
    return int(totals[claim.tier] - _served(claim) + needed)


def _target(cls: ClassSetup, wanted: Need) -> str:
    throughput = cls.sla.throughput is not None and wanted.asked <= cls.sla.throughput
    return "throughput" if throughput else cls.sla.tightest


def _peers(setup: Setup, could: Mapping[str, Share], tier: Tier) -> bool:
    return any(could[cls.path].bound == "peers" for cls in setup.classes if cls.tier == tier)


def _given_up(setup: Setup, could: Mapping[str, Share], found: Sequence[Shortfall]) -> Iterator[str]:
    """Lower tiers first: what they have beyond their floors, then the SLAs, and what holds all the same."""
    short = {one.path: one for one in found}
    tiers = sorted({cls.tier for cls in setup.classes}, reverse=True)
    lowest = max(cls.tier for cls in setup.classes if cls.path in short)
    for tier in tiers:
        for cls in setup.classes:
            rate = could[cls.path].rate
            if cls.tier == tier and cls.path not in short and tier >= lowest and cls.lowest < cls.guarantee > rate:
                yield f"{cls.path} yields its guarantee of {format_rate(cls.guarantee)} down to {format_rate(rate)}"
    for tier in tiers:
        mine = [short[cls.path] for cls in setup.classes if cls.tier == tier and cls.path in short]
        lost = [f"{one.target} of {one.path}" for one in mine]
        if lost:
            costs = ": the others of the tier cost less for their share" if _peers(setup, could, tier) else ""
            yield f"{' and '.join(lost)}{costs}"
    if held := [cls.path for cls in setup.classes if cls.sla and cls.path not in short]:
        yield f"held: {', '.join(held)}"
