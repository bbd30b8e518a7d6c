"""Applying: snapshot, check, steps, re-read, compare, else the inverse. Nothing half-applied is ever left."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from shaper.compile import compile_interface, tap
from shaper.compile.handles import lasting
from shaper.compile.program import Program
from shaper.errors import ShaperError, UnavailableError
from shaper.kernel.decode import GONE
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Interface, Policy
from shaper.plan import adopt_live, diff
from shaper.plan.drift import differences, some
from shaper.plan.steps import Plan
from shaper.run.state import DeviceState, Pending, Record, boot_id
from shaper.tree import (
    CLSACT,
    CLSACT_HANDLE,
    OUR_ROOTS,
    ROOT_MAJORS,
    BpfFilter,
    FieldBounds,
    FlowerFilter,
    Handle,
    LinkFacts,
    Node,
    Tree,
    handle_text,
    tree,
)


class VerifyError(ShaperError):
    """The kernel took every step and yet holds something else."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One interface, ready to be applied: what is ours now, what should be, and the steps between."""

    program: Program
    plan: Plan
    mine: Tree
    target: Tree
    before: Record | None
    after: Record
    link: LinkFacts
    seen: Tree
    """All that the device holds, others' included; what a killed apply left counts as taken back."""
    foreign: tuple[str, ...] = ()


class Known(Protocol):
    """What is known of a device from before: its state folder, or a snapshot of one."""

    def record(self) -> Record | None: ...
    def pending(self) -> Pending | None: ...


def prepare(
    kernel: Kernel,
    state: Known,
    policy: Policy,
    interface: Interface,
    *,
    structure: bool = True,
    keep_live: bool = True,
) -> Prepared:
    """Reads the kernel and plans; changes nothing.

    With `keep_live` the controller's fields stay as they are where they fit the new bounds; without, the static
    allocation is planned. Raises UnavailableError (no such device, somebody else's qdisc) and NotPermittedError, each
    with the policy line that wants the device.
    """
    with _wanted_by(interface):
        link = kernel.link(interface.device)
        observed = kernel.read(interface.device)
        capabilities = kernel.capabilities()
    pending = state.pending()
    if pending is None:
        record = owner = state.record()
        mine, seen = ours(observed, record), observed
    else:  # an apply was killed; the next command that changes anything takes it back before its own work
        record, owner = pending.before, pending.after or pending.before
        mine, seen = reverted(ours(observed, owner), pending.plan), reverted(observed, pending.plan)
    _refuse_foreign_root(observed, owner, interface)
    foreign = _foreign_hooks(observed, mine)
    program = compile_interface(
        interface,
        capabilities,
        link,
        previous=record.handles if record else None,
        structure=structure,
        tap=not foreign,
    )
    bounds = _moved(program, mine, record) if keep_live else {}
    if foreign:
        reason = f"delay: no data, because the clsact hook of {interface.device} is somebody else's ({foreign[0]})"
        program = replace(program, notes=(*program.notes, reason))
    if pending is not None:
        program = replace(program, notes=(*program.notes, "an apply that was killed in the middle is taken back first"))
    after = Record(
        device=interface.device,
        interface=interface.name,
        source=policy.source,
        sha256=policy.sha256,
        text=policy.text,
        files=dict(policy.files),
        boot=boot_id(),
        root=_root_handle(program.tree),
        handles={**(record.handles if record else {}), **lasting(program.handles)},
        tap=program.tap,
        structure=structure,
        static={path: [grant.rate, grant.ceil, grant.queue] for path, grant in program.static.items()},
    )
    return Prepared(
        program,
        diff(mine, program.tree, bounds=bounds),
        mine,
        adopt_live(mine, program.tree, bounds=bounds),
        record,
        after,
        link,
        seen,
        foreign,
    )


def apply(kernel: Kernel, state: DeviceState, prepared: Prepared) -> None:
    """Carries out a prepared change under the caller's lock, or leaves everything as it was.

    The steps and their inverses are on disk before the first is sent. After an error what was done is taken back before
    the exception goes on; a signal waits until either is done; after SIGKILL `recover` does it. Raises StepError,
    VerifyError.
    """
    if not prepared.plan.steps:
        if prepared.before != prepared.after:
            state.write_record(prepared.after)
        return
    with _wanted_by(prepared.program.interface):
        _carry_out(kernel, state, Pending(prepared.plan, prepared.before, prepared.after), target=prepared.target)


def clear(kernel: Kernel, state: DeviceState) -> Plan:
    """Removes what is ours from the device, and only that; the interface is left as it was found."""
    record = state.record()
    plan = plan_clear(kernel, state)
    if plan.steps:
        _carry_out(kernel, state, Pending(plan, record, None), target=tree(state.device, ()))
    else:
        state.write_record(None)
    return plan


def plan_clear(kernel: Kernel, state: DeviceState) -> Plan:
    """The steps of `clear`. Empty when the device is gone: its queues went with it."""
    record = state.record()
    if record is None:
        return Plan(state.device)
    try:
        observed = kernel.read(state.device)
    except UnavailableError:
        return Plan(state.device)
    return diff(ours(observed, record, leaving=True), tree(state.device, ()), bounds={})


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


