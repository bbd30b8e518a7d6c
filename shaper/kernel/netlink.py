"""The real kernel: steps as netlink messages over pyroute2's socket, trees and counters from dumps.

Each step is one message (an ifb takes some more) and its ACK is read before the next is sent: the kernel
goes on after a refusal inside a batch, and the steps behind it would be carried out although their ground is missing.
"""

from __future__ import annotations

import contextlib
import errno as errors
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from collectors import link as links
from collectors import police, qdisc
from collectors.bpf import lookup
from collectors.bpf.library import BpfError
from collectors.memory import memory_held
from collectors.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_NEWLINK,
    RTM_SETLINK,
    Channel,
    NetlinkError,
    attribute,
    extend,
    namespaces,
    open_socket,
)
from shaper.kernel import cgroups, decode, explain, legacy, probe, u32
from shaper.kernel.encode import Message, Refused, check, message, retuned, retuning
from shaper.kernel.nft.channel import Nftables
from shaper.kernel.offloads import Offloads, feeding
from shaper.kernel.protocol import ClassCounters, DeviceCounters, PolicerCounters, VerdictCounters
from shaper.model.device import DeviceName
from shaper.plan.steps import Step, Verb
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_INGRESS,
    COUNT_INDEXES,
    OUR_ROOTS,
    POLICE_INDEXES,
    ROOT,
    Capabilities,
    Class,
    Ifb,
    LinkFacts,
    LookupProgram,
    MarkTable,
    Node,
    Occupancy,
    Offload,
    Tree,
    U32Filter,
    U32Table,
    table_name,
    tree,
)

_IFF_UP = 0x1
_COUNTED = frozenset(OUR_ROOTS) - {"cake"}
"""Kinds whose classes are counted; what CAKE shows as classes are flows."""


_FLOWS = ("fq_codel", "sfq")
"""Kinds whose flows a filter may name; fq_pie takes none."""


