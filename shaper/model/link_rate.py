"""A link whose rate moves: what a policy says of it, what is seen of it, and what was decided about it."""

from __future__ import annotations

from dataclasses import dataclass

from shaper.model.probe import ProbeKind

BLOAT = 0.015
"""Seconds over a reflector's own delay from which the link counts as too full, where the policy says nothing else."""


@dataclass(frozen=True, slots=True)
class Moving:
    """The least and the most that one direction of a link carries, in bit/s as used, and who answers probes over it.

    `reflectors` are addresses, those before asked first; `bloat` is the delay in seconds that queueing may add.
    """

    least: int
    most: int
    reflectors: tuple[str, ...]
    kind: ProbeKind = ProbeKind.ICMP
    port: int = 0
    bloat: float = BLOAT


@dataclass(frozen=True, slots=True)
class LinkSample:
    """One probe to a reflector, sent at boot time `at` (s). `delay` is its round trip less the wait in the own queue,
    None where no answer came; `way` the time in the controlled direction alone, by two clocks that may differ."""

    reflector: str
    at: float
    delay: float | None
    way: float | None = None


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """One tick of `seconds`: the bytes that were sent, the probes that were settled.

    `beside` is the load of the other direction, a ratio of its rate; None where nobody knows.
    """

    seconds: float
    sent_bytes: int
    samples: tuple[LinkSample, ...] = ()
    beside: float | None = None


@dataclass(frozen=True, slots=True)
class LinkMove:
    """The link's rate moved: from, to (bit/s), why, and what bound it ("none", "least", "most").

    `delay` is the queueing delay behind our own queue in seconds, `achieved` what was sent and `capacity` what was seen
    to come through, in bit/s; None where that is not known.
    """

    before: int
    after: int
    reason: str
    bound: str
    delay: float | None
    achieved: float
    capacity: float | None


@dataclass(frozen=True, slots=True)
class LinkDecision:
    """One tick's decision about the link: the `rate` in bit/s from now on, and the move to it where it is another.

    `probed` are the reflectors to ask from now on; `held` is why the rate stays though something is wrong.
    """

    rate: int
    move: LinkMove | None = None
    probed: tuple[str, ...] = ()
    delay: float | None = None
    capacity: float | None = None
    held: str = ""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """The moving link at one moment: rates in bit/s, `delay` in seconds over the baseline, `says` the last reason.

    `probed` are the reflectors that are asked now; `held` is why the rate stays though something is wrong.
    """

    rate: int
    least: int
    base: int
    most: int
    probed: tuple[str, ...] = ()
    delay: float | None = None
    capacity: float | None = None
    moves: int = 0
    says: str = ""
    held: str = ""
