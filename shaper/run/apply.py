"""Applying: snapshot, check, steps, re-read, compare, else the inverse. Nothing half-applied is ever left."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from shaper.compile import compile_interface, incoming, tap
from shaper.compile.handles import lasting
from shaper.compile.program import Program
from shaper.errors import ShaperError, UnavailableError
from shaper.kernel.decode import GONE
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Direction, Interface, Policy
from shaper.plan import adopt_live, diff
from shaper.plan.drift import differences, some
from shaper.plan.steps import Plan, Verb
from shaper.run.state import DeviceState, Pending, Record, boot_id
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    CLSACT_INGRESS,
    OUR_ROOTS,
    ROOT_MAJORS,
    BpfFilter,
    FieldBounds,
    Filter,
    FlowerFilter,
    Handle,
    LinkFacts,
    Node,
    Qdisc,
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
    def beside(self) -> Record | None:
        """The record of the other direction of the same device."""


def prepare(
    kernel: Kernel,
    state: Known,
    policy: Policy,
    interface: Interface,
    *,
    structure: bool = True,
    keep_live: bool = True,
    hooked: bool = False,
) -> Prepared:
    """Reads the kernel and plans; changes nothing.

    With `keep_live` the controller's fields stay as they are where they fit the new bounds; without, the static
    allocation is planned. `hooked` says that the plan of the other direction, which comes first, adds the clsact hook
    that both use. Raises UnavailableError (no such device, somebody else's qdisc) and NotPermittedError, each
    with the policy line that wants the device.
    """
    with _wanted_by(interface):
        link = kernel.link(interface.device)
        observed = kernel.read(interface.shaped, fed_by=interface.fed_by)
        capabilities = kernel.capabilities()
    pending = state.pending()
    if pending is None:
        record = owner = state.record()
        killed = Plan(interface.shaped)
    else:  # an apply was killed; the next command that changes anything takes it back before its own work
        record, owner, killed = pending.before, pending.after or pending.before, pending.plan
    mine, seen = reverted(ours(observed, owner, beside=state.beside()), killed), reverted(observed, killed)
    _refuse_foreign_root(observed, owner, interface)
    foreign = _foreign_hooks(observed, mine)
    if foreign and interface.direction is Direction.INGRESS:
        raise UnavailableError(
            f"the hook of {interface.device} for what comes in is somebody else's ({foreign[0]})",
            hint=f"if nothing needs it, remove it: tc qdisc del dev {interface.device} clsact; "
            "else take `ingress` out of the interface's bandwidth",
            where=interface.device_where,
        )
    if hooked and not foreign:
        mine = _with_hook(mine, interface)
    program = compile_interface(
        interface,
        capabilities,
        link,
        previous=record.handles if record else None,
        structure=structure,
        tap=not foreign,
    )
    if not program.tap:  # then the hook is not wanted any more, and stays while anybody else's filter stands on it
        mine = reverted(ours(observed, owner, leaving=True), killed)
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
        direction=interface.direction,
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
        _carry_out(kernel, state, Pending(plan, record, None), target=tree(state.shaped, ()))
    else:
        state.write_record(None)
    return plan


def plan_clear(kernel: Kernel, state: DeviceState) -> Plan:
    """The steps of `clear`. Empty when the device is gone: its queues went with it."""
    record = state.record()
    if record is None:
        return Plan(state.shaped)
    return diff(ours(_found(kernel, state), record, leaving=True), tree(state.shaped, ()), bounds={})


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


def read(kernel: Kernel, state: DeviceState) -> Tree:
    """What stands on one direction of a device, whoever's it is. Raises UnavailableError when the device is gone."""
    return kernel.read(state.shaped, fed_by=state.fed_by)


def _found(kernel: Kernel, state: DeviceState) -> Tree:
    """As `read`; nothing stands on a device that is gone."""
    try:
        return read(kernel, state)
    except UnavailableError:
        return tree(state.shaped, ())


def adds_hook(plan: Plan) -> bool:
    """Whether the plan adds the clsact hook that both directions use."""
    added = (step.node for step in plan.steps if step.verb is Verb.ADD)
    return any(isinstance(node, Qdisc) and node.parent == CLSACT for node in added)


def _carry_out(kernel: Kernel, state: DeviceState, pending: Pending, *, target: Tree) -> None:
    with undisturbed():
        state.write_pending(pending)
        try:
            kernel.send(state.shaped, pending.plan.steps)
            leaving = pending.after is None or not pending.after.tap
            held = ours(_found(kernel, state), pending.after or pending.before, leaving=leaving)
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
        observed = read(kernel, state)
    except UnavailableError:  # the device went, and with it all that stood on it
        mending = Plan(state.shaped)
    else:
        held = ours(observed, pending.after or pending.before)
        mending = diff(held, reverted(held, pending.plan), bounds={})
        kernel.send(state.shaped, mending.steps)
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


def ours(observed: Tree, record: Record | None, *, beside: Record | None = None, leaving: bool = False) -> Tree:
    """The part of the device's tree that the record proves to be ours.

    A clsact hook that carries our filter, or one of the other direction's, whose record is `beside`, is ours to use;
    when we are `leaving` it counts only if nobody else's filter stands on it, the other direction's included.
    """
    record, beside = (one if one is not None and one.boot == boot_id() else None for one in (record, beside))
    mine: list[Node] = list(observed.links)
    root = observed.root()
    if record is not None and root is not None and root.handle == record.root and root.kind in OUR_ROOTS:
        mine.append(root)
        mine.extend(node for node in observed.qdiscs if node.parent >> 16 == root.handle >> 16)
        mine.extend(observed.classes)
        kinds = BpfFilter | FlowerFilter
        mine.extend(node for node in observed.filters if node.parent == root.handle and isinstance(node, kinds))
    hooked = [node for node in observed.filters if node.parent >> 16 == CLSACT_HANDLE >> 16]
    taps = [node for node in hooked if _feeds(node, record)]
    mine.extend(taps)
    alone = record is not None and bool(record.tap) and len(taps) == len(hooked)
    shared = not leaving and (bool(taps) or any(_feeds(node, beside) for node in hooked))
    if alone or shared:
        mine.extend(node for node in observed.qdiscs if node.parent == CLSACT and node.kind == "clsact")
    return tree(observed.device, mine)


_PLACES = {
    Direction.EGRESS: (CLSACT_EGRESS, tap.PREFERENCE, tap.FILTER_HANDLE),
    Direction.INGRESS: (CLSACT_INGRESS, incoming.PREFERENCE, incoming.FILTER_HANDLE),
}


def _feeds(node: Filter, record: Record | None) -> bool:
    """Whether a filter on the hook is of the direction with this record; at its place also when its ifb is gone."""
    if record is None or not record.tap or not isinstance(node, BpfFilter):
        return False
    there = (node.parent, node.preference, node.handle) == _PLACES[record.direction]
    return node.target == record.tap or (node.target == GONE and there)


def _with_hook(mine: Tree, interface: Interface) -> Tree:
    """With the clsact hook as it will be once the other direction has put it there."""
    hook = Qdisc(CLSACT_HANDLE, CLSACT, "clsact", device=interface.fed_by)
    return mine if hook in mine.qdiscs else tree(mine.device, (*mine.nodes(), hook))


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
        message = f"{interface.shaped} carries a tree of the shaper's ({name}) that this state folder has no record of"
        hint = (
            f"name the folder it was applied with (--state DIR), or remove it: tc qdisc del dev {interface.shaped} root"
        )
    else:
        message = f"{interface.shaped} carries somebody else's qdisc ({name})"
        hint = (
            f"if nothing needs it, remove it: tc qdisc del dev {interface.shaped} root; "
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
