"""Agreements judged: a window of measurements against a class's targets, and single seconds of a run."""

from shaper.sla.evaluate import evaluate
from shaper.sla.violation import SecondAccount, violated

__all__ = ["SecondAccount", "evaluate", "violated"]
