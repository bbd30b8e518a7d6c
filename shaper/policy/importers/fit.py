"""Makes what was read fit our rules: names, priorities, the order of matching, rates that fit each other, one default.

Every change of what was meant is reported. What still does not pass is found by the checks themselves (`accept`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from shaper.errors import Where
from shaper.policy.importers import quantities
from shaper.policy.importers.draft import Class, Interface, Report
from shaper.policy.importers.quantities import rate_text
from shaper.policy.resolve import network_control

_LAST = 7
_LEAST = 8


def fit(interface: Interface, report: Report) -> None:
    """In place."""
    _named(interface.classes)
    _ordered(interface.classes, report)
    _default(interface)
    _priorities(interface)
    _limits(interface.classes, interface.bandwidth, report)
    control = network_control(interface.bandwidth, Where("", 0, 0)).guarantee
    _guarantees(interface.classes, interface.bandwidth - control, report)


def _named(classes: Sequence[Class]) -> None:
    taken: set[str] = set()
    for cls in classes:
        cls.name = quantities.name(cls.name, taken)
        taken.add(cls.name)
        _named(cls.classes)


def _ordered(classes: list[Class], report: Report) -> None:
    """Our rules are asked in the order of the classes: those whose rules the tool asks first come first."""
    places = [cls.order for cls in classes if cls.order is not None]
    if places != sorted(places):
        classes.sort(key=lambda cls: inf if cls.order is None else cls.order)
        moved = next(cls for cls in classes if cls.order is not None)
        why = "rules are asked in the order of their classes, so the classes stand in the order of their first rule"
        report.lose(moved.line, why, "look whether a packet that two classes match goes where it should")
    for cls in classes:
        _ordered(cls.classes, report)


def _priorities(interface: Interface) -> None:
    """HTB's own, of the leaves: it looks at no others, and takes what is beyond 7 for 7. None where all are alike."""
    leaves = [cls for cls in interface.walk() if not cls.classes]
    ranks = {min(_LAST, cls.rank) for cls in leaves if cls.rank is not None}
    for cls in interface.walk():
        cls.rank = None if cls.classes or len(ranks) < 2 else _LAST if cls.rank is None else min(_LAST, cls.rank)


def _default(interface: Interface) -> None:
    """One leaf takes the rest: the one that the tool named, else a new one."""
    leaves = [cls for cls in interface.walk() if not cls.classes]
    chosen = next((leaf for leaf in leaves if leaf.default), None)
    for cls in interface.walk():
        cls.default = False
    if chosen is None:
        chosen = Class(quantities.name("rest", {cls.name for cls in interface.classes}), interface.line)
        interface.classes.append(chosen)
    chosen.default = True


def _limits(classes: Sequence[Class], most: int, report: Report) -> None:
    for cls in classes:
        if cls.limit is not None and cls.limit > most:
            why = f"its limit of {rate_text(cls.limit)} is more than it is part of, so that stands: {rate_text(most)}"
            report.lose(cls.line, why, "raise what is around it, if the link has more")
        if cls.limit is not None and cls.limit >= most:
            cls.limit = None
        limit = most if cls.limit is None else cls.limit
        if cls.guarantee is not None and cls.guarantee > limit:
            why = (
                f"its guarantee of {rate_text(cls.guarantee)} is more than its limit, {rate_text(limit)}, which stands"
            )
            report.lose(cls.line, why, "raise the limit, or take the guarantee out")
            cls.guarantee = limit
        _limits(cls.classes, limit, report)


def _guarantees(classes: Sequence[Class], whole: int, report: Report) -> None:
    """Scaled in proportion where they exceed what is there; that is what HTB makes of them under load."""
    wanted = [_wanted(cls) for cls in classes]
    total = sum(wanted)
    for cls, own in zip(classes, wanted, strict=True):
        allotted = own if total <= whole else own * whole // total // 1000 * 1000
        if cls.guarantee is not None and allotted < cls.guarantee:
            of = f"the guarantees around it come to {rate_text(total)} of {rate_text(whole)}"
            why = f"{of}: scaled to {rate_text(allotted)}"
            report.lose(cls.line, why, "write guarantees that the link can keep")
            cls.guarantee = allotted if allotted >= _LEAST else None
        _guarantees(cls.classes, allotted, report)


def _wanted(cls: Class) -> int:
    if cls.guarantee is not None:
        return cls.guarantee
    below = sum(map(_wanted, cls.classes))
    return below if cls.limit is None else min(below, cls.limit)
