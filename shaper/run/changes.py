"""Changes with their history: a line before the first step, the steps, and a line on how it ended.

The caller holds the device's lock and has called `tidy` first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from shaper.errors import ShaperError, UnavailableError
from shaper.history.changes import ChangeLog
from shaper.kernel.protocol import Kernel
from shaper.model.change import BEGUN, DONE, FAILED, ROLLED_BACK, TAKEN_BACK, Change, Who, outcomes
from shaper.model.policy import Policy
from shaper.plan.describe import describe
from shaper.plan.impact import impacts
from shaper.plan.steps import Plan, Step
from shaper.policy import parse_policy
from shaper.run import apply, ebbing
from shaper.run.prepare import Prepared
from shaper.run.standing import settled
from shaper.run.state import DeviceState, Record, boot_id
from shaper.run.waiting import Waiting, read_waiting, write_refused, write_waiting

FAILURES = (Exception, KeyboardInterrupt, SystemExit)
"""What a program survives long enough to say how a change ended."""


@dataclass(frozen=True, slots=True)
class Order:
    """Who asks for a change, when (wall time, s), and why."""

    who: Who
    at: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A change that takes itself back: at boot time `deadline` unless confirmed by `id`.

    At boot time `judged` a running shaper confirms it by what it measured; None: only a person does.
    """

    id: str
    deadline: float
    judged: float | None = None


def make(
    kernel: Kernel,
    state: DeviceState,
    prepared: Prepared,
    *,
    what: str,
    order: Order,
    of: int = 0,
    condition: Condition | None = None,
    confirmation: str = "",
) -> Prepared:
    """Carries out a prepared change and records it; gives it back with its number in `after.change`.

    With a `condition` all that taking it back needs is on disk before the first step; `confirmation` is the id that a
    rollback settles. Raises what `apply.apply` raises, and then nothing has changed but the history.
    """
    interface = prepared.program.interface
    change = _change(
        state,
        prepared.plan,
        order,
        names={handle: path for path, handle in prepared.program.handles.items()},
        what=what,
        of=of,
        interface=interface.name,
        record=prepared.after,
        before=prepared.before.change if prepared.before else 0,
        confirmation=condition.id if condition else confirmation,
    )
    with _recorded(state, change, order, prepared.after) as number:
        prepared = replace(prepared, after=replace(prepared.after, change=number))
        if condition is not None:
            after = prepared.after
            write_waiting(
                state,
                Waiting(
                    condition.id, number, after.sha256, boot_id(), condition.deadline, prepared.before, condition.judged
                ),
            )
        try:
            left = apply.apply(kernel, state, prepared)
        except FAILURES:
            if condition is not None:
                write_waiting(state, None)
            raise
        if what == "apply" and condition is None:
            write_refused(state, None)
    return _with_left(prepared, left) if left else prepared


def _with_left(prepared: Prepared, left: tuple[Step, ...]) -> Prepared:
    """As it was done: the target as it stands, and which queues were too full for theirs."""
    names = {handle: path for path, handle in prepared.program.handles.items()}
    program = replace(prepared.program, notes=(*prepared.program.notes, *ebbing.words(left, names)))
    return replace(prepared, program=program, target=ebbing.as_it_stands(prepared.target, left), left=left)


def unmake(kernel: Kernel, state: DeviceState, prepared: Prepared, *, at: float, reason: str) -> None:
    """Takes back a change that `make` carried out, for when another interface of the same policy failed."""
    apply.undo(kernel, state, prepared)
    waiting = read_waiting(state)
    if waiting is not None and waiting.change == prepared.after.change:
        write_waiting(state, None)
    ChangeLog(state.folder).end(prepared.after.change, at=at, result=TAKEN_BACK, reason=reason)


def clear(
    kernel: Kernel,
    state: DeviceState,
    *,
    order: Order,
    what: str = "clear",
    of: int = 0,
    condition: Condition | None = None,
    confirmation: str = "",
) -> Plan:
    """Removes what is ours and records it, with a `condition` as in `make`. Nothing ours: nothing to record."""
    record = state.record()
    if record is None:
        return apply.clear(kernel, state)
    plan = apply.plan_clear(kernel, state)
    names = record.names()
    confirmation = condition.id if condition else confirmation
    change = _change(state, plan, order, names=names, what=what, of=of, before=record.change, confirmation=confirmation)
    with _recorded(state, change, order, None) as number:
        if condition is not None:
            deadline, judged = condition.deadline, condition.judged
            write_waiting(state, Waiting(condition.id, number, "", boot_id(), deadline, record, judged))
        try:
            return apply.clear(kernel, state)
        except FAILURES:
            if condition is not None:
                write_waiting(state, None)
            raise


def release(kernel: Kernel, state: DeviceState, *, order: Order) -> Plan:
    """Lets go of what is ours and records it; the tree stays in the kernel. Nothing ours: nothing to record."""
    record = state.record()
    if record is None:
        return Plan(state.shaped)
    plan, _ = apply.plan_release(kernel, state)
    names = record.names()
    change = _change(state, plan, order, names=names, what="release", of=0, before=record.change, confirmation="")
    with _recorded(state, change, order, None):
        return apply.release(kernel, state)


