"""How a run behaves, as its command line asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shaper.model.observation import TICK, Rung
from shaper.model.policy import Drift


class Mode(StrEnum):
    """How much of the shaper is at work: tiers and controller, tiers alone, or plain guarantees and limits."""

    CONTROLLED = "controlled"
    STRUCTURED = "structured"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run behaves. `tick` in seconds; with `dry_run` decisions are made and journalled, not carried out.

    `drift` says what is done about changes that somebody else makes to our tree; None leaves it to the policy.
    `measure` is the one rung of measurement that is taken beside the counters; None: the best that works. With `fine`
    delays are counted in the kernel by 0.4 % instead of 3 %. `alarm` is about the policy that the run began with, and
    stands until another is applied; "" for none.
    """

    mode: Mode = Mode.CONTROLLED
    tick: float = TICK
    dry_run: bool = False
    drift: Drift | None = None
    measure: Rung | None = None
    fine: bool = False
    alarm: str = ""
