"""Preparing a change: what is ours now, what should be, and the steps between. Reads the kernel, changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from shaper.compile import compile_interface
from shaper.compile.groups import groups_asked
from shaper.compile.handles import lasting
from shaper.compile.program import Program
from shaper.errors import ShaperError, UnavailableError
from shaper.kernel.protocol import Kernel, within
from shaper.model.decision import Grant
from shaper.model.policy import Direction, Interface, Policy
from shaper.plan import adopt_live, diff
from shaper.plan.fingerprint import carried, reverted
from shaper.plan.steps import Plan, Step, Verb
from shaper.run.before import Before
from shaper.run.foreseen import foreseen
from shaper.run.offloads import among, as_planned, devices, held_by, label, regarding, released, taken
from shaper.run.ours import foreign_hooks, ours, refuse_foreign_root
from shaper.run.state import Pending, Record, boot_id
from shaper.tree import (
    CLSACT,
    CLSACT_HANDLE,
    FieldBounds,
    Handle,
    LinkFacts,
    LoadedFilter,
    Offload,
    Qdisc,
    Tree,
    tree,
    with_offloads,
)

_LINK = ""
"""The path under which a record has the rate of a link that moves, beside the classes' own."""
_LOOPBACK = "lo"
_LOOPS = (
    "warning: lo carries what this machine sends to itself, and no link is shaped by it; name the device that leads to "
    "the network"
)


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
    released: tuple[Offload, ...]
    """Offloads that were ours and go back to what they were, or stay as somebody else made them."""
    seen: Tree
    """All that the device holds, others' included; what a killed apply left counts as taken back."""
    foreign: tuple[str, ...] = ()
    left: tuple[Step, ...] = ()
    """Of an apply that was carried out: limits of queues that stayed full, still to be lowered."""

    @property
    def whole(self) -> Tree:
        """The target, and what is let go of with it."""
        return with_offloads(self.target, self.released)


class Lender(Protocol):
    """Who loads programs that measure in the kernel, and lends them to it (`Kernel.programs`)."""

    @property
    def instance(self) -> str:
        """What tells its programs from those of another process; "" where it has none to lend."""

    @property
    def copies(self) -> bool:
        """Whether packets may be copied to be captured, where no program is lent."""

    def lend(self, program: Program) -> bool:
        """Whether the program's stamp is loaded now."""


class Known(Protocol):
    """What is known of a device from before: its state folder, or a snapshot of one."""

    def record(self) -> Record | None: ...
    def pending(self) -> Pending | None: ...
    def beside(self) -> Record | None:
        """The record of the other direction of the same device."""

    def let_go(self) -> Record | None:
        """What a `release` left as we had made it."""

    def others(self) -> Sequence[Record]:
        """The records of all other places in the same network namespace."""


def prepare(
    kernel: Kernel,
    state: Known,
    policy: Policy,
    interface: Interface,
    *,
    structure: bool = True,
    keep_live: bool = True,
    hooked: bool = False,
    before: Before | None = None,
    first: Sequence[Prepared] = (),
    lender: Lender | None = None,
) -> Prepared:
    """Reads the kernel and plans; changes nothing.

    With `keep_live` the controller's fields stay as they are where they fit the new bounds; without, the static
    allocation is planned. `hooked` says that the plan of the other direction, which comes first, adds the clsact hook
    that both use. `before` is how it stood before a change of several directions that was killed, `first` are all plans
    that are carried out before this one. The `lender` has what measures in the kernel; without one, what does so stays
    as long as it needs no other program. Raises UnavailableError (no such device, somebody else's qdisc) and
    NotPermittedError, each with the policy line that wants the device.
    """
    with wanted_by(interface):
        kernel = within(kernel, interface.netns)
        link = kernel.link(interface.device)
        observed = kernel.read(interface.shaped, fed_by=interface.fed_by)
        capabilities = kernel.capabilities()
    pending = state.pending()
    if pending is None:
        record = owner = state.record()
        killed = Plan(interface.shaped)
    elif (made := pending.after or pending.before) is None or made.boot != boot_id():  # nothing outlives a boot
        record = owner = pending.before
        killed = Plan(interface.shaped)
    else:  # an apply was killed; the next command that changes anything takes it back before its own work
        record, owner, killed = pending.before, pending.after or pending.before, pending.plan
    mine, seen = reverted(ours(observed, owner, beside=state.beside()), killed), reverted(observed, killed)
    if before is not None:  # so is a change of several directions, of which this one may have been done
        record, seen, mine = before.record, carried(seen, diff(mine, before.held, bounds={}).steps), before.held
    refuse_foreign_root(observed, owner, interface)
    foreign = foreign_hooks(observed, mine)
    if foreign and interface.direction is Direction.INGRESS:
        raise UnavailableError(
            f"the hook of {interface.device} for what comes in is somebody else's ({foreign[0]})",
            hint=f"if nothing needs it, remove it: tc qdisc del dev {interface.device} clsact; "
            "else take `ingress` out of the interface's bandwidth",
            where=interface.device_where,
        )
    if hooked and not foreign:
        mine = _with_hook(mine, interface)

    def compiled_by(instance: str) -> Program:
        return compile_interface(
            interface,
            capabilities,
            link,
            previous=record.handles if record else None,
            structure=structure,
            tap=not foreign and (bool(instance) or lender is None or lender.copies),
            adopted=record.adopted if record and record.boot == boot_id() else None,
            stamp=instance,
        )

    instance = lender.instance if lender else (record.stamp if record else "")
    program = compiled_by(instance)
    if program.stamp and not (lender.lend(program) if lender else _stands(program.stamp, mine)):
        program, instance = compiled_by(""), ""
    _refuse_absent(kernel, program)
    compiled = _for_life(program)
    if not program.hooked and before is None:  # the hook is not wanted then, and stays while others' filters are on it
        mine = reverted(ours(observed, owner, leaving=True), killed)
    wanted = program.tree.offloads
    others = among(state.others(), [one.after for one in first]) if wanted or held_by(record) else ()
    there = kernel.offloads({*devices(record), *(one.device for one in wanted)})
    around = regarding(
        as_planned(there, killed.inverse(), *(one.plan for one in first)), {*held_by(record), *map(label, wanted)}
    )
    mine, seen = with_offloads(mine, around), with_offloads(seen, around)
    let_go = released(mine, record, others, wanted=wanted)
    bounds = _moved(program, mine, record) if keep_live else {}
    if foreign:
        reason = f"delay: no data, because the clsact hook of {interface.device} is somebody else's ({foreign[0]})"
        program = replace(program, notes=(*program.notes, reason))
    program = replace(program, notes=(*program.notes, *foreseen(program)))
    if interface.device == _LOOPBACK:
        program = replace(program, notes=(*program.notes, _LOOPS))
    if pending is not None or before is not None:
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
        handles={**(record.handles if record else {}), **lasting(compiled)},
        tap=program.tap,
        stamp=instance if program.stamp else "",
        policed=interface.policed,
        structure=structure,
        static={
            **{path: list(_fields(grant)) for path, grant in program.static.items()},
            **({_LINK: [program.link_in(program.tree)] * 2 + [0]} if program.moving else {}),
        },
        direction=interface.direction,
        offloads=taken(program.tree, mine, record, others, state.let_go()),
        adopted=program.adopted,
        phase=interface.phase or (),
    )
    return Prepared(
        program,
        diff(mine, with_offloads(program.tree, let_go), bounds=bounds),
        mine,
        adopt_live(mine, program.tree, bounds=bounds),
        record,
        after,
        link,
        let_go,
        seen,
        foreign,
    )


