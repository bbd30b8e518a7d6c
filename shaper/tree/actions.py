"""What a filter does with the packets that meet it, action by action, as the kernel keeps them.

A verdict says how it goes on: OK ends the list and the packet keeps its class, DROP ends it and the packet, PIPE is the
next action, and a jump is the action at a place of the list, counted from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

OK, DROP, PIPE = 0, 2, 3
_JUMP = 0x10000000
_WORDS = {OK: "pass", DROP: "drop", PIPE: "pipe"}

SLOWEST_BUCKET = 8_000
"""bit/s. A bucket that fills slower is none: what would pay to it is dropped."""
POLICE_INDEXES = range(0x5A000000, 0x5B000000)
"""Of our policers. The kernel numbers those that nobody numbered from 1; all filters with one index share a bucket."""
COUNT_INDEXES = POLICE_INDEXES
"""Of our verdicts that are counted; every kind of action has numbers of its own."""


LARGEST_PACKET = 1 << 20
"""No packet is so large: beyond it a policer of ours lets nothing conform."""


def jump(place: int) -> int:
    """The verdict that goes on at the action of that place."""
    return _JUMP | place


def verdict_text(verdict: int) -> str:
    """In tc's words: `pass`, `jump 4`."""
    return f"jump {verdict & ~_JUMP}" if verdict & _JUMP else _WORDS.get(verdict, str(verdict))


@dataclass(frozen=True, slots=True)
class Police:
    """One token bucket: `rate` in bit/s, whole bytes a second; `burst` in ticks at the rate.

    A packet that it holds tokens for pays with them and goes the way of `conform`, else of `exceed`. Two filters whose
    policers have one `index` use one bucket. What is larger than `largest` bytes conforms to nothing. A packet counts
    for `overhead` bytes more than the hook gives it, for `mpu` at least, and with `atm` in whole cells.
    """

    index: int
    rate: int
    burst: int
    conform: int
    exceed: int
    largest: int = LARGEST_PACKET
    overhead: int = 0
    mpu: int = 0
    atm: bool = False


@dataclass(frozen=True, slots=True)
class SetDscp:
    """Writes the DSCP of an IPv4 or IPv6 header (`version`), and leaves ECN alone; then comes the next action."""

    version: int
    dscp: int


@dataclass(frozen=True, slots=True)
class Checksum:
    """Reckons the checksum of an IPv4 header anew; then comes the next action."""


@dataclass(frozen=True, slots=True)
class SetMeta:
    """Sets what the kernel holds beside a packet: bits of the mark, and the priority; None leaves it as it is."""

    mark: int | None = None
    mask: int = 0xFFFFFFFF
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing but a verdict. With an `index` the kernel counts the packets that came to it, in all filters together."""

    verdict: int = OK
    index: int = 0


Action = Police | SetDscp | Checksum | SetMeta | Finish

MOST_ACTIONS = 32
"""In one filter (TCA_ACT_MAX_PRIO)."""


class ActionKind(NamedTuple):
    """By tc's name, and the kernel's module."""

    kind: str
    module: str


_KINDS: dict[type, ActionKind] = {
    Police: ActionKind("police", "act_police"),
    SetDscp: ActionKind("pedit", "act_pedit"),
    Checksum: ActionKind("csum", "act_csum"),
    SetMeta: ActionKind("skbedit", "act_skbedit"),
    Finish: ActionKind("gact", "act_gact"),
}


def kind_of(action: Action) -> ActionKind:
    """Which of the kernel's actions it is."""
    return _KINDS[type(action)]
