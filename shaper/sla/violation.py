"""The violation-second: one second of a run, by send time, in which a class that had traffic missed a target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from shaper.model.sla import DelayTarget, Sla

FEW = 100
"""Below this many packets one late packet is forgiven and no more, whatever the percentile."""


@dataclass(frozen=True, slots=True)
class SecondAccount:
    """One class in one second, as its receiver saw it.

    `sent` packets were sent in the second; `late_by_target` holds, for each delay target, how many of them came later
    than it allows or never; `lost` never came. `throughput` in bit/s of layer 2, and so `waiting`: what it sent in the
    time in which it wanted more, None where it never did.
    """

    sent: int
    late_by_target: Mapping[DelayTarget, int] = field(default_factory=dict)
    lost: int = 0
    throughput: float = 0.0
    waiting: float | None = None


def violated(second: SecondAccount, sla: Sla) -> bool | None:
    """Whether the second violates the agreement; None when it counts as neither.

    Neither are a second without traffic, a class without targets, and a second in which no target was missed but one
    of the delay targets was not measured: missing data never counts as good.
    """
    if not sla or not (second.sent > 0 or second.waiting is not None):
        return None
    if sla.loss is not None and second.lost > max(1.0, sla.loss * second.sent + 1e-9):
        return True
    # Who did not wait for all of the second got what it asked for in the rest.
    fastest = max(second.throughput, second.waiting) if second.waiting is not None else math.inf
    if sla.throughput is not None and fastest < sla.throughput:
        return True
    if second.sent <= 0:
        return False if sla.throughput is not None else None
    measured = True
    for target in sla.bounds:
        late = second.late_by_target.get(target)
        if late is None:
            measured = False
        elif late > (1 if second.sent < FEW else (1 - target.percentile) * second.sent + 1e-9):
            return True
    return False if measured else None
