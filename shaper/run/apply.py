"""Applying: snapshot, check, steps, re-read, compare, else the inverse. Nothing half-applied is ever left."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

from shaper.errors import ShaperError, UnavailableError
from shaper.kernel.protocol import Kernel, within
from shaper.plan import diff
from shaper.plan.drift import differences, some
from shaper.plan.fingerprint import reverted
from shaper.plan.steps import Plan, Step
from shaper.run import ebbing, lending
from shaper.run.offloads import devices, held_by, planned, regarding, released
from shaper.run.ours import left_behind, ours
from shaper.run.prepare import Prepared, adds_hook, prepare, wanted_by
from shaper.run.state import DeviceState, Pending, Record, boot_id
from shaper.tree import LoadedFilter, Offload, Tree, networks_in, tree, with_offloads

__all__ = ["Prepared", "VerifyError", "adds_hook", "apply", "clear", "ours", "plan_clear", "prepare", "recover"]


class VerifyError(ShaperError):
    """The kernel took every step and yet holds something else."""


def apply(kernel: Kernel, state: DeviceState, prepared: Prepared) -> tuple[Step, ...]:
    """Carries out a prepared change under the caller's lock, or leaves everything as it was.

    The steps and their inverses are on disk before the first is sent. After an error what was done is taken back before
    the exception goes on; a signal waits until either is done; after SIGKILL `recover` does it. Gives back what is left
    to be done: limits of queues that stayed full, see `ebbing`. Raises StepError, VerifyError.
    """
    if not prepared.plan.steps:
        if prepared.before != prepared.after:
            state.write_record(prepared.after)
        return ()
    with wanted_by(prepared.program.interface):
        lending.keep(state, prepared.program.lookups, beside=prepared.mine.filters)
        return _carry_out(kernel, state, Pending(prepared.plan, prepared.before, prepared.after), target=prepared.whole)


def clear(kernel: Kernel, state: DeviceState) -> Plan:
    """Removes what is ours from the device, and only that; the interface is left as it was found.

    Of a tree that was released the offloads go back, and nothing else.
    """
    record = state.record()
    if record is None and (left := state.let_go()) is not None:
        plan = _give_back(kernel, state, left)
        state.write_let_go(None)
        return plan
    plan, target = _clearing(kernel, state, record)
    if plan.steps:
        _carry_out(kernel, state, Pending(plan, record, None), target=target)
    else:
        state.write_record(None)
    state.write_let_go(None)
    return plan


def plan_release(kernel: Kernel, state: DeviceState) -> tuple[Plan, Tree]:
    """The steps of `release`, and what of ours stays in the kernel."""
    held = ours(_found(kernel, state), state.record(), leaving=True)
    target = left_behind(held, state.direction)
    return diff(held, target, bounds={}), target


def release(kernel: Kernel, state: DeviceState) -> Plan:
    """Lets go of the tree: what measures it goes, what shapes stays in the kernel, and nothing says that it is ours.

    What offloads were is remembered, for whoever takes the tree over or clears the device.
    """
    record = state.record()
    if held_by(record):
        state.write_let_go(record)
    plan, target = plan_release(kernel, state)
    if plan.steps:
        _carry_out(kernel, state, Pending(plan, record, None), target=target)
    else:
        state.write_record(None)
    return plan


def plan_clear(kernel: Kernel, state: DeviceState) -> Plan:
    """The steps of `clear`. When the device is gone its queues went with it; what others were set to goes back."""
    return _clearing(kernel, state, state.record())[0]


def _clearing(kernel: Kernel, state: DeviceState, record: Record | None) -> tuple[Plan, Tree]:
    """The steps, and what is left of ours: offloads as they were found, or as somebody else made them since."""
    bare = tree(state.shaped, ())
    if record is None:
        return Plan(state.shaped), bare
    held = ours(_found(kernel, state), record, leaving=True)
    target = with_offloads(bare, released(held, record, state.others() if held.offloads else ()))
    return diff(held, target, bounds={}), target


def give_back(kernel: Kernel, state: DeviceState, *, keep: Record | None) -> None:
    """Offloads of other devices than the shaped one, which is gone, that the record holds and `keep` does not.

    Killed anywhere, it can be done again. Raises StepError.
    """
    _give_back(kernel, state, state.record(), keep=keep)


def _give_back(kernel: Kernel, state: DeviceState, record: Record | None, *, keep: Record | None = None) -> Plan:
    kernel = within(kernel, state.netns)
    there = kernel.offloads(devices(record, keep))
    kept = regarding(there, held_by(keep))
    held = with_offloads(tree(state.shaped, ()), regarding(there, held_by(record)))
    let_go = released(held, record, state.others() if held.offloads else (), wanted=kept)
    plan = diff(held, with_offloads(held, let_go), bounds={})
    kernel.send(state.shaped, plan.steps)
    return plan


def recover(kernel: Kernel, state: DeviceState) -> Plan | None:
    """Takes back an apply that was killed in the middle. None when there was none; the plan that mended it else."""
    pending = state.pending()
    if pending is None:
        return None
    with undisturbed():
        return _take_back(kernel, state, pending)


def undo(kernel: Kernel, state: DeviceState, prepared: Prepared) -> None:
    """Takes back an apply that was carried out, for when another interface of the same policy failed."""
    _take_back(kernel, state, Pending(prepared.plan, prepared.before, prepared.after))


def put_back(kernel: Kernel, state: DeviceState, plan: Plan, before: Record) -> None:
    """Takes back a `clear` that was carried out, for the same reason; `before` is the record from before it."""
    _take_back(kernel, state, Pending(plan, before, None))


def read(kernel: Kernel, state: DeviceState, *, also: Iterable[Offload] = ()) -> Tree:
    """What stands on one direction of a device, whoever's it is, and the offloads that its records or `also` name.

    Raises UnavailableError when the device is gone.
    """
    kernel = within(kernel, state.netns)
    named = {*devices(state.record(), pending=state.pending()), *(one.device for one in also)}
    offloads = kernel.offloads(named)
    return with_offloads(kernel.read(state.shaped, fed_by=state.fed_by), offloads)


def _found(kernel: Kernel, state: DeviceState, pending: Pending | None = None) -> Tree:
    """As `read`; of a device that is gone only its nftables table stands. Also the offloads that the records of
    `pending` name.
    """
    kernel = within(kernel, state.netns)
    offloads = kernel.offloads(devices(state.record(), pending=pending))
    try:
        return with_offloads(read(kernel, state), offloads)
    except UnavailableError:
        return with_offloads(tree(state.shaped, kernel.tables(state.shaped)), offloads)


def _is_there(kernel: Kernel, state: DeviceState) -> bool:
    try:
        kernel.read(state.shaped, fed_by=state.fed_by)
    except UnavailableError:
        return False
    return True


def _carry_out(kernel: Kernel, state: DeviceState, pending: Pending, *, target: Tree) -> tuple[Step, ...]:
    kernel = within(kernel, state.netns)
    with undisturbed(), lending.lent(kernel, state, pending.plan.steps):
        state.write_pending(pending)
        try:
            left = ebbing.send(kernel, state.shaped, pending.plan.steps)
            target = ebbing.as_it_stands(target, left)
            leaving = pending.after is None or not pending.after.hooked
            observed = _found(kernel, state, pending)
            held = ours(observed, pending.after or pending.before, leaving=leaving, touched=target.offloads)
            if held != target:
                found = some(differences(held, target))
                raise VerifyError(
                    f"{state.title}: the kernel took every step and holds something else: {found}",
                    hint="the change was taken back; another program may be changing the same interface",
                )
            state.write_record(pending.after)
        except BaseException:
            _take_back(kernel, state, pending)
            raise
        state.write_pending(None)
    return left


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Holds back the signals that would end the program until what is in here is done; they come then.

    Not by the thread's mask: a second thread would be handed the signal, and Python's handler runs in the main one
    all the same.
    """
    if threading.current_thread() is not threading.main_thread():  # no handler ever runs here
        yield
        return
    came: list[int] = []
    try:
        with contextlib.ExitStack() as handlers:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    handlers.callback(signal.signal, number, before)
                    signal.signal(number, lambda each, _: came.append(each))
            yield
    finally:
        for caught in dict.fromkeys(came):
            signal.raise_signal(caught)


