"""The third actuator: the leaf's queue limit, the only one that moves the delay of TCP.

A queue of rate x D bytes served at the rate makes nobody wait longer than D. TCP fills whatever it is given, so a class
with TCP gets a share of that, and never more than its granted rate alone could serve within D: what it borrows may be
gone in the next second.
"""

from __future__ import annotations

from shaper.control.needs import Need
from shaper.control.setup import ClassSetup, Setup
from shaper.control.tuning import Tuning


def queue_limit(
    setup: Setup, cls: ClassSetup, wanted: Need, *, rate: int, backlog: int, present: int, tuning: Tuning
) -> int:
    """The leaf's limit in bytes for the granted `rate` in bit/s; `backlog` and the `present` limit in bytes.

    Never below the present backlog, since the kernel would throw the excess away; a class without a delay target keeps
    the queue it was compiled with, on a link that moves in seconds and not in bytes.
    """
    low, high = cls.bounds.queue
    delay = cls.tightest
    if delay is None and setup.link.share is None:
        return min(high, max(low, present))
    if delay is None:
        limit = min(high, max(low, int(cls.static.queue * (setup.link.share or 1.0)), min(present, backlog)))
        return present if low <= present <= high and abs(limit - present) <= tuning.queue_band * present else limit
    usable = max(delay - setup.latency(cls), delay / 4)
    served = max(float(rate), wanted.throughput)
    if wanted.elastic:
        target = usable * min(tuning.elastic_share * served, rate) / 8
    else:
        share = tuning.inelastic_share if cls.sla.loss is None else tuning.lossless_share
        target = usable * share * served / 8
    limit = max(int(target), min(present, backlog))
    limit = min(high, max(low, limit))
    late = wanted.missed.startswith("p") and limit < present
    band = tuning.apply_up if late else tuning.queue_band
    if low <= present <= high and abs(limit - present) <= band * present:
        return present
    return limit
