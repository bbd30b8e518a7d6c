"""An SLA that could not hold for a while: from when until when, and by how much at its worst."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shortage:
    """`began` and `ended` are wall time in s, `ended` None while it stands. Rates in bit/s, as in Shortfall.

    `need`, `granted`, `capacity` and `given_up` are of the moment at which the most was lacking.
    """

    path: str
    target: str
    began: float
    need: int
    granted: int
    capacity: int
    given_up: tuple[str, ...] = ()
    ended: float | None = None
