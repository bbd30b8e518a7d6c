"""Agreements judged: a window of measurements against a class's targets, and single seconds of a run."""

from shaper.sla.evaluate import evaluate
from shaper.sla.violation import SecondAccount, violated
from shaper.sla.waiting import Waited, waited

__all__ = ["SecondAccount", "Waited", "evaluate", "violated", "waited"]
