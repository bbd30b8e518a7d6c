"""By whose rate a class sent, from counters that begin at zero again now and then."""

from __future__ import annotations

from collectors.borrows import WRAP
from shaper.kernel.protocol import ClassCounters
from shaper.model.status import Borrowing


def borrowed(before: ClassCounters | None, after: ClassCounters) -> Borrowing | None:
    """Between two readings of a class, or since it was made; None where the backend counts no such thing."""
    if after.lends is None or after.borrows is None:
        return None
    own, others = (before.lends or 0, before.borrows or 0) if before else (0, 0)
    return Borrowing(_since(own, after.lends), _since(others, after.borrows))


def added(one: Borrowing | None, more: Borrowing | None) -> Borrowing | None:
    """Both together; what is not known adds nothing."""
    if one is None or more is None:
        return one or more
    return Borrowing(one.own + more.own, one.borrowed + more.borrowed)


def _since(before: int, after: int) -> int:
    """No tick sends half of what the counter holds: one that seems to have was of a class that was made anew."""
    passed = (after - before) % WRAP
    return passed if passed < WRAP // 2 else after
