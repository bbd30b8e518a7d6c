"""Who gets how much rate: floors first, then tier by tier what is entitled and what is needed, then what was held.

Inside a tier that does not fit, rates are weighted max-min fair (Bertsekas & Gallager, Data Networks, 6.5.2): nobody
gets more than it claims, and what is left is shared by weight. What nobody claims is not handed out: HTB lends it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shaper.control.setup import Setup, whole
from shaper.model.policy import Tier


@dataclass(frozen=True, slots=True)
class Claim:
    """What one class may ask for, in bit/s: `lowest` unconditionally, `entitled` up to its guarantee, `needed` for its
    SLA, `held` since it had it until now; never more than `highest`."""

    path: str
    tier: Tier
    weight: float
    lowest: int
    entitled: float
    needed: float
    held: float
    highest: int


@dataclass(frozen=True, slots=True)
class Share:
    """The rate a class gets, in whole bytes a second, and what bound it ("none" when nothing did)."""

    rate: int
    bound: str


@dataclass(frozen=True, slots=True)
class _Room:
    """Leaves whose rates together stay within a limit: the link's, or an inner class's."""

    name: str
    limit: float
    leaves: tuple[str, ...]


def allocate(setup: Setup, claims: Sequence[Claim]) -> dict[str, Share]:
    """The rate of every class. The sums stay within the link and every parent as long as the floors do."""
    rooms = (
        _Room("link", setup.link.bandwidth, tuple(claim.path for claim in claims)),
        *(_Room("parent", parent.limit, parent.leaves) for parent in setup.parents),
    )
    rates = {claim.path: float(claim.lowest) for claim in claims}
    stopped: dict[str, str] = {}
    taken = False
    for tier in sorted({claim.tier for claim in claims}):
        members = [claim for claim in claims if claim.tier == tier]
        _fill(rates, members, {claim.path: min(claim.entitled, claim.highest) for claim in members}, rooms)
        short = _fill(rates, members, {claim.path: min(claim.needed, claim.highest) for claim in members}, rooms)
        for claim in members:
            wanted = min(max(claim.entitled, claim.needed), claim.highest)
            if wanted > rates[claim.path] + 1:
                reason = short.get(claim.path, "link")
                stopped[claim.path] = "tier" if reason == "link" and taken else reason
        taken = taken or any(rates[claim.path] > claim.lowest for claim in members)
    for tier in sorted({claim.tier for claim in claims}):
        members = [claim for claim in claims if claim.tier == tier]
        _fill(rates, members, {claim.path: min(claim.held, claim.highest) for claim in members}, rooms)
    return {
        claim.path: Share(
            max(claim.lowest, whole(rates[claim.path])),
            stopped.get(claim.path) or _own_bound(claim, rates[claim.path]),
        )
        for claim in claims
    }


def _own_bound(claim: Claim, rate: float) -> str:
    if max(claim.needed, claim.entitled) > claim.highest:
        return "limit"
    return "floor" if rate <= claim.lowest and claim.needed < claim.lowest else "none"


def _fill(
    rates: dict[str, float], members: Sequence[Claim], wanted: Mapping[str, float], rooms: Sequence[_Room]
) -> dict[str, str]:
    """Raises the members' rates to what they want, max-min fair by weight; tells which room stopped whom."""
    weights = {claim.path: claim.weight for claim in members}
    growing = {path for path, rate in wanted.items() if rate > rates[path]}
    stopped: dict[str, str] = {}
    while growing:
        tightest, level = None, math.inf
        for room in rooms:
            mine = [path for path in room.leaves if path in growing]
            if not mine:
                continue
            free = room.limit - sum(rates[path] for path in room.leaves if path not in growing)
            here = _level([(weights[path], rates[path], wanted[path]) for path in mine], free)
            if here < level:
                tightest, level = room, here
        if tightest is None:
            rates.update({path: wanted[path] for path in growing})
            break
        for path in [path for path in tightest.leaves if path in growing]:
            rates[path] = min(wanted[path], max(rates[path], weights[path] * level))
            if rates[path] < wanted[path]:
                stopped[path] = tightest.name
            growing.discard(path)
    return stopped


def _level(members: Sequence[tuple[float, float, float]], room: float) -> float:
    """The water level at which members of (weight, start, wanted) fill the room; infinite when all fit."""
    if sum(wanted for _, _, wanted in members) <= room:
        return math.inf
    level, filled, slope = 0.0, sum(start for _, start, _ in members), 0.0
    turns = sorted(
        [(start / weight, weight) for weight, start, _ in members]
        + [(wanted / weight, -weight) for weight, _, wanted in members]
    )
    for turn, change in turns:
        if slope > 0 and filled + slope * (turn - level) >= room:
            return level + (room - filled) / slope
        if filled >= room:
            return level
        filled += slope * (turn - level)
        level, slope = turn, slope + change
    return level
