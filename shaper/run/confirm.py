"""Changes that wait for their confirmation: confirmed, extended, rolled back, and what a killed command left of them.

The caller holds the device's lock. Times are boot time in seconds, deadlines too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from shaper.errors import ShaperError, TryAgainError, UnavailableError
from shaper.kernel.protocol import Kernel, within
from shaper.model.change import Change
from shaper.model.policy import Policy
from shaper.run import apply, changes, together
from shaper.run.changes import Condition, Order
from shaper.run.prepare import prepare
from shaper.run.standing import interface_on, policy_of, shapes
from shaper.run.state import DeviceState, boot_id
from shaper.run.waiting import Refused, Waiting, read_refused, read_waiting, write_refused, write_waiting

_JUDGING = 10.0
"""Seconds that a running shaper has for its judgement before the watchdog rolls back without one."""


class Way(Protocol):
    """How to go back: by the kernel alone, or inside a running shaper."""

    def to_policy(
        self, policy: Policy, *, what: str, order: Order, of: int, confirmation: str, structure: bool
    ) -> None:
        """Makes the device hold the static allocation that the policy has at the order's time, and records it."""

    def to_nothing(self, *, what: str, order: Order, of: int, confirmation: str) -> None:
        """Removes what is ours, and records the change."""


class KernelWay:
    """Nothing runs on the device: the kernel is all there is to change."""

    def __init__(self, kernel: Kernel, state: DeviceState) -> None:
        self._kernel = kernel
        self._state = state

    def to_policy(
        self, policy: Policy, *, what: str, order: Order, of: int, confirmation: str, structure: bool
    ) -> None:
        prepared = prepare(
            self._kernel,
            self._state,
            policy,
            interface_on(policy, self._state.spot, self._state.direction).at(order.at),
            structure=structure,
            keep_live=False,
        )
        changes.make(self._kernel, self._state, prepared, what=what, order=order, of=of, confirmation=confirmation)

    def to_nothing(self, *, what: str, order: Order, of: int, confirmation: str) -> None:
        changes.clear(self._kernel, self._state, order=order, what=what, of=of, confirmation=confirmation)


def condition(ident: str, seconds: float, *, now: float, judge: bool = False) -> Condition:
    """A change that takes itself back after so many seconds; with `judge` a running shaper decides by then."""
    ident, seconds = str(ident), float(seconds)
    if judge:
        return Condition(ident, now + seconds + _JUDGING, now + seconds)
    return Condition(ident, now + seconds)


def tidy(kernel: Kernel, state: DeviceState, *, now: float, order: Order) -> tuple[str, ...]:
    """Finishes what killed commands and a reboot left; what that was, in words. Every command that changes begins here.

    A half-done apply is taken back; a change whose time to be confirmed is over is rolled back.
    """
    told: list[str] = []
    several = together.recover(kernel, state, at=order.at)
    if apply.recover(kernel, state) is not None or several:
        told.append("an apply that was killed before was taken back first")
    waiting = read_waiting(state)
    if waiting is not None:
        record = state.record()
        if waiting.boot == boot_id() and (record.sha256 if record else "") != waiting.sha256:
            write_waiting(state, None)  # killed before its first step, or after it was rolled back
        elif waiting.left(now) <= 0:
            told.append(lapse(kernel, state, waiting, order=order, way=KernelWay(kernel, state)))
    changes.settle(state, at=order.at)
    return tuple(told)


def refuse_while_waiting(state: DeviceState, *, now: float) -> None:
    """Raises TryAgainError while a change waits for its confirmation."""
    waiting = read_waiting(state)
    if waiting is not None:
        raise TryAgainError(
            f"change {waiting.change} of {state.title} waits for its confirmation, {waiting.left(now):.0f} s are left",
            hint=f"`shaper confirm {waiting.id}` keeps it, `shaper rollback` takes it back",
        )


def the_waiting(state: DeviceState, ident: str) -> Waiting:
    """The change that waits by this id ("" for any). Raises UnavailableError when there is none."""
    waiting = read_waiting(state)
    if waiting is None or ident not in ("", waiting.id):
        raise UnavailableError(
            f"nothing on {state.title} waits for a confirmation" + (f" by the id {ident}" if ident else ""),
            hint="see `shaper status` and `shaper history`; it may have been rolled back",
        )
    return waiting


def confirm(state: DeviceState, ident: str, *, now: float, order: Order) -> Waiting:
    """Keeps the change. Raises UnavailableError, and TryAgainError once its time is over."""
    waiting = _in_time(state, ident, now)
    with changes.note(
        state,
        what="confirm",
        order=order,
        of=waiting.change,
        record=state.record(),
        confirmation=waiting.id,
    ):
        write_waiting(state, None)
        write_refused(state, None)
    return waiting


def extend(state: DeviceState, ident: str, seconds: float, *, now: float, order: Order) -> Waiting:
    """Gives the change so many seconds more. Raises UnavailableError, and TryAgainError once its time is over."""
    waiting = _in_time(state, ident, now)
    longer = replace(
        waiting,
        deadline=waiting.deadline + seconds,
        judged=None if waiting.judged is None else waiting.judged + seconds,
    )
    order = replace(order, why=order.why or f"{seconds:g} s more")
    # No confirmation's id: it settles nothing.
    with changes.note(state, what="extend", order=order, of=waiting.change, record=state.record(), confirmation=""):
        write_waiting(state, longer)
    return longer


