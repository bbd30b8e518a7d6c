"""What the controller decided, with its reasons: the journal's content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shaper.model.link_rate import LinkMove
from shaper.units import format_rate


@dataclass(frozen=True, slots=True)
class Grant:
    """The controller's fields of one leaf class: `rate` and `ceil` in bit/s, `queue` the leaf's limit in bytes, and
    `target` that of its AQM in microseconds, 0 where it has none."""

    rate: int
    ceil: int
    queue: int
    target: int = 0


Allocation = Mapping[str, Grant]
"""Leaf path -> what it is granted."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Within what the controller may move a leaf: bit/s, bytes and microseconds, both ends included."""

    rate: tuple[int, int]
    ceil: tuple[int, int]
    queue: tuple[int, int]
    target: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Change:
    """One class moved: from, to, why, and which rule bound the result ("floor", "tier", "peers", "link", ...)."""

    path: str
    before: Grant
    after: Grant
    reason: str
    bound: str
    wanted: int


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A class whose SLA cannot hold, since of the `need` (bit/s) no more than `granted` is left for it.

    `target` is the one that asks for the need, `bound` what is in the way: "link", "parent", "limit", or "latency"
    where no rate of this link would do. `capacity` is the bandwidth (bit/s) of the link that would do; where the link
    is not in the way it is the present one.
    """

    path: str
    need: int
    granted: int
    capacity: int
    target: str = ""
    bound: str = "link"

    @property
    def words(self) -> str:
        """Which target of whom cannot hold, how much is lacking, and what would do."""
        who = f"{self.target} of {self.path}" if self.target else self.path
        if self.bound == "latency":
            return f"{who} cannot hold at any rate of this link; one of {_rounded(self.capacity)} would do"
        lacks = (
            f"{who} cannot hold: it needs {_rounded(self.need)} and there is {_rounded(self.granted)} for it, "
            f"{_rounded(self.need - self.granted)} short"
        )
        if self.bound in ("limit", "parent"):
            return f"{lacks}, by {'its own limit' if self.bound == 'limit' else 'the limit of the class it is in'}"
        return f"{lacks}; a link of {_rounded(self.capacity)} would do"


def _rounded(rate: float) -> str:
    return format_rate(float(f"{rate:.3g}"))


@dataclass(frozen=True, slots=True)
class Want:
    """What one class asked for in a tick, and how that was answered. Rates in bit/s.

    `need` holds its SLA, `drain` comes on top while a backlog is too long; `source` is the figure that the need comes
    from, `missed` the target that was missed, each "" for none. `given` is what the allocation had for it and `bound`
    the rule that set that; `kept` is why its rate is another all the same, "" where it is not.
    """

    need: int
    drain: int
    source: str
    missed: str
    given: int
    bound: str
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """One tick's decision. `held` is why nothing moved where something might have ("" when nothing held it).

    `needs` and `wants` are of the classes that were observed. `given_up` says what is, in this order, where not every
    SLA can hold: empty where all can. `link` is the move of the whole link's rate, None where it stands.
    """

    allocation: Allocation
    changes: tuple[Change, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    held: str = ""
    needs: Mapping[str, int] = field(default_factory=dict)
    wants: Mapping[str, Want] = field(default_factory=dict)
    given_up: tuple[str, ...] = ()
    link: LinkMove | None = None
