"""A kernel without a kernel: it behaves, refuses as the real one does, and fails on demand.

The contract tests run the same steps against it and against a real kernel and compare every answer and every tree.
"""

from __future__ import annotations

import contextlib
import errno as errors
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from shaper.kernel import explain
from shaper.kernel.decode import GONE, alias_of
from shaper.kernel.encode import Refused, check, indexed, lent, retuned
from shaper.kernel.fake_device import Device
from shaper.kernel.protocol import ClassCounters, DeviceCounters, PolicerCounters, VerdictCounters
from shaper.model.device import DeviceName
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    CLSACT,
    GSO_MAX_SEGS,
    Acting,
    BpfFilter,
    Capabilities,
    Feeder,
    Finish,
    FlowerFilter,
    Handle,
    HfscClass,
    HtbClass,
    Ifb,
    LinkFacts,
    LoadedFilter,
    LookupProgram,
    MarkTable,
    Node,
    Occupancy,
    Offload,
    OtherFilter,
    Police,
    Qdisc,
    Tree,
    U32Filter,
    U32Table,
    device_value,
    table_name,
    tree,
)

FULL = Capabilities(
    kernel="6.12.0-fake",
    qdiscs=frozenset({"htb", "fq_codel", "bfifo", "pfifo", "clsact", "ingress", "tbf", "hfsc", "cake", "ets", "prio"})
    | {"codel", "pie", "fq_pie", "red", "sfq"},
    filters=frozenset({"bpf", "u32", "flower"}),
    actions=frozenset({"mirred", "gact", "police", "pedit", "csum", "skbedit", "ctinfo", "connmark"}),
    links=frozenset({"ifb", "veth"}),
    features=frozenset({"stab", "nft-ct", "nft-cgroup", "lookup"}),
)
"""A distribution's kernel."""


def _place(device: str, node: Node) -> str:
    """The device on which a node stands."""
    return device if isinstance(node, (HtbClass, HfscClass, Ifb, MarkTable)) else node.device or device


def _local(step: Step) -> Step:
    """The step about a qdisc as its own device sees it."""
    before, after = (
        replace(node, device="") if isinstance(node, Qdisc) else node for node in (step.before, step.after)
    )
    return Step(step.verb, before, after)


def _with(node: Acting, there: Mapping[tuple[type, int], Police | Finish]) -> Acting:
    """The filter with those actions in the place of its own of the same kind and index."""
    actions = (there.get((type(action), getattr(action, "index", 0)), action) for action in node.actions)
    return replace(node, actions=tuple(actions))


class Killed(BaseException):
    """The process died by SIGKILL. No `except Exception` catches it, and until `revive` every call raises it again."""


