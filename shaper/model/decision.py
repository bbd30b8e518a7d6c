"""What the controller decided, with its reasons: the journal's content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Grant:
    """The controller's fields of one leaf class: `rate` and `ceil` in bit/s, `queue` the leaf's limit in bytes."""

    rate: int
    ceil: int
    queue: int


Allocation = Mapping[str, Grant]
"""Leaf path -> what it is granted."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Within what the controller may move a leaf: bit/s and bytes, both ends included."""

    rate: tuple[int, int]
    ceil: tuple[int, int]
    queue: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Change:
    """One class moved: from, to, why, and which rule bound the result ("floor", "ceiling", "tier", "link", ...)."""

    path: str
    before: Grant
    after: Grant
    reason: str
    bound: str
    wanted: int


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A class whose need cannot be met: by how many bit/s, and what bandwidth of the link would do."""

    path: str
    need: int
    granted: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Decision:
    """One tick's decision. `held` is why nothing moved where something might have ("" when nothing held it)."""

    allocation: Allocation
    changes: tuple[Change, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    held: str = ""
    needs: Mapping[str, int] = field(default_factory=dict)