def _carry_out(kernel: Kernel, state: DeviceState, pending: Pending, *, target: Tree) -> None:
    with undisturbed():
        state.write_pending(pending)
        try:
            kernel.send(state.device, pending.plan.steps)
            held = ours(kernel.read(state.device), pending.after or pending.before, leaving=pending.after is None)
            if held != target:
                found = some(differences(held, target))
                raise VerifyError(
                    f"{state.device}: the kernel took every step and holds something else: {found}",
                    hint="the change was taken back; another program may be changing the same interface",
                )
            state.write_record(pending.after)
        except BaseException:
            _take_back(kernel, state, pending)
            raise
        state.write_pending(None)


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
    try:
        observed = kernel.read(state.device)
    except UnavailableError:  # the device went, and with it all that stood on it
        mending = Plan(state.device)
    else:
        held = ours(observed, pending.after or pending.before)
        mending = diff(held, reverted(held, pending.plan), bounds={})
        kernel.send(state.device, mending.steps)
    state.write_record(pending.before)
    state.write_pending(None)
    return mending


def reverted(held: Tree, plan: Plan) -> Tree:
    """The tree with every node that the plan touches as it was before the plan."""
    nodes: dict[tuple[str, int, int], Node] = {node.key: node for node in held.nodes()}
    for step in reversed(plan.steps):
        if step.before is None:
            nodes.pop(step.node.key, None)
        else:
            nodes[step.before.key] = step.before
    return tree(held.device, nodes.values())


def ours(observed: Tree, record: Record | None, *, leaving: bool = False) -> Tree:
    """The part of the device's tree that the record proves to be ours.

    A clsact hook that carries our filter is ours to use; when we are `leaving` it counts only if nobody else's filter
    stands on it.
    """
    if record is None or record.boot != boot_id():
        return tree(observed.device, observed.links)
    mine: list[Node] = list(observed.links)
    root = observed.root()
    if root is not None and root.handle == record.root and root.kind in OUR_ROOTS:
        mine.append(root)
        mine.extend(node for node in observed.qdiscs if node.parent >> 16 == root.handle >> 16)
        mine.extend(observed.classes)
        kinds = BpfFilter | FlowerFilter
        mine.extend(node for node in observed.filters if node.parent == root.handle and isinstance(node, kinds))
    if record.tap:
        hooked = [node for node in observed.filters if node.parent >> 16 == CLSACT_HANDLE >> 16]
        taps = [node for node in hooked if isinstance(node, BpfFilter) and _feeds(node, record)]
        mine.extend(taps)
        if len(taps) == len(hooked) or (taps and not leaving):
            mine.extend(node for node in observed.qdiscs if node.parent == CLSACT and node.kind == "clsact")
    return tree(observed.device, mine)


def _feeds(node: BpfFilter, record: Record) -> bool:
    """Whether a filter on the hook is the measurement's; at its place also when somebody removed the ifb it fed."""
    there = (node.preference, node.handle) == (tap.PREFERENCE, tap.FILTER_HANDLE)
    return node.mirror == record.tap or (node.mirror == GONE and there)


def _root_handle(desired: Tree) -> Handle:
    root = desired.root()
    assert root is not None
    return root.handle


def _refuse_foreign_root(observed: Tree, record: Record | None, interface: Interface) -> None:
    root = observed.root()
    if root is None:
        return
    owned = record is not None and record.boot == boot_id() and root.handle == record.root and root.kind in OUR_ROOTS
    if owned:
        return
    name = f"{root.kind} {handle_text(root.handle)}"
    if root.handle >> 16 in ROOT_MAJORS:
        message = f"{interface.device} carries a tree of the shaper's ({name}) that this state folder has no record of"
        hint = (
            f"name the folder it was applied with (--state DIR), or remove it: tc qdisc del dev {interface.device} root"
        )
    else:
        message = f"{interface.device} carries somebody else's qdisc ({name})"
        hint = (
            f"if nothing needs it, remove it: tc qdisc del dev {interface.device} root; "
            "else ask the program that made it to let go"
        )
    raise UnavailableError(message, hint=hint, where=interface.device_where)


def _moved(program: Program, mine: Tree, record: Record | None) -> dict[Handle, FieldBounds]:
    """The bounds of the leaves that a controller has moved; what still holds its static grant is the policy's."""
    before = record.static if record else {}
    live = program.allocation_in(mine)
    return {
        program.handles[path]: bounds
        for path, bounds in program.leaf_bounds().items()
        if path in before and [live[path].rate, live[path].ceil, live[path].queue] != list(before[path])
    }


def _foreign_hooks(observed: Tree, mine: Tree) -> tuple[str, ...]:
    """What holds the clsact hook and is not ours, in words."""
    held = {node.key for node in mine.qdiscs}
    return tuple(
        f"{node.kind} {handle_text(node.handle)}"
        for node in observed.qdiscs
        if node.parent == CLSACT and node.key not in held
    )


@contextlib.contextmanager
def _wanted_by(interface: Interface) -> Iterator[None]:
    """An error in here names the policy line that wants the device."""
    try:
        yield
    except ShaperError as error:
        error.where = error.where or interface.device_where
        raise