def lapse(kernel: Kernel, state: DeviceState, waiting: Waiting, *, order: Order, way: Way, what: str = "expiry") -> str:
    """Rolls back a change that was not confirmed, and gives what it did in words.

    Killed anywhere, it is done again: what waits is forgotten last. After a reboot, or when the device is gone, there
    is nothing in the kernel to roll back; the confirmed policy is then what the record says.
    """
    back = waiting.before
    write_refused(state, Refused(waiting.sha256, waiting.change))
    to = f"the policy of change {back.change}" if back and back.change else back.source if back else "nothing of ours"
    if waiting.boot != boot_id() or _is_gone(kernel, state):
        why = "the machine went down" if waiting.boot != boot_id() else f"{state.spot} went away"
        order = replace(order, why=order.why or f"{why} before it was confirmed")
        of = waiting.change
        with changes.note(state, what=what, order=order, of=of, record=back, confirmation=waiting.id) as number:
            apply.give_back(kernel, state, keep=back)
            state.write_record(replace(back, change=number) if back else None)
    elif back is None:
        order = replace(order, why=order.why or "nobody confirmed it in time")
        way.to_nothing(what=what, order=order, of=waiting.change, confirmation=waiting.id)
    else:
        order = replace(order, why=order.why or "nobody confirmed it in time")
        way.to_policy(
            policy_of(back),
            what=what,
            order=order,
            of=waiting.change,
            confirmation=waiting.id,
            structure=back.structure,
        )
    write_waiting(state, None)
    return f"change {waiting.change} was not confirmed and is rolled back to {to}: {order.why}"


def rollback(kernel: Kernel, state: DeviceState, number: int | None, *, now: float, order: Order, way: Way) -> str:
    """Goes back: from a change that waits to what was before it, else to the previous policy, or to a change's.

    Raises TryAgainError for a number while a change waits, UnavailableError when there is nothing to go back to.
    """
    waiting = read_waiting(state)
    if waiting is not None and number is None:
        order = replace(order, why=order.why or "rolled back on request")
        return lapse(kernel, state, waiting, order=order, way=way, what="rollback")
    return rollback_both([(state, way)], number, now=now, order=order)


def rollback_both(sides: Sequence[tuple[DeviceState, Way]], number: int | None, *, now: float, order: Order) -> str:
    """The same for the directions of one device where nothing waits: all go back to one policy.

    It is the one that the history of the first of them says which knows of one; a direction that it does not have is
    let go of. Raises TryAgainError while a change waits, UnavailableError when there is nothing to go back to.
    """
    for state, _ in sides:
        refuse_while_waiting(state, now=now)
    change, policy = _target([state for state, _ in sides], number)
    bare = not any(state.record() for state, _ in sides)
    for state, way in sides:
        how: dict[str, Any] = {"what": "rollback", "order": order, "of": change.number, "confirmation": ""}
        if shapes(policy, state.spot, state.direction):
            way.to_policy(policy, structure=change.structure, **how)
        elif state.record() is not None:
            way.to_nothing(**how)
        refused = read_refused(state)
        if refused is not None and refused.sha256 == policy.sha256:  # a person asked for it by its number
            write_refused(state, None)
    words = f"rolled back to the policy of change {change.number}"
    return f"{words}: nothing of ours was there any more, and it is in force again" if bare else words


def _target(states: Sequence[DeviceState], number: int | None) -> tuple[Change, Policy]:
    *others, last = states
    for state in others:
        with contextlib.suppress(UnavailableError):
            return changes.policy_at(state, number)
    return changes.policy_at(last, number)


def confirmed_policy(state: DeviceState, policy: Policy) -> tuple[Policy, str]:
    """The policy that may come up by itself in the place of this one, and why it is another ("" when it is not).

    Raises TryAgainError when this one was never confirmed and there is none to take its place.
    """
    refused = read_refused(state)
    if refused is None or refused.sha256 != policy.sha256:
        return policy, ""
    record = state.record()
    if record is None:
        raise TryAgainError(
            f"{policy.source} was applied to {state.title} as change {refused.change} and never confirmed",
            hint="`shaper apply` it to have it all the same",
        )
    return policy_of(record), (
        f"{policy.source} was applied to {state.title} as change {refused.change} and never confirmed: the policy of "
        f"change {record.change} comes up in its place; `shaper apply` it to have it all the same"
    )


def _in_time(state: DeviceState, ident: str, now: float) -> Waiting:
    waiting = the_waiting(state, ident)
    if waiting.left(now) <= 0:
        raise TryAgainError(
            f"the time to confirm change {waiting.change} of {state.title} is over", hint="apply it again"
        )
    return waiting


def _is_gone(kernel: Kernel, state: DeviceState) -> bool:
    try:
        within(kernel, state.netns).link(state.device)
    except UnavailableError:
        return True
    return False


def told(error: ShaperError) -> str:
    """Why a rolling back did not work, for the status."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


def remember_trouble(state: DeviceState, waiting: Waiting, trouble: str) -> None:
    """Keeps why it could not be rolled back so far, where that is news."""
    if waiting.trouble != trouble:
        write_waiting(state, replace(waiting, trouble=trouble))