class FakeKernel:
    """A kernel with the named devices, all of one kind: Ethernet with an MTU of 1500, up, able to join packets.

    `sent` is the log of all steps that were carried out.
    """

    def __init__(self, *devices: str, capabilities: Capabilities = FULL) -> None:
        self.sent: list[Step] = []
        self.programs: dict[str, int] = {}
        self._capabilities = capabilities
        self._links: dict[str, LinkFacts] = {}
        self._ifbs: dict[str, Ifb] = {}
        self._tables: dict[str, MarkTable] = {}
        self._devices: dict[str, Device] = {}
        self._names: dict[str, DeviceName] = {}
        self._offloads: dict[str, dict[str, int]] = {}
        self._forwards: set[str] = set()
        self._counters: dict[str, tuple[dict[Handle, ClassCounters], int]] = {}
        self._policers: dict[int, PolicerCounters] = {}
        self._verdicts: dict[int, VerdictCounters] = {}
        self._without: frozenset[str] = frozenset()
        self._next_index = 2
        self._namespaces: dict[str, FakeKernel] = {}
        self._netns = ""
        self._permitted = True
        self._dead = False
        self._faults: dict[int, int] = {}
        self._death: int | None = None
        self._tried = 0
        for device in devices:
            self.add_device(device)

    @contextlib.contextmanager
    def lending(self, program: LookupProgram) -> Iterator[None]:
        self._alive()
        if "lookup" not in self._capabilities.features:
            raise explain.unloadable("loading the program: Operation not permitted", "run it as root", errors.EPERM)
        self.programs[program.name] = -1
        try:
            yield
        finally:
            self.programs.pop(program.name)

    # what a test sets up

    def add_namespace(self, name: str, *devices: str) -> FakeKernel:
        """A network namespace by a name, with devices of its own."""
        self._namespaces[name] = FakeKernel(*devices, capabilities=self._capabilities)
        self._namespaces[name]._netns = name
        self._namespaces[name].programs = self.programs
        return self._namespaces[name]

    def add_device(
        self, name: str, facts: LinkFacts | None = None, *, others: tuple[str, ...] = (), mac: str = ""
    ) -> None:
        """A device appears; `facts` say what it is, their index is ignored; `others` are its alternative names."""
        self._names[name] = DeviceName(name, others, mac)
        shape = facts or LinkFacts(
            name=name, index=0, mtu=1500, header=14, super_packet=65550, up=True, joined_packet=65550
        )
        self._links[name] = replace(shape, name=name, index=self._next_index)
        self._devices[name] = Device(self._capabilities, self._index_of)
        self._offloads[name] = {GSO_MAX_SEGS: 65535, "gro": 1}
        self._next_index += 1

    def set_link(self, name: str, *, up: bool) -> None:
        """Somebody sets a device up or down."""
        link = self._links[name]
        self._links[name] = replace(link, up=up, flaps=link.flaps + (up != link.up))
        if name in self._ifbs:
            self._ifbs[name] = replace(self._ifbs[name], up=up)

    def change_link(self, name: str, **facts: object) -> None:
        """A device becomes another in some of its facts, and stays."""
        self._links[name] = replace(self._links[name], **facts)  # type: ignore[arg-type]

    def remove_device(self, name: str) -> None:
        """A device goes away, with everything on it."""
        del self._links[name], self._devices[name], self._offloads[name]
        self._forwards.discard(name)
        self._ifbs.pop(name, None)
        for device in self._devices.values():
            for key, node in device.filters.items():
                if isinstance(node, FlowerFilter):
                    asked = (one for one in node.keys if (one.field, one.value) != ("indev", device_value(name)))
                    device.filters[key] = replace(node, keys=tuple(asked))
                if isinstance(node, BpfFilter) and node.target == name:
                    device.filters[key] = replace(node, mirror=node.mirror and GONE, redirect=node.redirect and GONE)

    def put(self, device: str, *nodes: Node) -> None:
        """Somebody else's doing: nodes of any kind appear, unchecked."""
        for node in nodes:
            if isinstance(node, MarkTable):
                self._tables[node.name] = node
                continue
            held = self._devices[_place(device, node)]
            match node:
                case Qdisc():
                    held.qdiscs[node.parent] = replace(node, device="")
                case HtbClass() | HfscClass():
                    held.classes[node.handle] = node
                case BpfFilter() | LoadedFilter() | FlowerFilter() | U32Filter() | U32Table() | OtherFilter():
                    held.filters[replace(node, device="").key] = replace(node, device="")
                case Offload():
                    self.set_offload(node.device, node.name, node.value)
                case Ifb():
                    self.add_device(node.name)
                    self._ifbs[node.name] = node

    def forward(self, *devices: str) -> None:
        """What comes in by these devices may be forwarded to the others from now on."""
        self._forwards.update(devices)

    def set_offload(self, device: str, name: str, value: int) -> None:
        """Somebody else's doing."""
        self._offloads[device][name] = value

    def forget_table(self, name: str) -> None:
        """Somebody else's doing: a table of nftables goes."""
        del self._tables[name]

    def without_cgroups(self, *paths: str) -> None:
        """These cgroups are gone, and no others."""
        self._without = frozenset(paths)

    def count(
        self,
        device: str,
        classes: dict[Handle, ClassCounters],
        *,
        unshaped: int = 0,
        policers: dict[int, PolicerCounters] | None = None,
        verdicts: dict[int, VerdictCounters] | None = None,
    ) -> None:
        """What `counters` will say from now on; leaf classes, policers and verdicts left out stay at zero."""
        self._counters[device] = (dict(classes), unshaped)
        self._policers |= policers or {}
        self._verdicts |= verdicts or {}

    def fill(self, device: str, handle: Handle, *held: Occupancy) -> None:
        """What a queue holds from now on, look by look; the last stays."""
        self._devices[device].filled[handle] = list(held)

    def thrown_away(self, device: str) -> int:
        """The packets that queues held beyond limits that were lowered."""
        return self._devices[device].thrown

    def deny(self, *, denied: bool = True) -> None:
        """From now on every step is refused with EPERM (or no longer)."""
        self._permitted = not denied

    def fail_at(self, step_index: int, errno: int) -> None:
        """The step that comes after `step_index` others from now on is refused with `errno`, once."""
        self._faults[self._tried + step_index] = errno

    def die_at(self, step_index: int) -> None:
        """The process dies just before it carries out the step that comes after `step_index` others from now on."""
        self._death = self._tried + step_index

    def revive(self) -> None:
        """The next process starts: the kernel is as the dead one left it."""
        self._dead = False

    # what every kernel does

    def capabilities(self) -> Capabilities:
        """As given when it was made."""
        self._alive()
        return self._capabilities

    def inside(self, netns: str) -> FakeKernel:
        """One that `add_namespace` made; from one of those there is no way to another."""
        self._alive()
        if netns == self._netns:
            return self
        if netns not in self._namespaces:
            raise explain.no_namespace(netns, FileNotFoundError(errors.ENOENT, ""), sorted(self._namespaces))
        return self._namespaces[netns]

    def devices(self) -> tuple[DeviceName, ...]:
        """Every device but our ifbs."""
        self._alive()
        ours = {name for name, ifb in self._ifbs.items() if ifb.alias.startswith(alias_of(""))}
        return tuple(self._names[name] for name in self._links if name not in ours)

    def link(self, device: str) -> LinkFacts:
        """Raises UnavailableError when there is no such device."""
        self._device(device)
        feeders = tuple(
            Feeder(other, ("gro",), feeds=other in self._forwards, number=self._links[other].index)
            for other in sorted(self._links)
            if other not in self._ifbs and other != device
        )
        return replace(
            self._links[device],
            own=Feeder(device, ("gro",), feeds=True, number=self._links[device].index),
            feeders=feeders,
        )

    def offloads(self, devices: Collection[str]) -> tuple[Offload, ...]:
        """Of the devices that there are."""
        self._alive()
        there = sorted(self._offloads.keys() & set(devices))
        return tuple(Offload(device, *each) for device in there for each in sorted(self._offloads[device].items()))

    def read(self, device: str, *, fed_by: str = "") -> Tree:
        """Raises UnavailableError when there is no such device."""
        held = self._device(device if device in self._devices or not fed_by else fed_by)
        alias = alias_of(fed_by or device, incoming=bool(fed_by))
        nodes: list[Node] = [*self.tables(device)]
        nodes += [ifb for ifb in self._ifbs.values() if ifb.alias == alias]
        if device in self._devices:
            nodes += [*held.qdiscs.values(), *held.classes.values(), *held.filters.values()]
        if fed_by in self._devices:
            source = self._devices[fed_by]
            hooks = [qdisc for qdisc in source.qdiscs.values() if qdisc.parent == CLSACT]
            hooked = [each for each in source.filters.values() if each.parent >> 16 == CLSACT >> 16]
            nodes += [replace(node, device=fed_by) for node in (*hooks, *hooked)]
        return tree(device, nodes)

    def cgroups(self, paths: Collection[str]) -> frozenset[str]:
        """All but those that `without_cgroups` took away."""
        self._alive()
        return frozenset(paths) - self._without

    def tables(self, device: str) -> tuple[MarkTable, ...]:
        """Our table for the device, there or not."""
        self._alive()
        found = self._tables.get(table_name(device))
        return () if found is None else (found,)

    def counters(self, device: str) -> DeviceCounters:
        """Zero but for what `count` said. Raises UnavailableError when there is no such device."""
        held = self._device(device)
        given, unshaped = self._counters.get(device, ({}, 0))
        inner = {cls.parent for cls in held.classes.values()}
        none = ClassCounters(0, 0, 0, 0, 0, 0)
        unborrowed = replace(none, lends=0, borrows=0)
        shared = self._shared()
        policed = {index: self._policers.get(index, PolicerCounters(0, 0)) for kind, index in shared if kind is Police}
        classes = {
            leaf: given.get(leaf, unborrowed if isinstance(cls, HtbClass) else none)
            for leaf, cls in held.classes.items()
            if leaf not in inner
        }
        return DeviceCounters(classes, unshaped, policed)

    def verdicts(self, device: str) -> DeviceCounters:
        """Zero but for what `count` said. Raises UnavailableError when there is no such device."""
        self._device(device)
        shared = self._shared()
        policed = {index: self._policers.get(index, PolicerCounters(0, 0)) for kind, index in shared if kind is Police}
        counted = {index: self._verdicts.get(index, VerdictCounters(0, 0)) for kind, index in shared if kind is Finish}
        return DeviceCounters({}, 0, policed, counted)

    def occupancy(self, device: str) -> Mapping[Handle, Occupancy]:
        """What `fill` said; a queue that nobody filled is empty."""
        held = self._device(device)
        return {qdisc.handle: held.look_into(qdisc.handle) for qdisc in held.qdiscs.values()}

    def send(self, device: str, steps: Sequence[Step]) -> None:
        """Raises StepError, UnavailableError, and Killed where `die_at` said so."""
        self._alive()
        for done, step in enumerate(steps):
            place = _place(device, step.node)
            if place not in self._devices and not isinstance(step.node, (Ifb, MarkTable)):
                raise explain.no_device(place, self._links)
            if self._death == self._tried:
                self._death = None
                self._dead = True
            self._alive()
            number, self._tried = self._tried, self._tried + 1
            try:
                self._carry_out(self._devices.get(place), step, self._faults.pop(number, 0))
            except Refused as error:
                raise explain.refusal(device, step, done=done, errno=error.errno, said=error.said) from error
            self.sent.append(step)

    def close(self) -> None:
        """There is nothing to give back."""

    def _carry_out(self, held: Device | None, step: Step, fault: int) -> None:
        if fault:
            raise Refused(fault, "")
        check(step)
        if not self._permitted:
            raise Refused(errors.EPERM, "")
        if isinstance(step.node, Ifb):
            self._ifb(step.verb, step.node)
            return
        if isinstance(step.node, Offload):
            if step.node.name not in self._offloads[step.node.device]:
                raise Refused(errors.EOPNOTSUPP, f"the driver leaves {step.node.name} as it is")
            self._offloads[step.node.device][step.node.name] = step.node.value
        if isinstance(step.node, MarkTable):
            self._table(step)
            return
        assert held is not None
        match step.node:
            case Qdisc() as node:
                held.qdisc(_local(step), replace(node, device=""))
            case HtbClass() | HfscClass() as node:
                held.cls(step.verb, node)
            case U32Table() as node:
                held.filter(step.verb, replace(node, device=""))
            case (BpfFilter() | LoadedFilter() | FlowerFilter() | U32Filter()) as node:
                lent(step, self.programs)
                for police in retuned(step):
                    self._retune(police)
                held.filter(step.verb, replace(self._bound(node), device=""))
            case OtherFilter():
                raise Refused(errors.EOPNOTSUPP, f"an OtherFilter is not ours to {step.verb}")

    def _bound(self, node: Acting) -> Acting:
        """With the actions that are there already, by their indexes: the kernel asks no further."""
        return _with(node, self._shared())

    def _shared(self) -> dict[tuple[type, int], Police | Finish]:
        """All actions that have an index, by kind and index."""
        filters = (held for device in self._devices.values() for held in device.filters.values())
        return indexed(action for held in filters for action in getattr(held, "actions", ()))

    def _retune(self, action: Police | Finish) -> None:
        """An action becomes another, in every filter that has it."""
        for device in self._devices.values():
            for key, held in device.filters.items():
                if isinstance(held, Acting):
                    device.filters[key] = _with(held, indexed((action,)))

    def _ifb(self, verb: Verb, node: Ifb) -> None:
        if verb is Verb.ADD:
            if node.name in self._links:
                raise Refused(errors.EEXIST, "")
            if "ifb" not in self._capabilities.links:
                raise Refused(errors.EOPNOTSUPP, explain.UNKNOWN_LINK)
            self.add_device(node.name)
            self._ifbs[node.name] = node
            return
        if node.name not in self._links:
            raise Refused(errors.ENODEV, "")
        held = self._ifbs.get(node.name)
        if held is None or held.alias != node.alias:
            raise Refused(errors.EBUSY, "its alias is not ours")
        if verb is Verb.CHANGE:
            self.set_link(node.name, up=node.up)
        else:
            self.remove_device(node.name)

    def _table(self, step: Step) -> None:
        if not {"nft-ct", "nft-cgroup"} & self._capabilities.features:
            raise Refused(errors.EOPNOTSUPP, "")
        if isinstance(step.before, MarkTable) and self._tables.pop(step.before.name, None) is None:
            raise Refused(errors.ENOENT, "")
        if isinstance(step.after, MarkTable):
            for one in (one for chain in step.after.chains for rule in chain.rules for one in rule):
                if one.what == "cgroup" and one.text in self._without:
                    raise Refused(errors.ENOENT, f"there is no cgroup {one.text}: start what runs in it, or make it")
            if step.after.name in self._tables:
                raise Refused(errors.EEXIST, "")
            self._tables[step.after.name] = step.after

    def _index_of(self, device: str) -> int | None:
        """Of the device that a filter sends to."""
        return self._links[device].index if device in self._links else None

    def _device(self, device: str) -> Device:
        self._alive()
        if device not in self._devices:
            raise explain.no_device(device, self._links)
        return self._devices[device]

    def _alive(self) -> None:
        if self._dead:
            raise Killed