def _for_life(program: Program) -> Mapping[str, Handle]:
    """The handles as they are without the numbers of a tree that was taken over."""
    if program.adopted is None:
        return program.handles
    return {path: program.adopted.compiled(number) for path, number in program.handles.items()}


def _refuse_absent(kernel: Kernel, program: Program) -> None:
    """Raises UnavailableError, with the line, for a cgroup that is not there: nftables knows them by number alone."""
    asked = groups_asked(program.rules)
    gone = sorted(asked.keys() - kernel.cgroups(asked))
    if gone:
        raise UnavailableError(
            f"there is no cgroup {', '.join(gone)}",
            hint=f"start what runs in it, or make it: mkdir -p /sys/fs/cgroup{gone[0]}",
            where=asked[gone[0]],
        )


def _stands(name: str, mine: Tree) -> bool:
    return any(isinstance(node, LoadedFilter) and node.name == name for node in mine.filters)


def adds_hook(plan: Plan) -> bool:
    """Whether the plan adds the clsact hook that both directions use."""
    added = (step.node for step in plan.steps if step.verb is Verb.ADD)
    return any(isinstance(node, Qdisc) and node.parent == CLSACT for node in added)


def _with_hook(mine: Tree, interface: Interface) -> Tree:
    """With the clsact hook as it will be once the other direction has put it there."""
    hook = Qdisc(CLSACT_HANDLE, CLSACT, "clsact", device=interface.fed_by)
    return mine if hook in mine.qdiscs else tree(mine.device, (*mine.nodes(), hook))


def _root_handle(desired: Tree) -> Handle:
    """0 where nothing waits, and so no root is."""
    root = desired.root()
    return root.handle if root is not None else 0


def _moved(program: Program, mine: Tree, record: Record | None) -> dict[Handle, FieldBounds]:
    """The bounds of the leaves that a controller has moved; a field that holds its static value is the policy's."""
    before = record.static if record else {}
    live = program.allocation_in(mine)
    link = before.get(_LINK)
    found: dict[str, FieldBounds] = {}
    for path, bounds in program.leaf_bounds().items():
        now, was = live[path], before.get(path)
        then = program.static[path]
        if was is None or _fields(now) == (was := (*was, *_fields(then)[len(was) :])):
            continue
        found[path] = FieldBounds(
            rate=bounds.rate if now.rate != was[0] else (then.rate, then.rate),
            ceil=bounds.ceil if now.ceil != was[1] else (then.ceil, then.ceil),
            queue=bounds.queue if now.queue != was[2] else (then.queue, then.queue),
            target=bounds.target if now.target != was[3] else (then.target, then.target),
        )
    return program.by_handle(found, program.moving if link and program.link_in(mine) != link[0] else None)


def _fields(grant: Grant) -> tuple[int, int, int, int]:
    """In the order in which a record has them; one of a shaper that moved no target has the first three."""
    return grant.rate, grant.ceil, grant.queue, grant.target


@contextlib.contextmanager
def wanted_by(interface: Interface) -> Iterator[None]:
    """An error in here names the policy line that wants the device."""
    try:
        yield
    except ShaperError as error:
        error.where = error.where or interface.device_where
        raise
