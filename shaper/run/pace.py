"""How often the counters are read: as often as is asked for, and less where that would cost too much."""

from __future__ import annotations

SHARE = 0.05
"""Of one processor, at most, for reading counters."""
_LONGEST = 2.0
_WEIGHT = 0.2
"""Of the newest reading, so that one that was disturbed says little."""


class Pace:
    """`seconds` from one reading to the next: never less than what is `wanted`, and 2 s at most."""

    def __init__(self, wanted: float) -> None:
        self._wanted = wanted
        self._cost: float | None = None

    def spent(self, seconds: float) -> None:
        """One reading of all counters took so much processor time."""
        self._cost = seconds if self._cost is None else self._cost + _WEIGHT * (seconds - self._cost)

    @property
    def seconds(self) -> float:
        return max(self._wanted, min(_LONGEST, (self._cost or 0.0) / SHARE))
