"""The two-rate three-colour marker as RFC 2698 has it, in exact arithmetic; and as the kernel reckons it.

RFC 2698, section 3: "The token buckets P and C are initially (at time 0) full [...] Thereafter, the token count Tp is
incremented by one PIR times per second up to PBS and the token count Tc is incremented by one CIR times per second up
to CBS. When a packet of size B bytes arrives at time t, the following happens if the trTCM is configured to operate in
the Color-Blind mode: If Tp(t)-B < 0, the packet is red, else if Tc(t)-B < 0, the packet is yellow and Tp is decremented
by B, else the packet is green and both Tp and Tc are decremented by B."
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

GREEN, YELLOW, RED = "green", "yellow", "red"
SECOND = 10**9


class Bucket(Protocol):
    """Tokens, and what they are worth."""

    def holds(self, size: int, now: int) -> bool:
        """Whether there are tokens for so many bytes, at a time in ns that never goes back."""

    def pay(self, size: int) -> None:
        """For a packet of so many bytes, at the time of the last question."""


@dataclass
class ExactBucket:
    """Filled at `rate` bytes a second up to `depth` bytes, and full at first; tokens are fractions of a byte."""

    rate: int
    depth: int
    tokens: Fraction = field(init=False)
    since: int | None = None

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.depth)

    def holds(self, size: int, now: int) -> bool:
        if self.since is not None:
            self.tokens = min(Fraction(self.depth), self.tokens + Fraction(self.rate * (now - self.since), SECOND))
        self.since = now
        return self.tokens >= size

    def pay(self, size: int) -> None:
        self.tokens -= size


@dataclass
class KernelBucket:
    """As net/sched/act_police.c: tokens are ns; a burst is kept in ticks of 64 ns, rounded up by who sets it.

    A packet costs `size * mult >> shift` ns, with the factors of psched_ratecfg_precompute() (net/sched/sch_generic.c).
    """

    rate: int
    depth: int
    tokens: int = field(init=False)
    burst: int = field(init=False)
    since: int | None = None

    def __post_init__(self) -> None:
        self.burst = self.tokens = -(-self.depth * SECOND // (self.rate * 64)) * 64
        self.shift, factor = 0, SECOND
        while not (factor // self.rate & 1 << 31 or factor & 1 << 63):
            factor, self.shift = factor << 1, self.shift + 1
        self.mult = factor // self.rate & 0xFFFFFFFF

    def holds(self, size: int, now: int) -> bool:
        if self.since is not None:
            self.tokens = min(self.burst, self.tokens + min(now - self.since, self.burst))
        self.since = now
        return self.tokens >= self._cost(size)

    def pay(self, size: int) -> None:
        self.tokens -= self._cost(size)

    def _cost(self, size: int) -> int:
        return size * self.mult >> self.shift


@dataclass
class TwoRates:
    """The marker, of a committed and a peak bucket."""

    committed: Bucket
    peak: Bucket

    def colour(self, size: int, now: int) -> str:
        """Of a packet of `size` bytes that arrives at `now` (ns)."""
        enough, committed = self.peak.holds(size, now), self.committed.holds(size, now)
        if not enough:
            return RED
        self.peak.pay(size)
        if not committed:
            return YELLOW
        self.committed.pay(size)
        return GREEN


@dataclass
class SingleRate:
    """RFC 2697, section 3, colour-blind: what the committed bucket has no room for fills the excess one."""

    rate: int
    cbs: int
    ebs: int
    since: int | None = None

    def __post_init__(self) -> None:
        self.committed, self.excess = Fraction(self.cbs), Fraction(self.ebs)

    def colour(self, size: int, now: int) -> str:
        """Of a packet of `size` bytes that arrives at `now` (ns)."""
        more = Fraction(self.rate * (now - self.since), SECOND) if self.since is not None else Fraction(0)
        self.since = now
        room = self.cbs - self.committed
        self.committed += min(room, more)
        self.excess = min(Fraction(self.ebs), self.excess + max(Fraction(0), more - room))
        if self.committed >= size:
            self.committed -= size
            return GREEN
        if self.excess >= size:
            self.excess -= size
            return YELLOW
        return RED
