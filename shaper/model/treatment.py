"""What is done to the packets of a class beside queueing them: policed by token buckets, and marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shaper.model.match import Masked


class Outcome(NamedTuple):
    """What becomes of packets of one colour: sent as they are, with another DSCP, or dropped."""

    drop: bool = False
    dscp: int | None = None


SENT, DROPPED = Outcome(), Outcome(drop=True)


@dataclass(frozen=True, slots=True)
class Policer:
    """Colours by token buckets, colour-blind: rates in bit/s, bursts in bytes of layer 2.

    With a peak rate it is the two-rate three-colour marker of RFC 2698: red is beyond PIR and PBS, yellow beyond CIR
    and CBS, green the rest. Without one (`pir` 0) there is no yellow: the single bucket of RFC 2697 with an EBS of 0.
    """

    cir: int
    cbs: int
    pir: int = 0
    pbs: int = 0
    green: Outcome = SENT
    yellow: Outcome = SENT
    red: Outcome = DROPPED

    @property
    def most(self) -> int:
        """bit/s that get through for good; 0 where nothing is dropped."""
        if self.pir and not self.yellow.drop:
            return self.pir if self.red.drop else 0
        return self.cir if self.red.drop else 0


@dataclass(frozen=True, slots=True)
class Marking:
    """What is written on every packet: its DSCP, bits of the kernel's mark, the kernel's priority."""

    dscp: int | None = None
    mark: Masked | None = None
    priority: int | None = None

    def __bool__(self) -> bool:
        return self != Marking()
