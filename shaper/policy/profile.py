"""Whether a contracted profile leaves room for the delay that was promised, before anything is applied.

Traffic that sends at most sigma + rho t, served at a rate R >= rho after a latency theta, waits at most
theta + sigma / R (Le Boudec & Thiran, Network Calculus, theorem 1.4.2). The bound is for the worst packet, so only
targets for 99 % of the packets or more are held against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from shaper.errors import Problem
from shaper.model.policy import TrafficClass
from shaper.policy.draft import Draft
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document
from shaper.policy.text import quoted
from shaper.units import format_duration, format_rate

FRAME = 1514
"""Bytes of a full Ethernet frame: the link's own is not known before the kernel is asked."""
BURST_SECONDS = 0.001
_WORST = 0.99


def infeasible(
    drafts: Sequence[Draft], classes: Sequence[TrafficClass], bandwidth: int, document: Document
) -> Iterator[Problem]:
    """Profiles on an interface of that bandwidth (bit/s) that its guarantees, or the link itself, cannot hold."""
    resolved = {cls.path: cls for top in classes for cls in top.walk()}
    leaves = [cls for cls in resolved.values() if not cls.children]
    for draft in (cls for top in drafts for cls in top.walk()):
        profile = draft.spec.profile
        if profile is None:
            continue
        cls = resolved[draft.path]
        name, sigma = quoted(draft.path), profile.cbs.of(profile.cir) * 8
        if cls.guarantee < profile.cir:
            message = f"{name} may send {format_rate(profile.cir)} and is guaranteed {format_rate(cls.guarantee)}"
            hint = f"guarantee at least {format_rate(profile.cir)}, or contract less"
            yield document.problem(Kind.PROFILE_INFEASIBLE, (*draft.loc, "profile", "cir"), message, hint)
            continue
        served = 1 + sum(other.tier <= cls.tier for other in leaves)  # with network control, and a frame on the wire
        theta = served * FRAME * 8 / bandwidth + BURST_SECONDS
        for target in cls.sla.delays:
            bound = theta + (FRAME * 8 + sigma) / cls.guarantee
            if target.percentile < _WORST or bound <= target.seconds:
                continue
            message = (
                f"{name} may send {profile.cbs.of(profile.cir)} bytes at once: at its guarantee of "
                f"{format_rate(cls.guarantee)} the last of them waits {format_duration(bound)}, "
                f"longer than {format_duration(target.seconds)}"
            )
            if target.seconds <= theta:
                hint = f"no rate of this link would do: {format_duration(theta)} go by before it is served at all"
            else:
                enough = _up(max(math.ceil((FRAME * 8 + sigma) / (target.seconds - theta)), profile.cir))
                beyond = ", more than the link has" if enough > bandwidth else ""
                hint = f"a guarantee of {format_rate(enough)} would do{beyond}"
                least = int(((target.seconds - theta) * cls.guarantee - FRAME * 8) / 8)
                hint += f", or a burst of {least}b" if least > 0 else ""
            yield document.problem(Kind.PROFILE_INFEASIBLE, (*draft.loc, "profile", "cbs"), message, hint)
            break


def _up(rate: int) -> int:
    """Rounded up to a thousandth of the unit in which it is written, so that what is said does do."""
    unit: int = 10 ** max(0, (len(str(rate)) - 1) // 3 * 3 - 3)
    return -(-rate // unit) * unit
