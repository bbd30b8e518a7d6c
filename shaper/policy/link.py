"""The link of an interface as written: its layer, and how much of its rate is used."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from shaper.errors import Problem
from shaper.model.link import Cells, LinkLayer
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document
from shaper.policy.schema import InterfaceSpec
from shaper.policy.text import Loc
from shaper.policy.validate import Lost

_CUSTOM = "custom"


def link_layer(spec: InterfaceSpec, loc: Loc, document: Document, lost: Lost) -> tuple[LinkLayer | None, list[Problem]]:
    """The type's numbers with those that were written instead; None where nothing was said."""
    wanted = spec.link
    if wanted is None:
        return None, []
    loc = (*loc, "link")
    if wanted.type is None and wanted.overhead is None:
        if loc in lost:
            return None, []
        message = "neither the type of the link nor its overhead is said"
        hint = "write `type: docsis`, or `overhead: 18` with what else is known"
        return None, [document.problem(Kind.BAD_LINK, loc, message, hint)]
    problems = []
    if wanted.atm and wanted.ptm:
        message = "no link sends both ATM cells and PTM's coding"
        problems.append(document.problem(Kind.BAD_LINK, (*loc, "ptm"), message, "keep the one that the modem shows"))
    layer = wanted.type or LinkLayer(_CUSTOM, 0)
    cells = Cells.ATM if wanted.atm else Cells.PTM if wanted.ptm else layer.cells
    if (wanted.atm is False and cells is Cells.ATM) or (wanted.ptm is False and cells is Cells.PTM):
        cells = Cells.NONE
    layer = replace(
        layer,
        overhead=layer.overhead if wanted.overhead is None else wanted.overhead,
        mpu=layer.mpu if wanted.mpu is None else wanted.mpu,
        cells=cells,
    )
    return layer, problems


def usable(rate: int, margin: float, layer: LinkLayer | None) -> int:
    """What of a link's rate in bit/s is used: less the margin, and less what its coding takes."""
    left = Fraction(rate) * (1 - Fraction(str(margin)))
    return int(left * (layer.efficiency if layer else 1))