def let_go(
    kernel: Kernel,
    state: DeviceState,
    *,
    order: Order,
    undoing: contextlib.ExitStack,
    condition: Condition | None = None,
) -> Plan:
    """`clear` of a direction that an applied policy no longer has; `undoing` learns how to put it back."""
    record = state.record()
    if record is None:
        return Plan(state.shaped)
    plan = clear(kernel, state, order=order, what="apply", condition=condition)
    undoing.callback(_put_back, kernel, state, plan, record, at=order.at)
    return plan


def _put_back(kernel: Kernel, state: DeviceState, plan: Plan, record: Record, *, at: float) -> None:
    apply.put_back(kernel, state, plan, record)
    write_waiting(state, None)
    log = ChangeLog(state.folder)
    log.end(log.all()[-1].number, at=at, result=TAKEN_BACK, reason="another interface of the policy failed")


def note(
    state: DeviceState, *, what: str, order: Order, of: int, record: Record | None, confirmation: str
) -> contextlib.AbstractContextManager[int]:
    """Records a change that sends nothing: a confirmation, a longer time, a reboot; it ends when left."""
    change = _change(
        state,
        Plan(state.shaped),
        order,
        names={},
        what=what,
        of=of,
        interface=record.interface if record else "",
        record=record,
        before=record.change if record else 0,
        confirmation=confirmation,
    )
    return _recorded(state, change, order, record)


def settle(state: DeviceState, *, at: float) -> None:
    """Ends the lines of changes whose program was killed, by what stands now. Nothing may be pending."""
    log = ChangeLog(state.folder)
    begun = [change for change in log.all() if change.result == BEGUN]
    if not begun:
        return
    record, waiting = state.record(), read_waiting(state)
    present = record.change if record else 0
    for change in begun:
        if change.what == "confirm":
            done = waiting is None or waiting.id != change.confirmation
        elif change.what in ("extend", "freeze", "thaw"):
            done = True  # the one step of these is not worth telling apart
        else:
            done = present == (change.number if change.sha256 else 0)
        killed = "its program was killed" + ("" if done else "; nothing of it stands")
        log.end(change.number, at=at, result=DONE if done else TAKEN_BACK, reason=killed)


def policy_at(state: DeviceState, number: int | None) -> tuple[Change, Policy]:
    """The change to go back to and its policy: the number's, or the last one with another policy than now.

    Raises UnavailableError when there is none, PolicyError where this version refuses it.
    """
    log = ChangeLog(state.folder)
    change = _previous(state, log) if number is None else log.find(number)
    if not change.sha256:
        raise UnavailableError(
            f"change {change.number} of {state.title} left no policy to go back to",
            hint="see `shaper history`; `shaper clear` removes what is there",
        )
    text, files = log.policy(change.sha256)
    policy = parse_policy(text, source=change.source, files=files)
    return change, settled(policy, change.interface, change.device)


def _previous(state: DeviceState, log: ChangeLog) -> Change:
    changes = {change.number: change for change in outcomes(log.all())}
    record = state.record()
    if record is not None:
        current = changes.get(record.change)
    else:
        current = next((one for one in reversed(changes.values()) if one.result == DONE and not one.sha256), None)
    sha256 = record.sha256 if record else ""
    before = changes.get(current.before) if current else None
    while before is not None and (before.sha256 in ("", sha256) or before.result.startswith(ROLLED_BACK)):
        before = changes.get(before.before) if before.before < before.number else None
    if before is None:
        raise UnavailableError(
            f"{state.title} had no other policy before", hint="see `shaper history`; `shaper clear` removes this one"
        )
    return before


def _change(
    state: DeviceState,
    plan: Plan,
    order: Order,
    *,
    names: dict[int, str],
    what: str,
    of: int,
    before: int,
    confirmation: str,
    interface: str = "",
    record: Record | None = None,
) -> Change:
    return Change(
        number=0,
        at=order.at,
        what=what,
        who=order.who,
        device=state.device,
        direction=state.direction,
        why=order.why,
        interface=interface,
        source=record.source if record else "",
        sha256=record.sha256 if record else "",
        before=before,
        of=of,
        confirmation=confirmation,
        steps=tuple(describe(step, names) for step in plan.steps),
        step_count=len(plan.steps),
        disruptive=sum(impact.disruptive for impact in impacts(plan)),
        structure=record.structure if record else True,
    )


@contextlib.contextmanager
def _recorded(state: DeviceState, change: Change, order: Order, record: Record | None) -> Iterator[int]:
    log = ChangeLog(state.folder)
    number = log.begin(change, text=record.text if record else "", files=record.files if record else {}).number
    try:
        yield number
    except FAILURES as error:
        reason = error.message if isinstance(error, ShaperError) else repr(error)
        with contextlib.suppress(ShaperError):  # the failure itself is what must be heard of
            log.end(number, at=order.at, result=FAILED, reason=reason)
        raise
    log.end(number, at=order.at, result=DONE)
