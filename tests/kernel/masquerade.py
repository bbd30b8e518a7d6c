"""Random policies on a router that masquerades: packets sent from inside, and their answers from outside.

A packet is known by what it was before its source was translated, an answer by what it will be once its destination is
translated back. Connections of one policy are met again by the next, and hosts inside that use the same port meet the
same hosts outside, so that masquerading gives them other ports.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import policy_samples
from agreement import Totals, accepted
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from collectors.netlink import inside
from shaper.compile import compile_interface
from shaper.compile.program import Program
from shaper.kernel.netlink import NetlinkKernel
from shaper.model.match import NETWORK_CONTROL, Packet, classify
from shaper.model.policy import Direction, Interface
from shaper.plan import diff
from shaper.tree import Capabilities
from shaper.tree.marks import CONNMARK

if TYPE_CHECKING:
    from conftest import Lab

FIELDS = (
    *("family", "proto", "src", "dst", "net", "sport", "dport", "port"),
    *("dscp", "tos", "ecn", "tcp-flags", "icmp-type", "length", "ethertype"),
)
_V4, _V6 = 0x0800, 0x86DD
_HOSTS = {
    4: ("10.0.0.1", "10.0.0.2", "10.1.2.3", "192.168.1.1"),
    6: ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::", "fd00::5"),
}
_OUTSIDE = {4: ("203.0.113.5", "198.51.100.7"), 6: ("2001:db8:ffff::5", "2001:db8:fffe::7")}
_PORTS = (1, 53, 80, 443, 5060, 16384, 20000, 65535)
_DSCPS = (0, 8, 10, 34, 46, 63)
_MACS = {name: f"02:00:00:00:00:{number:02x}" for number, name in enumerate(("host", "in0", "wan0", "net"), 1)}
_WAIT = 2.0
_RULES = """\
table ip nat {
  chain leaving {
    type nat hook postrouting priority 100
    oifname "wan0" masquerade
  }
}
table ip6 nat {
  chain leaving {
    type nat hook postrouting priority 100
    oifname "wan0" masquerade
  }
}
"""


class Sent(NamedTuple):
    """A frame, and what it is inside."""

    data: bytes
    packet: Packet


class Router:
    """Three namespaces in a row: hosts inside, the router, the network outside."""

    def __init__(self, lab: Lab, hosts: str, known: Capabilities | None = None) -> None:
        """`hosts` is an empty namespace."""
        self._lab = lab
        self.kernel = lab.kernel(known=known)
        for there, far, near in ((hosts, "host", "in0"), (lab.peer, "net", "wan0")):
            lab.run(f"ip link add {near} type veth peer name {far} netns {there}")
            for namespace, device in ((there, far), (lab.name, near)):
                lab.run(f"ip -netns {namespace} link set {device} address {_MACS[device]} addrgenmode none up")
        for setting in ("ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1", "ipv4.conf.all.rp_filter=0"):
            lab.run(f"sysctl -qw net.{setting}")
        lab.run("sysctl -qw net.ipv4.conf.in0.rp_filter=0 net.ipv4.conf.wan0.rp_filter=0")
        lab.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1")
        for device, address, far, hop, nets in (
            ("in0", "10.255.0.1/24", "host", "10.255.0.2", ("10.0.0.0/8", "192.168.0.0/16")),
            ("in0", "fd77::1/64", "host", "fd77::2", ("2001:db8::/64", "2001:db8:0:1::/64", "fd00::/64")),
            ("wan0", "192.0.2.1/24", "net", "192.0.2.2", ("default",)),
            ("wan0", "2001:db8:aaaa::1/64", "net", "2001:db8:aaaa::2", ("default",)),
        ):
            lab.run(f"ip addr add {address} dev {device}" + (" nodad" if ":" in address else ""))
            lab.run(f"ip neigh replace {hop} lladdr {_MACS[far]} dev {device} nud permanent")
            for net in nets:
                lab.run(f"ip route replace {net} via {hop} dev {device}")
        self._hosts = inside(hosts, lambda: _tap("host"))
        self._net = inside(lab.peer, lambda: _tap("net"))

    def masquerade(self) -> None:
        """From now on, by rules of somebody else's. Needs nft."""
        program = f"printf '%s' '{_RULES}' | nft -f -"
        self._lab.run(f"sh -c {_quoted(program)}")

    def close(self) -> None:
        self._hosts.close()
        self._net.close()

    def send(self, frame: bytes) -> bytes:
        """From inside; the frame as it arrives outside, translated."""
        _drain(self._net)
        self._hosts.send(frame)
        return _arrived(self._net)

    def answer(self, frame: bytes) -> None:
        """From outside."""
        self._net.send(frame)

    def obey(self, interface: Interface) -> Program:
        """As an apply does it: what is read back is what was wanted."""
        kernel, shaped = self.kernel, interface.shaped
        program = compile_interface(interface, kernel.capabilities(), kernel.link(interface.device), tap=False)
        plan = diff(kernel.read(shaped, fed_by=interface.fed_by), program.tree, bounds={})
        kernel.send(shaped, plan.steps)
        assert kernel.read(shaped, fed_by=interface.fed_by) == program.tree
        return program

    def counts(self, program: Program) -> dict[str, int]:
        """Packets of each class so far."""
        classes = self.kernel.counters(program.tree.device).classes
        return {
            leaf.path: classes[program.handles[leaf.path]].sent_packets
            for leaf in program.interface.leaves()
            if leaf.path != NETWORK_CONTROL  # the router looks for its neighbours meanwhile
        }

    def delivered(self, frame: bytes) -> bytes:
        """An answer from outside, and the frame as it arrives inside."""
        _drain(self._hosts)
        self.answer(frame)
        return _arrived(self._hosts)