class NetlinkKernel:
    """The kernel as one network namespace sees it: the caller's own, or the one named `netns`.

    One call at a time, from any thread; but pyroute2 wants it opened and closed in one, outside a running event loop.
    """

    def __init__(
        self, netns: str | None = None, *, beside: NetlinkKernel | None = None, known: Capabilities | None = None
    ) -> None:
        """`beside` is another namespace's of the same kernel; what is `known` is not probed.

        Raises ShaperError when there is no such namespace or no right to enter it.
        """
        self._netns = netns
        self._whole = beside or self
        self._inside: dict[str, NetlinkKernel] = {}
        self.programs: dict[str, int] = beside.programs if beside else {}
        try:
            sock = open_socket(netns)
        except OSError as error:
            if netns:
                raise explain.no_namespace(netns, error, namespaces()) from error
            raise explain.failure("open netlink", error.errno or 0, error.strerror or "") from error
        from pyroute2 import IPRoute  # noqa: PLC0415 # 0.1 s, which what only reads files need not spend

        # pyroute2 keeps an event loop on its socket; the messages here go past it, straight through the socket.
        self._ipr = IPRoute(fileno=sock.detach(), ext_ack=True)
        self._socket = self._ipr.asyncore.socket
        self._socket.setblocking(True)
        extend(self._socket)
        self._channel = Channel(self._socket)
        self._offloads = Offloads(self._socket)
        self._capabilities = known
        self._nftables = Nftables(netns)

    def __enter__(self) -> NetlinkKernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back the sockets. Harmless when done twice."""
        for each in self._inside.values():
            each.close()
        self._ipr.close()
        self._nftables.close()

    def capabilities(self) -> Capabilities:
        """Probed in a child process the first time. Raises ShaperError."""
        whole = self._whole
        if whole._capabilities is None:
            whole._capabilities = probe.capabilities()
        return whole._capabilities

    def inside(self, netns: str) -> NetlinkKernel:
        """Opened the first time; the same afterwards, also should another namespace get that name."""
        if netns == self._netns:
            return self
        opened = self._whole._inside
        if netns not in opened:
            opened[netns] = NetlinkKernel(netns, beside=self._whole)
        return opened[netns]

    @contextlib.contextmanager
    def lending(self, program: LookupProgram) -> Iterator[None]:
        """Takes a second for 100,000 networks. Raises UnavailableError, NotPermittedError."""
        try:
            loaded = lookup.load(program.program, program.tables, ethernet=program.ethernet)
        except BpfError as error:
            raise explain.unloadable(error.message, error.hint, error.errno) from error
        self.programs[program.name] = loaded
        try:
            yield
        finally:
            del self.programs[program.name]
            os.close(loaded)

    def devices(self) -> tuple[DeviceName, ...]:
        """Every device but our ifbs, with its alternative names and its hardware address."""
        ours = decode.alias_of("")
        return tuple(
            DeviceName(reading.name, reading.others, reading.mac)
            for reading in self._links()
            if not (reading.kind == "ifb" and reading.alias.startswith(ours))
        )

    def link(self, device: str) -> LinkFacts:
        """Facts of a device.

        The largest frame that can reach its qdisc is one MTU only when nobody can queue a super-packet: local TCP
        queues them, whatever tso and gso say, unless the device's gso_max_segs is 1; forwarded packets are joined by
        GRO or LRO of the devices they came in by, so both must be off on every other device that is up. What a veth's
        other end or a virtual machine's host hands over already joined cannot be seen from here. Else it is the
        device's gso_max_size. Incoming packets are joined by the device's own GRO or LRO.
        Raises UnavailableError when there is no such device.
        """
        reading = self._find(device)
        with explain.reading("the rules of nftables"):
            translates = self._nftables.translates(device)
        joins = links.joins_packets(self._socket, device)
        links_here = self._links()
        others = [other for other in links_here if other.up and not other.loopback and other.name != device]
        # An ifb passes on what another device has received, and joins nothing itself.
        joined = reading.gso_max_segs > 1 or any(
            links.joins_packets(self._socket, other.name) for other in others if other.kind != "ifb"
        )
        with explain.asking(device):
            heeds = links.heeds_priorities(self._socket, self._channel, reading)
            own = self._offloads.feeder(reading, feeds=True)
            feeds = feeding(reading, links_here)
            feeders = tuple(
                self._offloads.feeder(each, feeds=each.name in feeds)
                for each in sorted(links_here, key=lambda each: each.name)
                if not each.loopback and each.kind != "ifb" and (each is not reading or device in feeds)
            )
        return LinkFacts(
            name=reading.name,
            index=reading.ifindex,
            mtu=reading.mtu,
            header=reading.header,
            super_packet=(reading.gso_max_size if joined else reading.mtu) + reading.header,
            up=reading.up,
            speed=links.link_speed(self._socket, device),
            joined_packet=(reading.gso_max_size if joins else reading.mtu) + reading.header,
            own=own,
            feeders=feeders,
            translates=translates,
            flaps=reading.flaps,
            heeds=heeds,
            unread=legacy.nat_tables(self._netns),
        )

    def offloads(self, devices: Collection[str]) -> tuple[Offload, ...]:
        """What these devices are set to, as far as they are there."""
        if not devices:
            return ()
        with explain.asking("the devices' offloads"):
            return tuple(self._offloads.of(each for each in self._links() if each.name in devices))

    def read(self, device: str, *, fed_by: str = "") -> Tree:
        """Everything on the device. Raises UnavailableError, TryAgainError when somebody else keeps changing it."""
        devices = {reading.name: reading for reading in self._links()}
        names = {reading.ifindex: name for name, reading in devices.items()}
        if device not in devices and fed_by not in devices:
            raise explain.no_device(fed_by or device, devices)
        alias = decode.alias_of(fed_by or device, incoming=bool(fed_by))
        nodes: list[Node] = [*self.tables(device)]
        nodes += [
            Ifb(name, reading.alias, reading.up)
            for name, reading in devices.items()
            if (reading.kind, reading.alias) == ("ifb", alias)
        ]
        if device in devices:
            nodes += self._read(devices[device], names)
        if fed_by in devices:
            nodes += self._read_hook(devices[fed_by], names)
        return tree(device, nodes)

    def tables(self, device: str) -> tuple[MarkTable, ...]:
        """Our table for the device, whether that is there or not. Raises ShaperError."""
        with explain.reading("nftables"):
            found = self._nftables.read(table_name(device))
        return () if found is None else (found,)

    def cgroups(self, paths: Collection[str]) -> frozenset[str]:
        """The same in every network namespace."""
        return cgroups.present(paths)

    def _read(self, found: links.LinkReading, names: Mapping[int, str]) -> Iterator[Node]:
        with explain.reading(found.name):
            qdiscs = qdisc.parse_qdiscs(qdisc.dump_qdiscs(self._channel), found.ifindex)
            yield from decode.qdiscs(qdiscs, queue=found.queue)
            yield from decode.classes(qdisc.parse_classes(qdisc.dump_classes(self._channel, found.ifindex)))
            yield from self._read_filters(found, _hooks(qdiscs), names)

    def _read_hook(self, found: links.LinkReading, names: Mapping[int, str]) -> Iterator[Node]:
        """What stands on the clsact or ingress hook of a device that feeds an ifb."""
        with explain.reading(found.name):
            qdiscs = qdisc.parse_qdiscs(qdisc.dump_qdiscs(self._channel), found.ifindex)
            hooks = [reading for reading in qdiscs if reading.parent == CLSACT]
            yield from decode.qdiscs(hooks, queue=found.queue, on=found.name)
            yield from self._read_filters(found, _hooks(hooks), names, on=found.name)

    def _read_filters(
        self, found: links.LinkReading, hooks: Iterable[int], names: Mapping[int, str], *, on: str = ""
    ) -> Iterator[Node]:
        for hook in hooks:
            bodies = qdisc.dump_filters(self._channel, found.ifindex, hook)
            yield from decode.filters(qdisc.parse_filters(bodies), names, on=on)

    def counters(self, device: str) -> DeviceCounters:
        """Counters of the leaf classes.

        Drops and backlog come from the leaf qdisc, since an AQM drops when it dequeues and the class above never
        hears of it; the class counts for itself only where it has no leaf but the automatic one. CAKE's tins stand
        as classes of its handle, numbered as the kernel shows them. Raises UnavailableError, TryAgainError.
        """
        index = self._find(device).ifindex
        with explain.reading(device):
            qdiscs = qdisc.parse_qdiscs(qdisc.dump_qdiscs(self._channel), index)
            classes = qdisc.parse_classes(qdisc.dump_classes(self._channel, index))
            policers = police.parse_policers(police.dump_policers(self._channel))
        leaves = {reading.parent: reading for reading in qdiscs}
        inner = {cls.parent for cls in classes} | {reading.handle for reading in qdiscs}  # HFSC's root is a class too
        counted = {}
        for cls in classes:
            if cls.kind in _COUNTED and cls.handle not in inner:
                own = cls.stats
                queue = leaves.get(cls.handle)
                leaf = queue.stats if queue is not None else own
                lends, borrows = cls.lent_and_borrowed or (None, None)
                counted[cls.handle] = ClassCounters(
                    sent_bytes=own.bytes,
                    sent_packets=own.packets,
                    drops=leaf.drops,
                    overlimits=own.overlimits,
                    backlog_bytes=leaf.backlog,
                    queued_packets=leaf.queued,
                    marked=queue.marked if queue is not None else 0,
                    lends=lends,
                    borrows=borrows,
                )
        for root in (reading for reading in qdiscs if reading.parent == ROOT):
            for number, tin in enumerate(root.tins, 1):
                counted[root.handle | number] = ClassCounters(
                    sent_bytes=tin.sent_bytes,
                    sent_packets=tin.sent_packets,
                    drops=tin.drops,
                    overlimits=0,
                    backlog_bytes=tin.backlog,
                    queued_packets=0,
                    marked=tin.marked,
                )
        return DeviceCounters(counted, sum(reading.direct_packets for reading in qdiscs), _ours(policers))

    def verdicts(self, device: str) -> DeviceCounters:
        """Raises UnavailableError, TryAgainError."""
        self._find(device)
        with explain.reading(device):
            policers = police.parse_policers(police.dump_policers(self._channel))
            verdicts = police.parse_verdicts(police.dump_verdicts(self._channel))
        counted = {
            one.number: VerdictCounters(one.packets, one.bytes) for one in verdicts if one.number in COUNT_INDEXES
        }
        return DeviceCounters({}, 0, _ours(policers), counted)

    def occupancy(self, device: str) -> Mapping[int, Occupancy]:
        """Raises UnavailableError, TryAgainError."""
        index = self._find(device).ifindex
        with explain.reading(device):
            qdiscs = qdisc.parse_qdiscs(qdisc.dump_qdiscs(self._channel), index)
        return {
            reading.handle: Occupancy(reading.stats.queued, memory_held(reading.kind, reading.stats2))
            for reading in qdiscs
        }

    def send(self, device: str, steps: Sequence[Step]) -> None:
        """Carries out the steps, each acknowledged before the next. Raises StepError, UnavailableError."""
        found: dict[str, int] = {}
        for done, step in enumerate(steps):
            try:
                check(step)
                if isinstance(step.node, Ifb):
                    found.pop(step.node.name, None)
                    self._send_ifb(step.verb, step.node)
                elif isinstance(step.node, MarkTable):
                    self._nftables.send(step)
                else:
                    on = device if isinstance(step.node, Class) else step.node.device or device
                    if on not in found:
                        found[on] = self._find(on).ifindex
                    if isinstance(step.node, Offload):
                        self._offloads.change(self._channel, found[on], step.node)
                        continue
                    for other in retuned(step):
                        self._channel.request(*retuning(other))
                    if isinstance(step.node, (U32Filter, U32Table)):
                        u32.send(self._channel, step, found[on])
                    else:
                        self._channel.request(*message(step, found[on], self._index_of, self.programs))
            except Refused as error:
                raise explain.refusal(device, step, done=done, errno=error.errno, said=error.said) from error
            except OSError as error:
                said = error.strerror or ""
                raise explain.refusal(device, step, done=done, errno=error.errno or 0, said=said) from error

    def _send_ifb(self, verb: Verb, node: Ifb) -> None:
        """Raises NetlinkError, Refused."""
        name = attribute(links.IFLA_IFNAME, node.name.encode() + b"\0")
        if verb is Verb.ADD:
            # Looked for first: were the first message refused, the second would rename somebody else's device.
            if self._get(node.name) is not None:
                raise Refused(errors.EEXIST, "")
            info = attribute(links.IFLA_LINKINFO, attribute(links.IFLA_INFO_KIND, b"ifb\0"))
            alias = attribute(links.IFLA_IFALIAS, node.alias.encode() + b"\0")
            create = Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, links.pack_link() + name + info)
            mark = Message(RTM_SETLINK, 0, links.pack_link() + name + alias)
            self._channel.requests([create, mark])  # so that a SIGKILL leaves none without the mark
            self._silence(node.name)
            self._channel.request(RTM_SETLINK, 0, links.pack_link(flags=_IFF_UP) + name)
            return
        found = self._get(node.name)
        if found is None:
            raise Refused(errors.ENODEV, "")
        if (found.kind, found.alias) != ("ifb", node.alias):
            raise Refused(errors.EBUSY, "its alias is not ours")
        if verb is Verb.CHANGE:
            self._channel.request(
                RTM_SETLINK, 0, links.pack_link(found.ifindex, flags=_IFF_UP * node.up, change=_IFF_UP)
            )
            return
        self._channel.request(RTM_DELLINK, 0, links.pack_link(found.ifindex))

    def _silence(self, name: str) -> None:
        """Before it is up: what IPv6 solicits by it would pass its queue, and be counted with what comes in."""
        try:
            self._channel.request(RTM_SETLINK, 0, links.pack_silent(name))
        except NetlinkError as error:
            if error.errno != errors.EAFNOSUPPORT:
                raise

    def _links(self) -> list[links.LinkReading]:
        with explain.reading("the devices"):
            return [links.parse_link(body) for body in links.dump_links(self._channel)]

    def _get(self, device: str) -> links.LinkReading | None:
        """One device by name, None when there is none. Raises NetlinkError."""
        body = links.pack_link() + attribute(links.IFLA_IFNAME, device.encode() + b"\0")
        try:
            answers = self._channel.request(RTM_GETLINK, 0, body)
        except NetlinkError as error:
            if error.errno in (errors.ENODEV, errors.EINVAL, errors.ERANGE):  # the last two: no name at all
                return None
            raise
        return links.parse_link(answers[0])

    def _find(self, device: str) -> links.LinkReading:
        """Raises UnavailableError when there is no such device."""
        with explain.reading(device):
            found = self._get(device)
        if found is None:
            raise explain.no_device(device, (reading.name for reading in self._links()))
        return found

    def _index_of(self, device: str) -> int:
        """Of the device that a filter sends to. Raises Refused, NetlinkError."""
        found = self._get(device)
        if found is None:
            raise Refused(errors.ENODEV, f"there is no device {device!r} to send to")
        return found.ifindex


def _ours(policers: Iterable[police.PolicerReading]) -> dict[int, PolicerCounters]:
    return {one.number: PolicerCounters(one.packets, one.exceeded) for one in policers if one.number in POLICE_INDEXES}


def _hooks(qdiscs: Sequence[qdisc.QdiscReading]) -> list[int]:
    """Where filters may stand: the root's own list, an HTB's, that of a queue with flows of its own, and both sides of
    clsact (ingress has but the one)."""
    hooks = [
        reading.handle
        for reading in qdiscs
        if reading.handle and (reading.parent == ROOT or reading.kind in ("htb", *_FLOWS))
    ]
    for reading in qdiscs:
        if reading.parent == CLSACT:
            hooks += [CLSACT_EGRESS, CLSACT_INGRESS] if reading.kind == "clsact" else [CLSACT_INGRESS]
    return hooks
