"""What keeps the controller from moving too much: dead bands, a budget of changes, room that is never passed."""

from __future__ import annotations

from collections.abc import Mapping, Set

from shaper.control.setup import Setup
from shaper.control.tuning import Tuning


def settle(
    setup: Setup,
    present: Mapping[str, int],
    targets: Mapping[str, int],
    *,
    urgent: Set[str],
    spent: bool,
    tuning: Tuning,
    undone: Set[str] = frozenset(),
) -> dict[str, int]:
    """The rates that are really set: a target where the move is worth it, else the present rate.

    With the budget of changes `spent` only `urgent` classes rise; what is `undone` falls in any case. Where a present
    rate that was kept leaves no room for a rise, falls are made after all, the lowest tier's first, so the sums hold
    and no class in need is blocked.
    """
    least = max(tuning.apply_bits, tuning.apply_link * setup.link.bandwidth)
    rates: dict[str, int] = {}
    for cls in setup.classes:
        here, target = present[cls.path], targets[cls.path]
        band = tuning.apply_up if target > here or target == cls.lowest else tuning.apply_down
        taken_back = target < here and cls.path in undone
        worth = taken_back or abs(target - here) > max(least, band * here)
        allowed = not spent or taken_back or (target > here and cls.path in urgent)
        inside = cls.lowest <= here <= cls.highest
        rates[cls.path] = target if (worth and allowed) or not inside else here
    for cls in sorted(setup.classes, key=lambda cls: -cls.tier):
        if fits(setup, rates):
            break
        rates[cls.path] = min(rates[cls.path], targets[cls.path])
    return rates


def fits(setup: Setup, rates: Mapping[str, int]) -> bool:
    """Whether the rates stay within the link and within every inner class."""
    return sum(rates.values()) <= setup.link.bandwidth and all(
        sum(rates[leaf] for leaf in parent.leaves) <= parent.limit for parent in setup.parents
    )


def recent(changed_at: tuple[float, ...], now: float, tuning: Tuning) -> tuple[float, ...]:
    """The times of the changes of the last minute, no more of them than the budget counts."""
    return tuple(at for at in changed_at if now - at < 60)[-tuning.changes_per_minute :]
