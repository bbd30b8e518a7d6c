"""Before anything is applied: which SLAs could not hold if every class sent what it was promised or contracted."""

from __future__ import annotations

import math
from collections.abc import Mapping

from shaper.control.allocate import Share
from shaper.control.infeasible import infeasible
from shaper.control.needs import Need
from shaper.control.setup import ClassSetup, Setup
from shaper.control.tuning import Tuning
from shaper.model.decision import Shortfall
from shaper.model.policy import Contract

DEFAULTS = Tuning()


def foreseen(
    setup: Setup, contracts: Mapping[str, Contract], *, tuning: Tuning = DEFAULTS
) -> tuple[tuple[Shortfall, ...], tuple[str, ...]]:
    """The shortfalls in the policy's order, and what would be given up, first to last.

    `contracts` by class path. A class without one is held to its throughput target alone: of what else it sends, and
    of how large its frames are, nothing is known before they come.
    """
    needs = {cls.path: _need(setup, cls, contracts.get(cls.path), tuning) for cls in setup.classes}
    return infeasible(setup, needs, {cls.path: Share(0, "none") for cls in setup.classes}, tuning)


def _need(setup: Setup, cls: ClassSetup, contract: Contract | None, tuning: Tuning) -> Need:
    """Traffic of a contract waits at most theta + (sigma + L) / R: what R keeps it below the tightest target."""
    asked = [float(cls.sla.throughput or 0)]
    frame = setup.link.mtu_frame
    if contract is not None:
        spare = math.inf if cls.tightest is None else cls.tightest - setup.latency(cls)
        asked += [float(contract.rate)]
        asked += [(contract.burst + frame) * 8 / spare] if 0 < spare < math.inf else []
    # What a class without a contract takes is not known: all of its guarantee, should it come to that.
    demand = tuning.headroom * contract.rate if contract is not None else math.inf
    return Need(asked=max(asked), demand=demand)
