"""An SLA that could not hold for a while: from when until when, and by how much at its worst."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shortage:
    """`began` and `ended` are wall time in s, `ended` None while it stands. Rates in bit/s, as in Shortfall.

    `need`, `granted`, `capacity`, `given_up` and `bound` are of the moment at which the most was lacking.
    """

    path: str
    target: str
    began: float
    need: int
    granted: int
    capacity: int
    given_up: tuple[str, ...] = ()
    ended: float | None = None
    bound: str = "link"

    @property
    def of_capacity(self) -> bool:
        """Whether it is the link that is too small, and not what the policy allows the class."""
        return self.bound not in ("limit", "parent")

    def overlaps(self, since: float, until: float) -> bool:
        """Whether it stood at any time between the two."""
        return self.began <= until and (self.ended is None or self.ended >= since)
