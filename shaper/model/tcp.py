"""What the packets of TCP say of its paths, class by class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TcpFlow:
    """One flow, in words; as TcpView has it."""

    flow: str
    segments: int
    retransmitted: int
    samples: int
    rtt: float | None = None
    least: float | None = None


@dataclass(frozen=True, slots=True)
class TcpView:
    """`segments` that left since the start, and how many of them had left before: `retransmitted`.

    `rtt` is the mean of the smoothed round trips (s, RFC 6298) of the `flows` that were active in the last 10 s,
    `least` the least of all `samples`: from behind this device's queue to the acknowledgement. None is no data. Of
    `sampling` flows one was looked at: nothing is scaled up. `largest` are the flows that sent the most.
    """

    flows: int = 0
    segments: int = 0
    retransmitted: int = 0
    samples: int = 0
    rtt: float | None = None
    least: float | None = None
    sampling: int = 1
    largest: tuple[TcpFlow, ...] = ()

    @property
    def ratio(self) -> float | None:
        """The share of the segments that had left before, None of nothing."""
        return self.retransmitted / self.segments if self.segments else None
