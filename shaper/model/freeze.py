"""The kill switch: who holds the controller still, since when, why, and until when."""

from __future__ import annotations

from dataclasses import dataclass

from shaper.model.change import Who


@dataclass(frozen=True, slots=True)
class Freeze:
    """`at` and `until` are wall time in s; without `until` it holds until somebody thaws it."""

    who: Who
    at: float
    why: str = ""
    until: float | None = None

    def over(self, at: float) -> bool:
        """Whether its time has run out."""
        return self.until is not None and at >= self.until

    @property
    def words(self) -> str:
        """In a few words, the same for as long as it holds."""
        return f"frozen by {self.who}" + (f": {self.why}" if self.why else "")
