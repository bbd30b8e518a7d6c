"""Plans: the steps between two trees, their order, their inverse, and how they read to a person."""

from shaper.plan.diff import diff
from shaper.plan.live import adopt_live

__all__ = ["adopt_live", "diff"]
