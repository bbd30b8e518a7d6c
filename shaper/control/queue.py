"""The third actuator: the leaf's queue limit, the only one that moves the delay of TCP.

A queue of rate x D bytes served at the rate makes nobody wait longer than D. Greedy TCP fills what it is given: its
class gets a share of that, and never more than its granted rate alone could serve within D: what it borrows may be gone
in the next second. What is no TCP comes at its own pace: its queue is as long as what the others leave of the link
could serve within D, so that a step beyond the rate waits for the next tick instead of being dropped. A little late is
better than lost; but where a class is short of rate, what passes is in time. So it is with TCP that comes at a pace of
its own, until it fills its queue. Queues that keep themselves short have a limit for the worst case only: a tight one
throws away the flows that fq_codel tells apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from shaper.control.needs import Need
from shaper.control.setup import ClassSetup, Setup
from shaper.control.tuning import Tuning

TRUESIZE = 2
"""The kernel's memory for a full frame, as a multiple of its bytes."""


def queue_limit(
    setup: Setup,
    cls: ClassSetup,
    wanted: Need,
    *,
    rate: int,
    within: float,
    backlog: int,
    present: int,
    tuning: Tuning,
) -> int:
    """The leaf's limit in bytes for the granted `rate`, and what is `within` reach, in bit/s; `backlog` and the
    `present` limit in bytes.

    With TCP in it never below the present backlog: it would lose all that comes until the queue has drained. What is no
    TCP and waits beyond the limit is late already. A class without a delay target keeps the queue it was compiled with,
    on a link that moves in seconds and not in bytes.
    """
    low, high = cls.bounds.queue
    delay = cls.tightest
    if delay is None and setup.link.share is None:
        return min(high, max(low, present))
    if delay is None:
        limit = min(high, max(low, int(cls.static.queue * (setup.link.share or 1.0)), min(present, backlog)))
        return present if low <= present <= high and abs(limit - present) <= tuning.queue_band * present else limit
    usable = max(delay - setup.latency(cls), delay / 4)
    follows = wanted.inelastic or wanted.paced
    if cls.memory:
        served = TRUESIZE * within
    elif follows:
        granted = wanted.rate <= rate * (1 + tuning.apply_up) + tuning.apply_bits
        served = within * (tuning.lossless_share if cls.sla.loss is not None and granted else 1.0)
    elif wanted.elastic:
        served = min(tuning.elastic_share * max(float(rate), wanted.throughput), rate)
    else:
        served = rate
    kept = 0 if wanted.inelastic or cls.memory else min(present, backlog)
    limit = min(high, max(low, kept, int(usable * served / 8)))
    late = wanted.missed.startswith("p") and limit < present
    band = tuning.apply_up if late else tuning.reach_band if follows or cls.memory else tuning.queue_band
    if low <= present <= high and abs(limit - present) <= band * present:
        return present
    return limit


def reach(setup: Setup, needs: Mapping[str, Need], rates: Mapping[str, int]) -> dict[str, float]:
    """The rate in bit/s that each class may count on while it borrows: what the others leave of the link and of the
    classes above it. A lower tier leaves all beyond its rate, the others all beyond what they use."""
    classes = {cls.path: cls for cls in setup.classes}
    used = {path: max(float(rate), needs[path].throughput if path in needs else 0.0) for path, rate in rates.items()}
    found = {path: float(cls.highest) for path, cls in classes.items()}
    rooms = [(setup.link.bandwidth, tuple(rates)), *((parent.limit, parent.leaves) for parent in setup.parents)]
    for limit, leaves in rooms:
        taken = {
            tier: sum(used[path] if classes[path].tier <= tier else rates[path] for path in leaves)
            for tier in {classes[path].tier for path in leaves}
        }
        for path in leaves:
            found[path] = min(found[path], limit - taken[classes[path].tier] + used[path])
    return {path: max(found[path], float(rate)) for path, rate in rates.items()}
