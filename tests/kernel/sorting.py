"""Frames, rules, and a device whose HTB sorts real packets into classes, by BPF, flower or u32."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, LLC, STP, Dot3, Ether
from scapy.packet import Packet, Raw

from collectors.bpf.delays import KernelDelays
from shaper.compile.classifier import classifier, lookup_classifier
from shaper.compile.flower import flower_filters
from shaper.compile.stamp import FILTER_HANDLE, NAME, PREFERENCE
from shaper.compile.u32 import u32_filters
from shaper.model.match import Match, PortRange, Prefix, Rule, Rules, network_control_matches
from shaper.plan import diff
from shaper.plan.steps import Plan
from shaper.tree import (
    CLSACT,
    CLSACT_EGRESS,
    CLSACT_HANDLE,
    ROOT,
    BpfFilter,
    Filter,
    Handle,
    HtbClass,
    HtbOptions,
    Insn,
    LoadedFilter,
    LookupProgram,
    Node,
    Qdisc,
    Tree,
    ticks,
    tree,
)

if TYPE_CHECKING:
    from conftest import Lab

CLASSES = ("control", "voice", "web", "backup", "rest")
RULES = Rules(
    (
        *(Rule((match,), "control") for match in network_control_matches()),
        Rule((Match(dscp=(46,)),), "voice"),
        Rule((Match(protocols=(17,), dport=(PortRange(16384, 32767),)),), "voice"),
        Rule((Match(protocols=(6,)), Match(dport=(PortRange(80, 80), PortRange(443, 443)))), "web"),
        Rule((Match(dst=(Prefix(4, 0xCB007100, 24), Prefix(6, 0x20010DB8 << 96, 32))),), "backup"),
    ),
    "rest",
)
MAC = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
V4, V6 = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "fd00::1", "dst": "fd00::2"}
VOICE = UDP(sport=5000, dport=20000) / Raw(bytes(40))
EXTENSIONS = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()

ON_ITS_OWN, LLC_FRAME = 0, 4
"""What stands for the ethertype: what the frame says, or ETH_P_802_2, as with frames of the kernel's own bridge."""