class Trial:
    """One router, and what its two directions obey."""

    def __init__(self, router: Router, directions: tuple[Direction, ...], nat: str) -> None:
        self._nat = nat
        self._router = router
        self._directions = directions

    def run(self, seed: int, packets: int, totals: Totals) -> None:
        """One policy and its packets with their answers, all from the seed."""
        random = Random(seed)
        sent = [packet(random) for _ in range(packets)]
        written = policy_samples.classes(random, [one.packet for one in sent], fields=FIELDS)
        interfaces = accepted(
            written, device="wan0", nat=self._nat, bandwidth=dict.fromkeys(self._directions, "10gbit")
        )
        programs = {interface.direction: self._router.obey(interface) for interface in interfaces}
        totals.policies += 1
        totals.rules += len(interfaces[0].rules().ordered)
        totals.fields.update(interfaces[0].rules().asked().keys())
        for number, one in enumerate(sent):
            totals.packets += 1
            totals.versions["IPv4" if one.packet.ethertype == _V4 else "IPv6"] += 1
            where = f"seed {seed}, packet {number}"
            before = self._router.counts(programs[Direction.EGRESS])
            arrived = self._router.send(one.data)
            totals.translated += _addresses(arrived)[0] != _addresses(one.data)[0]
            totals.moved_ports += one.packet.sport is not None and _sport(arrived) != one.packet.sport
            self._compare(where, one.packet, interfaces[0], programs, before, totals)
            if Direction.INGRESS in programs:
                before = self._router.counts(programs[Direction.INGRESS])
                self._router.answer(turned(arrived))
                totals.answers += 1
                self._compare(f"{where}, its answer", answer_of(one.packet), interfaces[1], programs, before, totals)

    def _compare(
        self,
        where: str,
        seen: Packet,
        interface: Interface,
        programs: dict[Direction, Program],
        before: dict[str, int],
        totals: Totals,
    ) -> None:
        named = classify(interface.rules(), seen)
        totals.by_rule += named != "rest"
        for _ in range(1000):
            now = self._router.counts(programs[interface.direction])
            moved = [path for path, count in now.items() if count != before[path]]
            if moved:
                break
        if moved != [named]:
            totals.differences.append(f"{where}: counted in {moved}, named {named}: {seen}")


@contextlib.contextmanager
def masquerading(lab: Lab, *, known: Capabilities | None = None) -> Iterator[Router]:
    """A router in a lab's namespaces, and hosts of its own behind it; `known` is what its kernel is taken to have."""
    hosts = type(lab)()
    with contextlib.ExitStack() as stack:
        stack.callback(hosts.close)
        hosts.open()
        router = Router(lab, hosts.name, known)
        stack.callback(router.close)
        router.masquerade()
        yield router


def gives_marks(kernel: NetlinkKernel) -> bool:
    """Whether what comes in can have the mark of its connection."""
    actions = kernel.capabilities().actions
    return "ctinfo" in actions or actions >= CONNMARK


def masqueraded(router: Router, seeds: range, packets: int, *, nat: str = "auto") -> Iterator[Totals]:
    """The totals, after each policy; of the answers too where the kernel gives them the marks of their connections."""
    comes_in = gives_marks(router.kernel)
    totals, trial = Totals(), Trial(router, tuple(Direction) if comes_in else (Direction.EGRESS,), nat)
    for seed in seeds:
        trial.run(seed, packets, totals)
        yield totals


