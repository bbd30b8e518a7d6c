"""A filter's actions in tc's words."""

from __future__ import annotations

from dataclasses import replace

from shaper.tree import (
    DROP,
    OK,
    PIPE,
    TICK_NS,
    Action,
    Checksum,
    Finish,
    Police,
    SetDscp,
    SetMeta,
    verdict_text,
)

_VERDICTS = {OK: "pass", DROP: "drop", PIPE: "pipe"}
_ALL_BITS = 0xFFFFFFFF


def actions_words(actions: tuple[Action, ...]) -> str:
    """Each with a blank in front; nothing for none."""
    return "".join(f" action {_words(action)}" for action in actions)


def as_tc_keeps(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """With the bursts that tc makes of them: whole bytes and microseconds, never less than what was meant."""
    return tuple(_kept(action) if isinstance(action, Police) else action for action in actions)


def _kept(police: Police) -> Police:
    return replace(police, burst=ticks_of(burst(police.burst, police.rate), police.rate))


def burst(count: int, rate: int) -> int:
    """The least bytes that tc takes for at least `count` ticks at a rate in bit/s."""
    micros = -(-count * TICK_NS // 1000)
    return -(-micros * (rate // 8) // 10**6)


def ticks_of(size: int, rate: int) -> int:
    """The ticks that tc makes of a size in bytes at a rate in bit/s."""
    return 10**6 * size // (rate // 8) * 1000 // TICK_NS


def _words(action: Action) -> str:
    match action:
        case Police(index, rate, count, conform, exceed, largest):
            verdicts = f"{_verdict(exceed)}/{_verdict(conform)}"
            size = f"rate {rate}bit burst {burst(count, rate)}b mtu {largest}b"
            size += f" overhead {action.overhead}" if action.overhead else ""
            size += f" mpu {action.mpu}" if action.mpu else ""
            size += " linklayer atm" if action.atm else ""
            return f"police index {index} {size} conform-exceed {verdicts}"
        case SetDscp(4, dscp):
            return f"pedit ex munge ip dsfield set {dscp << 2:#x} retain 0xfc pipe"
        case SetDscp(_, dscp):
            return f"pedit ex munge ip6 traffic_class set {dscp << 2:#x} retain 0xfc pipe"
        case Checksum():
            return "csum ip4h pipe"
        case SetMeta(mark, mask, priority):
            marked = "" if mark is None else f" mark {mark:#x}" + (f"/{mask:#x}" if mask != _ALL_BITS else "")
            return f"skbedit{marked}{'' if priority is None else f' priority {priority}'} pipe"
        case Finish(verdict, index):
            return f"gact {verdict_text(verdict)}" + (f" index {index}" if index else "")


def _verdict(verdict: int) -> str:
    """tc reads a jump inside a policer as a number only."""
    return _VERDICTS.get(verdict, str(verdict))
