"""Sending steps so that no queue is told to hold less than it does: its limit follows it down while it drains.

A step that lowers a limit is first sent with the limit as it stands. Then, look by look, the limit goes down to what
the queue holds, until it is where it should be. A queue that stays full in spite of that keeps what it holds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from shaper.kernel.protocol import Kernel
from shaper.plan.describe import subject
from shaper.plan.fingerprint import carried
from shaper.plan.lowering import lifted, lowers, nearer
from shaper.plan.steps import Step
from shaper.tree import Handle, Occupancy, Qdisc, Tree

PATIENCE = 1.0
"""Seconds that queues are waited for."""
_SOONEST, _LATEST = 0.001, 0.02
_STALE = 0.001
"""Seconds: a look that takes so much longer than the quickest, and half as long again, is too old to act by."""


def send(kernel: Kernel, device: str, steps: Sequence[Step], *, patience: float | None = None) -> tuple[Step, ...]:
    """Carries out the steps; what of them is left after `patience` seconds, as steps from how the queues stand then.

    Without a number it is PATIENCE. Raises StepError, UnavailableError.
    """
    kernel.send(device, [lifted(step) for step in steps])
    left = tuple(replace(step, before=lifted(step).after) for step in steps if lowers(step))
    return lower(kernel, device, left, patience=PATIENCE if patience is None else patience)


def lower(kernel: Kernel, device: str, left: tuple[Step, ...], *, patience: float = 0.0) -> tuple[Step, ...]:
    """Lowers each limit as far as its queue drains; what is left of the steps. At least two looks. Raises as `send`."""
    if not left:
        return ()
    until, pause, quickest = time.monotonic() + patience, _SOONEST, float("inf")
    held, came = kernel.occupancy(device), dict.fromkeys(map(_handle, left), Occupancy())
    while left:
        time.sleep(pause)
        pause = min(2 * pause, _LATEST)
        began, before, held = time.monotonic(), held, kernel.occupancy(device)
        for one in map(_handle, left):
            came[one] = _most(came[one], held.get(one, Occupancy()), before.get(one, Occupancy()))
        done = [nearer(step, held.get(_handle(step), Occupancy()), came[_handle(step)]) for step in left]
        took = time.monotonic() - began
        quickest = min(quickest, took)
        if took <= quickest + max(_STALE, quickest / 2):  # else somebody had the processor, and may have sent
            kernel.send(device, [step for step in done if step.before != step.after])
            left = tuple(
                replace(step, before=one.after) for step, one in zip(left, done, strict=True) if one.after != step.after
            )
        if time.monotonic() >= until:
            break
    return left


def _most(came: Occupancy, held: Occupancy, before: Occupancy) -> Occupancy:
    return Occupancy(max(came.packets, held.packets - before.packets), max(came.memory, held.memory - before.memory))


def as_it_stands(target: Tree, left: Iterable[Step]) -> Tree:
    """The target as it is while these steps are left."""
    return carried(target, [step.inverse() for step in left])


def words(left: Iterable[Step], names: Mapping[Handle, str]) -> tuple[str, ...]:
    """For a person: which queues still hold more than they should."""
    return tuple(
        f"{subject(step.node, names)} stays full: its limit is left above what the policy says, since the kernel would "
        "throw away what waits; a running shaper lowers it as it drains, and so does another apply"
        for step in left
    )


def _handle(step: Step) -> Handle:
    assert isinstance(step.after, Qdisc)
    return step.after.handle
