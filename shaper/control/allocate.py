"""Who gets how much rate: floors first, then tier by tier what is entitled and what is needed, then what was held.

An SLA with a part of its need is missed as one with nothing. So where a tier does not fit, the needs that cost the
least for their weight are met whole, and who can't be is the one that is given up. What is left then is shared weighted
max-min fair (Bertsekas & Gallager, Data Networks, 6.5.2): nobody gets more than it claims. What nobody claims is not
handed out: HTB lends it.
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
    SLA, `held` since it had it until now (`firm` the part of it that no lower tier gets); never more than `highest`.
    `met` says that it had what it needed until now."""

    path: str
    tier: Tier
    weight: float
    lowest: int
    entitled: float
    needed: float
    held: float
    highest: int
    firm: float = 0.0
    met: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """The rate a class gets, in whole bytes a second, and what bound it ("none" when nothing did)."""

    rate: int
    bound: str


@dataclass(frozen=True, slots=True, eq=False)
class _Room:
    """Leaves whose rates together stay within a limit: the link's, or an inner class's. Each is itself only: to compare
    or to hash thousands of names would take longer than all else."""

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
        short = _meet(rates, members, rooms)
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


_KEPT = 0.75
"""What the need of a class that was met counts as: another must be so much cheaper to take its place."""
MET = 0.9
"""Who was met stays so with this part of its need, which is what it would be without headroom."""


def _meet(rates: dict[str, float], members: Sequence[Claim], rooms: Sequence[_Room]) -> dict[str, str]:
    """Raises the members to what they need, whole one by one as far as they fit, to what they firmly keep, and then the
    others; tells which room stopped whom, "peers" where others of the tier had it before."""

    def cost(claim: Claim) -> float:
        return (wanted[claim.path] - rates[claim.path]) / claim.weight * (_KEPT if claim.met else 1.0)

    wanted = {claim.path: min(claim.needed, claim.highest) for claim in members}
    free = {room: room.limit - sum(rates[path] for path in room.leaves) for room in rooms}
    around: dict[str, list[_Room]] = {claim.path: [] for claim in members}
    for room in rooms:
        for path in room.leaves:
            if path in around:
                around[path].append(room)
    late, others = [], False
    for claim in sorted((each for each in members if wanted[each.path] > rates[each.path]), key=cost):
        path = claim.path
        most = rates[path] + min(free[room] for room in around[path])
        if wanted[path] * (MET if claim.met else 1.0) > most:
            late.append(claim)
            continue
        others, more = True, min(wanted[path], most) - rates[path]
        rates[path] += more
        for room in around[path]:
            free[room] -= more
    short = {claim.path for claim in late}
    met = [claim for claim in members if claim.path not in short]
    _fill(rates, met, {claim.path: min(claim.firm, claim.highest) for claim in met}, rooms)
    stopped = _fill(rates, late, {claim.path: wanted[claim.path] for claim in late}, rooms)
    return {path: "peers" if room == "link" and others else room for path, room in stopped.items()}


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
