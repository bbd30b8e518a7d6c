"""Who answers the probes over a link that moves: the values of `reflectors`, and of a bandwidth that has several.

As in `values`, a function takes the bare value and raises PydanticCustomError.
"""

from __future__ import annotations

from shaper.model.probe import ProbeKind
from shaper.policy.kinds import Kind
from shaper.policy.values import duration_between, one_of, rate, refuse

LEAST_BLOAT, MOST_BLOAT = 0.001, 1.0
KINDS = (ProbeKind.ICMP, ProbeKind.STAMP, ProbeKind.TWAMP_LIGHT)


def kind(value: object) -> ProbeKind:
    """`icmp`, `stamp` or `twamp-light`: one packet there, one back."""
    return ProbeKind(one_of(KINDS, value, Kind.UNKNOWN_PROBE, "is no probe that a reflector answers by one packet"))


def bloat(value: object) -> float:
    """`15ms` -> 0.015."""
    return duration_between(value, LEAST_BLOAT, MOST_BLOAT, "15ms", "what queueing may add to a delay")


def hosts(value: object) -> object:
    """One address, or a list of them."""
    if value in (None, []):
        raise refuse(Kind.EMPTY, "nobody is named who answers probes", "name two or more hosts beyond the link")
    return value if isinstance(value, list) else [value]


def rates_named(value: object) -> object:
    """One rate stands for a mapping with nothing but it."""
    return value if isinstance(value, dict) else {"base": f"{rate(value)}bit"}
