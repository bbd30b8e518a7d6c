"""The control law: what each class needs, what it is granted, and why. Pure: no clock, no I/O, no randomness."""

from shaper.control.controller import step
from shaper.control.foreseen import foreseen
from shaper.control.setup import ClassSetup, LinkSetup, ParentSetup, Setup, setup_from
from shaper.control.state import State, initial, resume
from shaper.control.tuning import Tuning

__all__ = [
    "ClassSetup",
    "LinkSetup",
    "ParentSetup",
    "Setup",
    "State",
    "Tuning",
    "foreseen",
    "initial",
    "resume",
    "setup_from",
    "step",
]
