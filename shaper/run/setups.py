"""From what was compiled to what the control law knows of it."""

from __future__ import annotations

from shaper import control
from shaper.compile.program import Program


def setup_of(program: Program) -> control.Setup:
    """The law's view of one direction as it was compiled."""
    return control.setup_from(
        program.interface,
        program.bounds,
        program.static,
        mtu_frame=program.frame,
        reserved=program.reserved,
        memories=program.memories,
        tins=program.tins,
    )