def _take_back(kernel: Kernel, state: DeviceState, pending: Pending) -> Plan:
    """From wherever the kernel stands to where it stood before the plan; keeps the pending record if that fails."""
    kernel = within(kernel, state.netns)
    found = _found(kernel, state, pending)
    made = pending.after or pending.before
    if made is None or made.boot != boot_id():  # nothing outlives a boot
        mending = Plan(state.shaped)
    else:
        held = _of_either(found, pending)
        back = _without_gone(kernel, held, reverted(held, pending.plan))
        if not _is_there(kernel, state):  # the device went, and with it all that stood on it
            back = with_offloads(tree(state.shaped, ()), back.offloads)
        mending = diff(held, back, bounds={})
        with lending.lent(kernel, state, mending.steps):
            ebbing.send(kernel, state.shaped, mending.steps)
    state.write_record(pending.before)
    state.write_pending(None)
    return mending


def _without_gone(kernel: Kernel, held: Tree, back: Tree) -> Tree:
    """Without the programs that ended with the process that had loaded them, and stand on no hook any more: all but
    those whose tables the state folder keeps."""
    there = {node.key for node in held.filters if isinstance(node, LoadedFilter) and node in back.filters}
    return replace(
        back,
        filters=tuple(
            node
            for node in back.filters
            if not isinstance(node, LoadedFilter)
            or node.key in there
            or node.name in kernel.programs
            or networks_in(node.name)
        ),
    )


def _of_either(observed: Tree, pending: Pending) -> Tree:
    """What is ours by the record before or the one after: a hook that the change takes away is ours by the one only."""
    records = [record for record in (pending.before, pending.after) if record is not None]
    held = [ours(observed, record, touched=planned(pending.plan)) for record in records]
    return tree(observed.device, {node.key: node for one in held for node in one.nodes()}.values())
