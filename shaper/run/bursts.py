"""How unevenly the newest packets of a class came, from the envelopes of its arrivals."""

from __future__ import annotations

from collections.abc import Iterable

from shaper.model.observation import ClassObservation
from shaper.model.status import Burst


def burst(recent: Iterable[ClassObservation]) -> Burst | None:
    """Of the ticks in which every arrival was seen: None without one, or where nothing but TCP came.

    A window is of the tick in which it ends.
    """
    bits = seconds = 0.0
    envelopes = []
    for one in recent:
        if one.inelastic is not None:
            bits += one.inelastic * one.seconds
            seconds += one.seconds
            if one.envelope:
                envelopes.append(one.envelope)
    if not bits or not envelopes:
        return None
    return Burst({tau: max([one.get(tau, 0) for one in envelopes]) for tau in envelopes[-1]}, bits / seconds)