FRAMES: Sequence[tuple[str, Packet, int]] = (
    ("control", Ether(**MAC) / ARP(psrc="10.0.0.1", pdst="10.0.0.2"), ON_ITS_OWN),
    ("control", Dot3(**MAC) / LLC() / STP(), LLC_FRAME),
    ("control", Ether(**MAC) / IPv6(**V6) / ICMPv6ND_NS(tgt="fd00::2"), ON_ITS_OWN),
    ("control", Ether(**MAC) / IP(**V4) / UDP(sport=68, dport=67) / Raw(bytes(20)), ON_ITS_OWN),
    ("control", Ether(**MAC) / IP(**V4) / TCP(sport=179, dport=40000), ON_ITS_OWN),
    ("control", Ether(**MAC) / IP(**V4, proto=89) / Raw(bytes(24)), ON_ITS_OWN),
    ("voice", Ether(**MAC) / IP(**V4, tos=46 << 2 | 1) / ICMP(), ON_ITS_OWN),
    ("voice", Ether(**MAC) / IPv6(**V6, tc=46 << 2) / TCP(dport=80), ON_ITS_OWN),
    ("voice", Ether(**MAC) / IP(**V4) / VOICE, ON_ITS_OWN),
    ("voice", Ether(**MAC) / IP(**V4, options=[IPOption_Router_Alert()]) / VOICE, ON_ITS_OWN),
    ("rest", Ether(**MAC) / IP(**V4, flags="MF") / VOICE, ON_ITS_OWN),
    ("voice", Ether(**MAC) / IPv6(**V6) / EXTENSIONS / VOICE, ON_ITS_OWN),
    ("rest", Ether(**MAC) / IPv6(**V6) / IPv6ExtHdrFragment(m=1, id=7) / VOICE, ON_ITS_OWN),
    ("rest", Ether(**MAC) / IPv6(**V6) / IPv6ExtHdrFragment(m=0, id=7) / VOICE, ON_ITS_OWN),
    ("voice", Ether(**MAC) / IP(**V4, tos=46 << 2, flags="MF") / VOICE, ON_ITS_OWN),
    ("rest", Ether(**MAC) / IP(**V4, frag=100, proto=17) / bytes(VOICE), ON_ITS_OWN),
    ("rest", Ether(**MAC) / IPv6(**V6) / IPv6ExtHdrFragment(offset=100, id=7, nh=17) / Raw(bytes(VOICE)), ON_ITS_OWN),
    ("web", Ether(**MAC) / IP(**V4) / TCP(dport=443), ON_ITS_OWN),
    ("web", Ether(**MAC) / IPv6(**V6) / EXTENSIONS / TCP(dport=80), ON_ITS_OWN),
    ("rest", Ether(**MAC) / IP(**V4) / UDP(dport=443) / Raw(bytes(20)), ON_ITS_OWN),
    ("backup", Ether(**MAC) / IP(src="10.0.0.1", dst="203.0.113.9") / ICMP(), ON_ITS_OWN),
    ("backup", Ether(**MAC) / IPv6(src="fd00::1", dst="2001:db8::5") / ICMPv6EchoRequest(), ON_ITS_OWN),
    ("rest", Ether(**MAC) / IP(**V4) / TCP(dport=8080), ON_ITS_OWN),
    ("rest", Ether(**MAC, type=0x88B5) / Raw(bytes(46)), ON_ITS_OWN),
    (
        "rest",
        Ether(**MAC) / IP(**V4, proto=17, len=22) / Raw(b"\x13\x88"),
        ON_ITS_OWN,
    ),  # the transport header is cut off
)


def quiet_link(netns: Lab, device: str = "q0") -> str:
    """A device on which nobody but the test sends."""
    netns.run(f"ip link add {device} type veth peer name {device}-peer")
    for end in (device, f"{device}-peer"):
        netns.run(f"sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1")
        netns.run(f"ip link set {end} up")
    return device


TOP: Handle = 0x5A000000
Means = Callable[[Rules, dict[str, Handle]], Sequence[Filter]]


def by_bpf(rules: Rules, classids: dict[str, Handle]) -> Sequence[Filter]:
    """One program."""
    return (BpfFilter(TOP, 10, 1, classifier(rules, classids)),)


def by_flower(rules: Rules, classids: dict[str, Handle]) -> Sequence[Filter]:
    """Filters of one value each. Raises UnavailableError."""
    return flower_filters(rules, classids, TOP)


def by_u32(rules: Rules, classids: dict[str, Handle]) -> Sequence[Filter]:
    """Filters of a few words each, and their tables. Raises UnavailableError."""
    return u32_filters(rules, classids, TOP)


