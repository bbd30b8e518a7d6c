"""How much a moving link carries: from probes and what was sent to a rate, with reasons. Pure, as all of `control`."""

from shaper.control.link.law import step
from shaper.control.link.state import Excess, Heard, Setup, State, initial, resume
from shaper.control.link.tuning import Tuning

__all__ = ["Excess", "Heard", "Setup", "State", "Tuning", "initial", "resume", "step"]
