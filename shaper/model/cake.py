"""CAKE's fixed tins: which DSCP goes where, what each tin is sure of, and whether a policy's classes are those tins.

The tables are those of Linux 5.14 and later (net/sched/sch_cake.c); a test on a real kernel asks it for every DSCP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from shaper.model.match import ETHERTYPE_IPV4, Masked, Match, Packet, Rule, Rules, classify
from shaper.tree import Diffserv

ARP, ARP_DSCP = 0x0806, 56
"""CAKE counts ARP as CS7, and all else that is not IP as best effort."""
DSCPS = range(64)


class Tins(NamedTuple):
    """One way to sort. `tin_of` is the tin of each DSCP; `thresholds` the part of the bandwidth up to which a tin goes
    before all lower ones; `shown` the tins in the order in which the kernel shows them."""

    names: tuple[str, ...]
    tin_of: tuple[int, ...]
    thresholds: tuple[float, ...]
    shown: tuple[int, ...]

    def dscps(self, tin: int) -> frozenset[int]:
        return frozenset(dscp for dscp in DSCPS if self.tin_of[dscp] == tin)

    def kept(self, tin: int) -> float:
        """The part of the bandwidth that a tin has in any case: its threshold, or what those above it leave."""
        left = 1.0
        for other in range(len(self.names) - 1, tin, -1):
            left -= min(left, self.thresholds[other])
        return min(left, self.thresholds[tin])


def _table(rows: str) -> tuple[int, ...]:
    return tuple(int(digit) for digit in rows.replace(" ", ""))


TINS: Mapping[Diffserv, Tins] = {
    Diffserv.BESTEFFORT: Tins(("best effort",), (0,) * 64, (1.0,), (0,)),
    Diffserv.DIFFSERV3: Tins(
        ("best effort", "bulk", "voice"),
        _table("01002000 10000000 00000000 00000000 00000000 00002020 20000000 20000000"),
        (1.0, 1 / 16, 1 / 4),
        (1, 0, 2),
    ),
    Diffserv.DIFFSERV4: Tins(
        ("best effort", "bulk", "video", "voice"),
        _table("01002000 10000000 20202020 20202020 30202020 30003030 30000000 30000000"),
        (1.0, 1 / 16, 1 / 2, 1 / 4),
        (1, 0, 2, 3),
    ),
    Diffserv.DIFFSERV8: Tins(
        tuple(f"tin {number}" for number in range(8)),
        _table("20124222 12121212 52424242 32323232 62323232 62226262 72222222 72222222"),
        tuple((7 / 8) ** number for number in range(8)),
        tuple(range(8)),
    ),
}


class Fit(NamedTuple):
    """The tins that a policy's classes are, by path."""

    diffserv: Diffserv
    tins: Mapping[str, int]

    def handle_minor(self, path: str) -> int:
        """The number by which the kernel shows a class's tin, from 1."""
        return TINS[self.diffserv].shown.index(self.tins[path]) + 1

    def rules(self, fwmark: int = 0) -> Rules:
        """What CAKE does, as rules: by a mark under the mask `fwmark` where that names a tin, by its number from 1; by
        the DSCP, ARP as CS7, the rest to best effort."""
        table = TINS[self.diffserv]
        by_tin = {tin: path for path, tin in self.tins.items()}
        ordered = [Rule((Match(ethertypes=(ARP,)),), by_tin[table.tin_of[ARP_DSCP]])]
        ordered += [
            Rule((Match(dscp=tuple(sorted(table.dscps(tin)))),), path) for tin, path in by_tin.items() if tin != 0
        ]
        return Rules((*self._marked(fwmark), *ordered), by_tin[0])

    def _marked(self, fwmark: int) -> Iterator[Rule]:
        if not fwmark or self.diffserv is Diffserv.BESTEFFORT:
            return
        lowest = fwmark & -fwmark
        for path in self.tins:
            value = self.handle_minor(path) * lowest
            if value & fwmark == value:
                yield Rule((Match(mark=(Masked(value, fwmark),)),), path)


def by_dscp_alone(match: Match) -> bool:
    """Whether a match asks for nothing but the DSCP, which is all that CAKE looks at."""
    return bool(match.dscp) and replace(match, dscp=(), where=None) == Match()


def dscp_sets(rules: Rules, paths: Iterable[str]) -> dict[str, frozenset[int]]:
    """The DSCPs that each class takes, by rules that ask for nothing else."""
    taken = {dscp: classify(rules, Packet(ETHERTYPE_IPV4, dscp=dscp)) for dscp in DSCPS}
    return {path: frozenset(dscp for dscp in DSCPS if taken[dscp] == path) for path in paths}


def fit(sets: Mapping[str, frozenset[int]]) -> Fit | None:
    """The tins that these sets are, each exactly; None where there is no such way to sort."""
    for diffserv, table in TINS.items():
        found = {
            path: tin for path, dscps in sets.items() for tin in range(len(table.names)) if table.dscps(tin) == dscps
        }
        if len(found) == len(sets) == len(table.names):
            return Fit(diffserv, found)
    return None


def nearest(sets: Mapping[str, frozenset[int]]) -> Fit | None:
    """The way to sort with as many tins as there are classes, each class in the tin that shares most with it."""
    table = next(((way, tins) for way, tins in TINS.items() if len(tins.names) == len(sets)), None)
    if table is None:
        return None
    way, tins = table
    free = set(range(len(tins.names)))
    found: dict[str, int] = {}
    for path in sorted(sets, key=lambda path: len(sets[path])):  # the narrowest first: the default takes what is left
        found[path] = max(sorted(free), key=lambda tin: len(sets[path] & tins.dscps(tin)) / len(tins.dscps(tin)))
        free.discard(found[path])
    return Fit(way, found)
