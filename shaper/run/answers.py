"""What a running shaper answers with, for those who ask it and need nothing else of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collectors.histogram import DelayHistogram
from shaper.model.policy import Direction
from shaper.model.status import InterfaceStatus
from shaper.plan.steps import Plan


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did to one direction of an interface."""

    interface: str
    device: str
    plan: Plan
    notes: tuple[str, ...]
    change: int
    confirmation: str = ""
    direction: Direction = Direction.EGRESS


@dataclass(frozen=True, slots=True)
class Measured:
    """What one direction of an interface has counted and measured since its start; the delays by class.

    `sliced` says how many of a class's delays are of slices of time.
    """

    status: InterfaceStatus
    delays: Mapping[str, DelayHistogram]
    sliced: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Lending:
    """How a running shaper prepares one direction: with tiers or without, and what it lends to be measured by.

    It is `prepare`'s lender for who only plans what that shaper would do.
    """

    direction: Direction
    structure: bool
    instance: str
    copies: bool

    def lend(self, program: object) -> bool:
        """The shaper will have what it says it can load."""
        del program
        return True