def packet(random: Random) -> Sent:
    """From a host inside to one outside: TCP, UDP or an echo request, with its checksums."""
    version = random.choice((4, 6))
    source, target = random.choice(_HOSTS[version]), random.choice(_OUTSIDE[version])
    dscp, ecn, load = random.choice(_DSCPS), random.randrange(4), bytes(random.choice((0, 4, 40, 100)))
    sport, dport = random.choice(_PORTS), random.choice(_PORTS)
    seen = Packet(_V4 if version == 4 else _V6, 17, _number(source), _number(target), sport, dport, dscp, ecn=ecn)
    ip = IP(src=source, dst=target, tos=dscp << 2 | ecn) if version == 4 else IPv6(
        src=source, dst=target, tc=dscp << 2 | ecn
    )  # fmt: skip
    kind = random.choice(("udp", "udp", "tcp", "tcp", "echo"))
    if kind == "udp":
        upper = UDP(sport=sport, dport=dport)
    elif kind == "tcp":
        flags = random.choice((0x10, 0x18))  # in the middle of a connection, which the router takes up
        upper = TCP(sport=sport, dport=dport, flags=flags)
        seen = seen._replace(protocol=6, tcp_flags=flags)
    else:
        number = random.randrange(1 << 16)
        upper = ICMP(type=8, id=number) if version == 4 else ICMPv6EchoRequest(id=number)
        protocol, asking = (1, 8) if version == 4 else (58, 128)
        seen = seen._replace(protocol=protocol, icmp_type=asking, sport=None, dport=None)
    whole = bytes(ip / upper / Raw(load))
    return Sent(between_hosts(ip / upper / Raw(load)), seen._replace(length=len(whole), src_mac=None, dst_mac=None))


def between_hosts(packet: ScapyPacket) -> bytes:
    """The frame that takes a packet from the hosts to the router."""
    return bytes(Ether(src=_MACS["host"], dst=_MACS["in0"]) / packet)


def answer_of(seen: Packet) -> Packet:
    """The answer as it is inside."""
    kinds = {8: 0, 128: 129}
    return seen._replace(
        src=seen.dst,
        dst=seen.src,
        sport=seen.dport,
        dport=seen.sport,
        icmp_type=kinds.get(seen.icmp_type) if seen.icmp_type is not None else None,
    )


def turned(frame: bytes) -> bytes:
    """The answer to a frame as it arrived: source and destination change places, an echo request becomes a reply.

    The sums over the addresses and ports stay right, since a sum does not know their order.
    """
    data = bytearray(frame)
    data[0:6], data[6:12] = frame[6:12], frame[0:6]
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    at, size, upper = (26, 4, 34) if ethertype == _V4 else (22, 16, 54)
    data[at : at + size], data[at + size : at + 2 * size] = frame[at + size : at + 2 * size], frame[at : at + size]
    protocol = frame[23] if ethertype == _V4 else frame[20]
    if protocol in (6, 17):
        data[upper : upper + 2], data[upper + 2 : upper + 4] = frame[upper + 2 : upper + 4], frame[upper : upper + 2]
    else:
        data[upper] = {8: 0, 128: 129}[frame[upper]]
    return bytes(data)


def _addresses(frame: bytes) -> tuple[bytes, bytes]:
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    at, size = (26, 4) if ethertype == _V4 else (22, 16)
    return frame[at : at + size], frame[at + size : at + 2 * size]


def _sport(frame: bytes) -> int:
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    return int(struct.unpack_from("!H", frame, 34 if ethertype == _V4 else 54)[0])


def _is_noise(frame: bytes) -> bool:
    """What the router says to its neighbours: ARP, neighbour discovery, reports of groups."""
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    if ethertype == _V6:
        return frame[20] == 0 or (frame[20] == 58 and frame[54] >= 130)
    return bool(ethertype != _V4)


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address), "big")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _tap(device: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    tap.bind((device, 0))
    tap.settimeout(_WAIT)
    return tap


def _drain(tap: socket.socket) -> None:
    tap.setblocking(False)
    try:
        while True:
            tap.recv(4096)
    except BlockingIOError:
        tap.settimeout(_WAIT)


def _arrived(tap: socket.socket) -> bytes:
    while True:
        data, (_, _, kind, _, _) = tap.recvfrom(4096)
        if kind != socket.PACKET_OUTGOING and not _is_noise(data):
            return data