class Sorter:
    """A quiet device that puts packets into the classes of some rules; the last of the `paths` is the default."""

    def __init__(self, netns: Lab, paths: Sequence[str], means: Means, device: str = "q0") -> None:
        self._lab = netns
        self._kernel = netns.kernel()
        self._means = means
        self.device = quiet_link(netns, device)
        self._classids = {path: TOP | 0x10 + number for number, path in enumerate(paths)}
        rate = 100_000_000
        self._ground: list[Node] = [
            Qdisc(TOP, ROOT, "htb", HtbOptions(self._classids[paths[-1]] & 0xFFFF)),
            HtbClass(TOP | 1, TOP, rate, rate, ticks(20_000, rate), ticks(20_000, rate), 0, 1514),
            *(
                HtbClass(classid, TOP | 1, 8_000_000, rate, ticks(20_000, 8_000_000), ticks(20_000, rate), 0, 1514)
                for classid in self._classids.values()
            ),
        ]

    def obey(self, rules: Rules) -> Plan:
        """From whatever stands there to these rules, by a plan; what is read back is what was wanted."""
        wanted = tree(self.device, [*self._ground, *self.filters(rules)])
        plan = diff(self.read(), wanted, bounds={})
        self._kernel.send(self.device, plan.steps)
        assert self.read() == wanted
        return plan

    def filters(self, rules: Rules) -> Sequence[Filter]:
        """What sorts by the rules. Raises UnavailableError."""
        return self._means(rules, self._classids)

    def there_and_back(self, rules: Rules) -> None:
        """As `obey`, and by the plan's inverse back, and there again: what stands is the same each time."""
        before = self.read()
        plan = self.obey(rules)
        after = self.read()
        for steps, wanted in ((plan.inverse(), before), (plan, after)):
            self._kernel.send(self.device, steps.steps)
            assert self.read() == wanted

    def read(self) -> Tree:
        return self._kernel.read(self.device)

    def devices(self) -> dict[str, int]:
        """The numbers of those by which a packet may come in."""
        facts = self._kernel.link(self.device)
        return {facts.name: facts.index, **{one.device: one.number for one in facts.feeders}}

    def class_of(self, frame: bytes, protocol: int = ON_ITS_OWN, *, by: str = "", priority: int = 0) -> str:
        """Sends the frame, or hands it to the device `by` that is upon this one; the class that it was counted in.

        `priority` is the kernel's of the packet.
        """

        def transmit() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, priority)
                sender.sendto(frame, (by or self.device, protocol))

        before = self.counts()
        self._lab.inside(transmit)
        (moved,) = (path for path, count in self.counts().items() if count != before[path])
        return moved

    def counts(self) -> dict[str, int]:
        """Packets of each class so far."""
        classes = self._kernel.counters(self.device).classes
        return {path: classes[classid].sent_packets for path, classid in self._classids.items()}


class ByPriority(Sorter):
    """Sorts by the program that measures in front of the queue; its filter puts all into the default class."""

    def __init__(self, netns: Lab, paths: Sequence[str], device: str = "q0") -> None:
        super().__init__(netns, paths, lambda *_: (), device)
        self._ground.append(Qdisc(CLSACT_HANDLE, CLSACT, "clsact"))
        self._held: KernelDelays | None = None

    def obey(self, rules: Rules) -> Plan:
        handles = tuple(self._classids.values())
        program = classifier(rules, self._classids, devices=self.devices(), quick=True)
        made = KernelDelays(classifier=program, handles=handles, stamps=64, classify=True)
        self._kernel.programs[NAME + f"{made.entry}"] = made.entry
        self._made = made
        plan = super().obey(rules)
        made.start(self.device, netns=self._lab.name)
        self.leave()
        self._held = made
        return plan

    def filters(self, rules: Rules) -> Sequence[Filter]:
        stamp = LoadedFilter(CLSACT_EGRESS, PREFERENCE, FILTER_HANDLE, NAME + f"{self._made.entry}")
        return BpfFilter(TOP, 10, 1, (Insn(0x06, 0, 0, 0),)), stamp

    def leave(self) -> None:
        """As when the process is gone that has loaded it: the program stays, and does nothing."""
        if self._held is not None:
            self._held.close()
            self._held = None


class ByTables(Sorter):
    """Sorts by one program of extended BPF, which is lent for as long as it takes to put it on its filter."""

    def __init__(self, netns: Lab, paths: Sequence[str], device: str = "q0") -> None:
        super().__init__(netns, paths, lambda *_: (), device)

    def obey(self, rules: Rules) -> Plan:
        with self._kernel.lending(self._program(rules)):
            return super().obey(rules)

    def filters(self, rules: Rules) -> Sequence[Filter]:
        return (LoadedFilter(TOP, 10, 1, self._program(rules).name, direct=False),)

    def _program(self, rules: Rules) -> LookupProgram:
        return lookup_classifier(rules, self._classids, devices=self.devices())
