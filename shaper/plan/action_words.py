"""What a filter does with its packets, in words."""

from __future__ import annotations

from shaper.tree import LARGEST_PACKET, Action, Checksum, Finish, Police, SetDscp, SetMeta, ticks_to_bytes, verdict_text
from shaper.units import format_rate, format_size


def actions_text(actions: tuple[Action, ...]) -> str:
    """Such as `police 2mbit, 20kb (conform pass, exceed drop)`; with jumps each has its place in front."""
    words = [action_text(action) for action in actions]
    jumps = any(word.startswith("jump") for action in actions for word in _verdicts(action))
    return "; ".join(f"{place}: {word}" for place, word in enumerate(words)) if jumps else "; ".join(words)


def action_text(action: Action) -> str:
    """One of them."""
    match action:
        case Police(_, rate, burst, largest=largest):
            conform, exceed = _verdicts(action)
            size = format_size(ticks_to_bytes(burst, rate))
            more = [] if largest == LARGEST_PACKET else [f"packets up to {format_size(largest)}"]
            more += [f"overhead {action.overhead}"] if action.overhead else []
            more += [f"least {action.mpu}"] if action.mpu else []
            more += ["ATM cells"] if action.atm else []
            what = ", ".join([f"police {format_rate(rate)}", size, *more])
            return f"{what} (conform {conform}, exceed {exceed})"
        case SetDscp(version, dscp):
            return f"dscp {dscp} (IPv{version})"
        case Checksum():
            return "checksum"
        case SetMeta(mark, mask, priority):
            marked = [] if mark is None else [f"mark {mark:#x}/{mask:#x}"]
            return ", ".join(marked + ([] if priority is None else [f"priority {priority}"]))
        case Finish(verdict, index):
            return verdict_text(verdict) + (", counted" if index else "")


def _verdicts(action: Action) -> tuple[str, ...]:
    match action:
        case Police():
            return verdict_text(action.conform), verdict_text(action.exceed)
        case Finish(verdict):
            return (verdict_text(verdict),)
    return ()
