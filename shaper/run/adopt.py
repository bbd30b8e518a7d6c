"""Taking over a tree that no record proves to be ours, and letting go of one that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shaper.compile import compile_interface
from shaper.compile.filters import PREFERENCE
from shaper.compile.handles import LINK_HANDLE, ROOT_HANDLE
from shaper.compile.numbers import Adopted
from shaper.compile.program import Program
from shaper.errors import UnavailableError
from shaper.kernel.protocol import Kernel, within
from shaper.model.policy import Interface, Policy
from shaper.plan.likeness import likeness
from shaper.plan.trees import inner_classes
from shaper.run.ours import polices
from shaper.run.prepare import Prepared, prepare
from shaper.run.state import DeviceState, Pending, Record, boot_id
from shaper.tree import (
    ROOT,
    BpfFilter,
    Handle,
    HtbClass,
    HtbOptions,
    OtherFilter,
    Qdisc,
    RawOptions,
    Tree,
    handle_text,
)


@dataclass(frozen=True, slots=True)
class _Pretended:
    """A direction as if this record had been there."""

    kept: Record
    other: Record | None
    elsewhere: Sequence[Record]
    released: Record | None

    def record(self) -> Record | None:
        return self.kept

    def pending(self) -> Pending | None:
        return None

    def beside(self) -> Record | None:
        return self.other

    def let_go(self) -> Record | None:
        return self.released

    def others(self) -> Sequence[Record]:
        return self.elsewhere


def adoption(
    kernel: Kernel,
    state: DeviceState,
    policy: Policy,
    interface: Interface,
    *,
    named: Mapping[str, Handle],
    first: Sequence[Prepared] = (),
    then: Interface | None = None,
) -> Prepared:
    """The plan that takes over what stands on one direction of a device; reads the kernel, changes nothing.

    `named` says which class of theirs is that of a path of the policy; the rest is matched by place, rates and order.
    Of what comes in and is policed only filters of the shaper's own can be taken over, known by what they count with.
    `first` are the plans that are carried out before this one, `then` is the other direction where it is taken over
    after this one: the hook that both use is no stranger's. Raises UnavailableError, with the reason and the way
    out, for what cannot be taken over without rebuilding it, or could not be put back.
    """
    if state.record() is not None:
        raise UnavailableError(
            f"{state.title} is ours already", hint="`shaper apply` changes it, `shaper release` lets go of it"
        )
    record = _as_if(kernel, policy, interface, {} if interface.policed and first else named)
    beside = next((one.after for one in first if one.after.device == interface.device), None)
    if then is not None:
        beside = _as_if(kernel, policy, then, {})
    known = _Pretended(record, beside or state.beside(), state.others(), state.let_go())
    prepared = prepare(kernel, known, policy, interface, keep_live=False, first=first)
    _refuse_what_cannot_be_put_back(prepared, interface)
    return replace(prepared, before=None)


def _as_if(kernel: Kernel, policy: Policy, interface: Interface, named: Mapping[str, Handle]) -> Record:
    """The record that would prove what stands there to be ours."""
    there = within(kernel, interface.netns)
    observed = there.read(interface.shaped, fed_by=interface.fed_by)
    compiled = compile_interface(interface, there.capabilities(), there.link(interface.device))
    if interface.policed:
        _refuse_unpoliced(observed, interface, named)
    adopted = None if interface.policed else _numbers(observed, compiled, interface, named)
    return Record(
        device=interface.device,
        interface=interface.name,
        source=policy.source,
        sha256="",
        boot=boot_id(),
        root=adopted.numbers[ROOT_HANDLE] if adopted else 0,
        handles=dict(compiled.handles),
        tap=compiled.tap,
        policed=interface.policed,
        direction=interface.direction,
        adopted=adopted,
    )


def standing_for(prepared: Prepared) -> list[tuple[str, Handle]]:
    """The classes of the policy, each with the handle of theirs that it takes over; 0 for one that is new.

    None where nothing waits in classes: what polices is known by itself.
    """
    if prepared.program.interface.policed:
        return []
    held = {cls.handle for cls in prepared.mine.classes}
    return [(path, number if number in held else 0) for path, number in prepared.program.handles.items()]


def _refuse_unpoliced(observed: Tree, interface: Interface, named: Mapping[str, Handle]) -> None:
    if not any(map(polices, observed.filters)):
        raise UnavailableError(
            f"nothing of the shaper's polices what comes in by {interface.device}: there is nothing to take over",
            hint="`shaper apply` puts the policy there",
            where=interface.device_where,
        )
    if named:
        raise UnavailableError(
            f"what comes in by {interface.device} is policed, and nothing waits in classes that --class could name",
            hint="leave --class out",
        )


def _numbers(observed: Tree, compiled: Program, interface: Interface, named: Mapping[str, Handle]) -> Adopted:
    root, link = observed.root(), interface.shaped
    if root is None:
        raise UnavailableError(
            f"{link} has only the kernel's default qdisc: there is nothing to take over",
            hint="`shaper apply` puts the policy there",
            where=interface.device_where,
        )
    ours = compiled.tree.root()
    if not (isinstance(root.options, HtbOptions) and ours is not None and ours.kind == root.kind):
        raise UnavailableError(
            f"the root of {link} is {root.kind} {handle_text(root.handle)}, and the policy wants "
            f"{ours.kind if ours else 'none'}: only an HTB tree can be taken over",
            hint=f"remove it and apply: tc qdisc del dev {link} root; what waits in it is lost then",
            where=interface.device_where,
        )
    tops = [cls for cls in observed.classes if isinstance(cls, HtbClass) and cls.parent == root.handle]
    inner = inner_classes(observed)
    if len(tops) != 1 or tops[0].handle not in inner:
        raise UnavailableError(
            f"the classes of {link} hang on the root, and not on one class that is the link: the kernel moves no class "
            "under another",
            hint=f"remove the tree and apply: tc qdisc del dev {link} root; what waits in it is lost then",
            where=interface.device_where,
        )
    _refuse_filters(observed, root, compiled, interface)
    handles = _said(observed, compiled, named)
    top = next(cls for cls in compiled.tree.classes if cls.handle == LINK_HANDLE)
    assert isinstance(top, HtbClass)
    spare = frozenset(compiled.handles[cls.path] for cls in interface.walk() if cls.implied)
    pairs = likeness(observed, compiled.tree, tops=(tops[0], top), named=handles, spare=spare)
    numbers = {ROOT_HANDLE: root.handle, **pairs}
    for path, number in named.items():
        if numbers.get(compiled.handles[path]) != number:
            raise UnavailableError(
                f"{handle_text(number)} cannot be the class {path}: it stands at another place of the tree",
                hint="give the policy the same nesting, or leave --class out",
            )
    for own, there in tuple(numbers.items()):
        queue, leaf = compiled.tree.leaf_of(own), observed.leaf_of(there)
        if queue is not None and leaf is not None:
            numbers[queue.handle] = leaf.handle
    kept = {
        cls.handle: (cls.prio, cls.quantum)
        for cls in observed.classes
        if isinstance(cls, HtbClass) and cls.handle in inner
    }
    return Adopted(numbers, root.options.default, root.options.direct_queue, kept)


def _said(observed: Tree, compiled: Program, named: Mapping[str, Handle]) -> dict[Handle, Handle]:
    """What a person said, by our handles. Raises UnavailableError for a class that one of the two does not have."""
    there = {cls.handle for cls in observed.classes}
    for path, number in named.items():
        if path not in compiled.handles:
            raise UnavailableError(
                f"the policy has no class {path}", hint=f"it has {', '.join(sorted(compiled.handles))}"
            )
        if number not in there:
            raise UnavailableError(
                f"{observed.device} has no class {handle_text(number)}",
                hint=f"it has {', '.join(map(handle_text, sorted(there)))}",
            )
    return {compiled.handles[path]: number for path, number in named.items()}


def _refuse_filters(observed: Tree, root: Qdisc, compiled: Program, interface: Interface) -> None:
    """Filters that are not ours to remove are left where ours is asked before them and always answers."""
    answers = any(isinstance(node, BpfFilter) and node.preference == PREFERENCE for node in compiled.tree.filters)
    for node in observed.filters:
        if isinstance(node, OtherFilter) and node.parent == root.handle:
            if answers and node.preference > PREFERENCE:
                continue
            raise UnavailableError(
                f"{interface.shaped} has a {node.kind} filter of preference {node.preference} that would be asked "
                "before ours, and that the shaper could not put back",
                hint=f"remove it: tc filter del dev {interface.shaped} parent {handle_text(root.handle)} "
                f"pref {node.preference}; or give it a preference above {PREFERENCE}",
                where=interface.device_where,
            )


def _refuse_what_cannot_be_put_back(prepared: Prepared, interface: Interface) -> None:
    for step in prepared.plan.steps:
        before = step.before
        if isinstance(before, Qdisc) and before.parent == ROOT and step.after is None:
            raise UnavailableError(
                f"{interface.shaped}: its root would have to be built anew",
                hint=f"remove it and apply: tc qdisc del dev {interface.shaped} root",
                where=interface.device_where,
            )
        if isinstance(before, Qdisc) and isinstance(before.options, RawOptions):
            raise UnavailableError(
                f"the {before.kind} queue under class {handle_text(before.parent)} would go, and the shaper could not "
                "put it back",
                hint=f"put one there that it knows: tc qdisc replace dev {interface.shaped} parent "
                f"{handle_text(before.parent)} bfifo",
                where=interface.device_where,
            )
