"""What the law itself costs: the time of one `control.step`, on a tree of leaves that all have traffic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from statistics import median

from shaper import control
from shaper.control import ClassSetup, LinkSetup, ParentSetup, Setup
from shaper.model.decision import Bounds, Grant
from shaper.model.observation import TICK, CaptureHealth, ClassObservation, DelayView, Observation
from shaper.model.policy import Tier
from shaper.model.sla import DelayTarget, Sla

_SLA = Sla((DelayTarget(0.99, 0.05),), 0.005)
_TAUS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


def cost(*, classes: int = 0, ticks: int = 40, seed: int = 1) -> Iterator[str]:
    """A line for each size of tree, with what it is of a processor at the run's tick."""
    for count in (classes,) if classes else (20, 200, 2000):
        taken = seconds(count, ticks=ticks, seed=seed)
        middle, most = median(taken), max(taken)
        yield (
            f"{count:5} classes: a step takes {middle * 1e3:8.2f} ms (median of {ticks}; at most {most * 1e3:.2f}), "
            f"{middle / TICK:.1%} of a processor at a tick of {TICK * 1e3:g} ms"
        )


def seconds(count: int, *, ticks: int, seed: int) -> list[float]:
    """The processor's time of each step, of which some find a class that needs more than before."""
    setup, dice = tree(count), Random(seed)
    state, now, found = control.initial(setup), 0.0, []
    for _ in range(ticks):
        now += TICK
        observation = Observation(TICK, {cls.path: seen(cls, dice) for cls in setup.classes}, CaptureHealth(True, 1000))
        began = time.process_time()
        state, _ = control.step(setup, state, observation, now=now)
        found.append(time.process_time() - began)
    return found


def tree(count: int) -> Setup:
    """Ten leaves in each inner class; every second one has an SLA."""
    rate = 1_000_000
    leaves = tuple(
        ClassSetup(
            f"{number // 10}/{number % 10}",
            Tier.PRIORITY if number % 2 else Tier.STANDARD,
            1.0,
            rate,
            rate // 4,
            20 * rate,
            _SLA if number % 2 else Sla(),
            Bounds((rate // 4, 20 * rate), (rate, 20 * rate), (6_000, 10**6)),
            Grant(rate // 4, 20 * rate, 6_250),
        )
        for number in range(count)
    )
    parents = tuple(
        ParentSetup(str(number), 15 * rate, tuple(leaf.path for leaf in leaves[10 * number : 10 * number + 10]))
        for number in range(-(-count // 10))
    )
    return Setup(LinkSetup(count * rate), leaves, parents)


def seen(cls: ClassSetup, dice: Random) -> ClassObservation:
    """Half to all of its guarantee, with what the capture tells of it."""
    offered = cls.guarantee * dice.uniform(0.5, 1.0)
    size = int(offered * TICK / 8)
    envelope = {tau: int(offered * tau / 8) + 1514 for tau in _TAUS}
    delay = DelayView(200, 1.0, {0.99: 0.01}, {0.05: 0.0}, 0.02)
    return ClassObservation(cls.path, TICK, size, size // 1000, 0, 0, offered, offered, envelope, delay)
