"""A link whose capacity moves behind our own shaper: a fluid queue with a limit, probes that pass it, the law on top.

No chance in it: probes go out at an even pace, jitter is a pattern. What is offered does not answer to loss, which is
worse than TCP.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shaper.control import link
from shaper.model.link_rate import LinkDecision, LinkSample, LinkSeen

M = 10**6
SLICE = 0.002
REFLECTORS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
Of = Callable[[float], float]


def constant(value: float) -> Of:
    """The same at any time."""
    return lambda _now: value


def steps(*parts: tuple[float, float]) -> Of:
    """From (time, value): what holds from that time on."""
    return lambda now: next(value for at, value in reversed(parts) if at <= now)


def moving(**other: object) -> link.Setup:
    """5 to 25 Mbit/s, 20 to begin with, three reflectors."""
    said: dict[str, object] = {"least": 5 * M, "base": 20 * M, "most": 25 * M, "reflectors": REFLECTORS, **other}
    return link.Setup(**said)  # type: ignore[arg-type]


@dataclass
class Hidden:
    """The link and who measures over it. Rates in bit/s by time, seconds; `limit` in bytes of the hidden queue.

    `answers` says when a reflector answers at all; `extra` what its way takes on top. `beside` is the other direction's
    load.
    """

    setup: link.Setup
    capacity: Of = lambda _now: 20.0 * M
    offered: Of = lambda _now: math.inf
    limit: int = 500_000
    base: float = 0.04
    interval: float = 0.05
    tick: float = 0.25
    extra: Callable[[str, float], float] = lambda _name, _now: 0.0
    answers: Callable[[str, float], bool] = lambda _name, _now: True
    beside: Callable[[float], float | None] = lambda _now: None
    way: Callable[[float], float] | None = None
    tuning: link.Tuning = field(default_factory=link.Tuning)
    now: float = 0.0
    queue: float = 0.0
    decisions: list[tuple[float, LinkDecision]] = field(default_factory=list, repr=False)
    delays: list[tuple[float, float]] = field(default_factory=list, repr=False)
    sent: list[tuple[float, float]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.state = link.initial(self.setup)
        self.rate = float(self.setup.base)
        self._probed: tuple[str, ...] = self.setup.reflectors[: self.tuning.pingers]
        self._flying: deque[tuple[float, LinkSample]] = deque()
        self._number = itertools.count()
        self._begun = 0.0
        self._due = 0.0

    def run(self, seconds: float) -> Hidden:
        """Goes on for so long."""
        end, bits = self.now + seconds, 0.0
        ticking = self.now + self.tick
        while self.now < end - SLICE / 2:
            bits += self._slice()
            if self.now >= ticking - SLICE / 2:
                self._decide(bits)
                bits, ticking = 0.0, ticking + self.tick
        return self

    def _slice(self) -> float:
        sent = min(self.offered(self.now), self.rate) * SLICE
        carried = self.capacity(self.now) * SLICE
        came = min(self.queue + sent, carried)
        self.queue = min(self.queue + sent - came, self.limit * 8)
        self.delays.append((self.now, self.queue / max(self.capacity(self.now), 1.0)))
        self.sent.append((self.now, came))
        if self.now >= self._due - 1e-9:
            self._due += self.interval
            self._probe()
        self.now += SLICE
        return sent

    def _probe(self) -> None:
        name = self._probed[next(self._number) % len(self._probed)]
        waits = self.queue / max(self.capacity(self.now), 1.0)
        trip = self.base + waits + self.extra(name, self.now)
        there = None if self.way is None else self.way(self.now) + waits
        if self.answers(name, self.now) and self.capacity(self.now) > 0:
            self._flying.append((self.now + trip, LinkSample(name, self.now, trip, there)))
        else:
            self._flying.append((self.now + 5.0, LinkSample(name, self.now, None)))

    def _decide(self, bits: float) -> None:
        came = [one for at, one in self._flying if at <= self.now]
        self._flying = deque((at, one) for at, one in self._flying if at > self.now)
        self._feed(came, bits)

    def _feed(self, came: Iterable[LinkSample], bits: float) -> None:
        seen = LinkSeen(self.tick, int(bits / 8), tuple(came), self.beside(self.now))
        self.state, decision = link.step(self.setup, self.state, seen, now=self.now, tuning=self.tuning)
        self.rate, self._probed = float(decision.rate), decision.probed
        self.decisions.append((self.now, decision))

    # --- what came of it

    def rates(self, since: float = 0.0, until: float = math.inf) -> list[float]:
        """As decided, of every tick in between."""
        return [float(one.rate) for at, one in self.decisions if since <= at < until]

    def p95(self, since: float, until: float = math.inf) -> float:
        """Of the hidden queue's delay, in seconds."""
        found = sorted(delay for at, delay in self.delays if since <= at < until)
        return found[int(0.95 * len(found))]

    def used(self, since: float, until: float) -> float:
        """What came through, of what the link could carry."""
        could = sum(self.capacity(at) for at, _ in self.sent if since <= at < until) * SLICE
        return sum(bits for at, bits in self.sent if since <= at < until) / could

    def moves(self, since: float = 0.0, until: float = math.inf) -> list[tuple[float, LinkDecision]]:
        """The decisions that moved the rate."""
        return [(at, one) for at, one in self.decisions if one.move is not None and since <= at < until]
