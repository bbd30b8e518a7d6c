"""Limits of queues that are lowered: never below what the queue holds, where the kernel would throw the rest away.

Measured on 6.12: fq_codel, CoDel, PIE and fq_PIE throw it away when they are told, CAKE when the next packet comes. A
FIFO takes no more until it has drained, and needs nothing of this; SFQ and RED can't be told in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shaper.plan.steps import Step, Verb
from shaper.tree import CakeOptions, CodelOptions, FqCodelOptions, FqPieOptions, Occupancy, Options, PieOptions, Qdisc

_LIMITS: Mapping[type, Mapping[str, str]] = {
    FqCodelOptions: {"limit": "packets", "memory": "memory"},
    CodelOptions: {"limit": "packets"},
    PieOptions: {"limit": "packets"},
    FqPieOptions: {"limit": "packets"},
    CakeOptions: {"memory": "memory"},
}
"""The limits of each kind, and what of its occupancy they limit."""
_KERNELS_OWN = 0
"""CAKE's memory where it is left to the kernel: no limit of ours."""
_ROOM = 8
"""A limit that follows a queue stays this part of what the queue holds above it, for what comes meanwhile."""


def lowers(step: Step) -> bool:
    """Whether the step makes a limit smaller by which the kernel would throw packets away."""
    return bool(_smaller(step))


def lifted(step: Step) -> Step:
    """The step with the smaller limits as they were: what may be sent whatever the queue holds."""
    stand = _smaller(step)
    if not stand:
        return step
    assert isinstance(step.after, Qdisc)
    return replace(step, after=_with(step.after, stand))


def nearer(step: Step, held: Occupancy, came: Occupancy) -> Step:
    """The step with limits no smaller than what the queue holds and some room: for what comes before it is told.

    `came` is the most by which the queue was seen to grow between two looks; there is room for twice that.
    """
    assert isinstance(step.after, Qdisc)
    limits = _LIMITS[type(step.after.options)]
    allowed = {}
    for name, present in _smaller(step).items():
        taken = getattr(held, limits[name])
        least = taken + max(taken // _ROOM, 2 * getattr(came, limits[name]))
        if getattr(step.after.options, name) < least:
            allowed[name] = least if present == _KERNELS_OWN else min(present, least)
    return replace(step, after=_with(step.after, allowed))


def _smaller(step: Step) -> dict[str, int]:
    """The limits that become smaller, as they are before."""
    before, after = step.before, step.after
    if step.verb is not Verb.CHANGE or not (isinstance(before, Qdisc) and isinstance(after, Qdisc)):
        return {}
    old, new = before.options, after.options
    if type(old) is not type(new):
        return {}
    names = _LIMITS.get(type(new), {})
    return {name: getattr(old, name) for name in names if _size(new, name) < _size(old, name)}


def _size(options: Options, name: str) -> float:
    value: int = getattr(options, name)
    return float("inf") if isinstance(options, CakeOptions) and value == _KERNELS_OWN else value


def _with(qdisc: Qdisc, limits: Mapping[str, int]) -> Qdisc:
    options: Any = qdisc.options
    return replace(qdisc, options=options._replace(**limits))
