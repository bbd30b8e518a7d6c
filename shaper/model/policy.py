"""What a policy says, resolved: every rate in bit/s, every default filled in, the order of matching kept."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from shaper.errors import Where
from shaper.model.match import Match, Rule, Rules
from shaper.model.sla import Sla


class Tier(enum.IntEnum):
    """Who is served first when there is not enough; the value is the borrowing priority."""

    SPECIAL = 0
    PRIORITY = 1
    STANDARD = 2


@dataclass(frozen=True, slots=True)
class TrafficClass:
    """One class of a policy on one interface.

    `path` is the class's names from the top, joined by "/", and is its identity for life. Rates are bit/s of
    layer-2 bytes: `guarantee` what it has when nothing is in trouble, `floor` (`adapt.min`) what nothing takes,
    `limit` never more. `share` is its weight for borrowing among its siblings of the same tier. `default` marks the
    one leaf of the interface that takes what no rule matches; `implied` a class the policy did not write.
    """

    name: str
    path: str
    where: Where
    tier: Tier
    guarantee: int
    floor: int
    limit: int
    share: float
    default: bool = False
    matches: tuple[Match, ...] = ()
    sla: Sla = field(default_factory=Sla)
    children: tuple[TrafficClass, ...] = ()
    implied: bool = False

    def walk(self) -> Iterator[TrafficClass]:
        """This class and every class below it, parents first, in the file's order."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Interface:
    """A device and the class tree for its egress direction. `bandwidth` in bit/s; `classes` in matching order."""

    name: str
    device: str
    bandwidth: int
    policy: str
    classes: tuple[TrafficClass, ...]
    where: Where
    device_where: Where

    def walk(self) -> Iterator[TrafficClass]:
        """Every class, parents before children, in the file's order."""
        for top in self.classes:
            yield from top.walk()

    def leaves(self) -> tuple[TrafficClass, ...]:
        """The classes that hold packets."""
        return tuple(cls for cls in self.walk() if not cls.children)

    def default(self) -> TrafficClass:
        """The one leaf that takes what no rule matches."""
        return next(leaf for leaf in self.leaves() if leaf.default)

    def rules(self) -> Rules:
        """The rules in the order they are asked: the implied network control first, then the file's order.

        A class's match is ANDed with its ancestors'. What matches an inner class and none of its children goes to
        that class's own catch-all leaf, the one without a match.
        """
        ordered: list[Rule] = []
        for top in sorted(self.classes, key=lambda cls: not cls.implied):
            ordered.extend(_rules_below(top, ((),)))
        return Rules(tuple(ordered), self.default().path)


def _rules_below(cls: TrafficClass, above: tuple[tuple[Match, ...], ...]) -> Iterator[Rule]:
    """Rules of one subtree; `above` holds one conjunction for each way the ancestors can be met."""
    here = tuple((*conjunction, match) for conjunction in above for match in cls.matches) or above
    if cls.children:
        for child in sorted(cls.children, key=lambda child: not child.matches and not child.children):
            yield from _rules_below(child, here)
    else:
        yield from (Rule(conjunction, cls.path) for conjunction in here if conjunction)


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file: its interfaces by name, where it was read from, and the hash of the text."""

    source: str
    sha256: str
    interfaces: tuple[Interface, ...]
