"""Which packet belongs to which class: conditions, rules in order, and the reference classifier.

`classify` is the meaning of a policy. The compiled classifier in the kernel must give the same answer for
every packet; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shaper.errors import Where

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD


class Packet(NamedTuple):
    """What of a packet decides its class. Fields that the packet does not have are None.

    `src` and `dst` are the addresses as integers. Ports are None in protocols other than TCP, UDP, UDP-Lite, DCCP and
    SCTP. A fragment has neither ports nor an ICMP type, the first as little as the others: so all fragments of a
    datagram go to one class and stay in order. A fragment is what IPv4 marks as one (an offset, or more to come), and
    what has IPv6's fragment header, with more fragments or without; its protocol is what that header names.
    """

    ethertype: int
    protocol: int | None = None
    src: int | None = None
    dst: int | None = None
    sport: int | None = None
    dport: int | None = None
    dscp: int | None = None
    icmp_type: int | None = None


class Prefix(NamedTuple):
    """An IPv4 or IPv6 network: `version` 4 or 6, `value` the network address as an integer."""

    version: int
    value: int
    length: int

    @property
    def bits(self) -> int:
        return 32 if self.version == 4 else 128

    @property
    def ethertype(self) -> int:
        return ETHERTYPE_IPV4 if self.version == 4 else ETHERTYPE_IPV6

    def holds(self, packet: Packet, address: int | None) -> bool:
        if address is None or packet.ethertype != self.ethertype:
            return False
        shift = self.bits - self.length
        return address >> shift == self.value >> shift


class PortRange(NamedTuple):
    """Ports `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that must all hold; inside one field any value will do; an empty field asks nothing.

    `ethertypes` and `icmpv6_types` serve the implied network-control class; `where` is the line that said it.
    """

    dscp: tuple[int, ...] = ()
    protocols: tuple[int, ...] = ()
    src: tuple[Prefix, ...] = ()
    dst: tuple[Prefix, ...] = ()
    sport: tuple[PortRange, ...] = ()
    dport: tuple[PortRange, ...] = ()
    ethertypes: tuple[int, ...] = ()
    icmpv6_types: tuple[int, ...] = ()
    where: Where | None = None

    def holds(self, packet: Packet) -> bool:
        """Whether the packet meets every condition."""
        if self.ethertypes and packet.ethertype not in self.ethertypes:
            return False
        if self.dscp and packet.dscp not in self.dscp:
            return False
        if self.protocols and packet.protocol not in self.protocols:
            return False
        if self.icmpv6_types and not (
            packet.ethertype == ETHERTYPE_IPV6 and packet.protocol == 58 and packet.icmp_type in self.icmpv6_types
        ):
            return False
        return (
            _prefix_holds(self.src, packet, packet.src)
            and _prefix_holds(self.dst, packet, packet.dst)
            and _port_holds(self.sport, packet.sport)
            and _port_holds(self.dport, packet.dport)
        )


def _prefix_holds(prefixes: tuple[Prefix, ...], packet: Packet, address: int | None) -> bool:
    return not prefixes or any(prefix.holds(packet, address) for prefix in prefixes)


def _port_holds(ranges: tuple[PortRange, ...], port: int | None) -> bool:
    return not ranges or (port is not None and any(first <= port <= last for first, last in ranges))


class Rule(NamedTuple):
    """Every match of `all_of` must hold; then the packet belongs to the leaf `path`."""

    all_of: tuple[Match, ...]
    path: str


class Rules(NamedTuple):
    """The rules of an interface in the order they are asked, and the leaf for the rest."""

    ordered: tuple[Rule, ...]
    default: str


def classify(rules: Rules, packet: Packet) -> str:
    """The path of the leaf class that the packet belongs to: the first rule that holds, else the default."""
    for rule in rules.ordered:
        if all(match.holds(packet) for match in rule.all_of):
            return rule.path
    return rules.default


NETWORK_CONTROL = "network-control"

ETHERTYPE_LLC = 0x0004
"""What stands for the ethertype in IEEE 802.3 frames, which carry a length (below 0x600) in its place."""

# ARP, RARP, LLDP, slow protocols (LACP), EAPOL, and IEEE 802.3 frames by length (STP, IS-IS).
_CONTROL_ETHERTYPES = (0x0806, 0x8035, 0x88CC, 0x8809, 0x888E, ETHERTYPE_LLC)
_TCP, _UDP = 6, 17
_OSPF_ROUTERS = tuple(Prefix(6, 0xFF02 << 112 | number, 128) for number in (5, 6))


def _ports(*ports: int) -> tuple[PortRange, ...]:
    return tuple(PortRange(port, port) for port in ports)


def network_control_matches() -> Sequence[Match]:
    """What the implied network-control class takes: ARP, neighbour discovery, DHCP, routing protocols, BFD, VRRP."""
    return (
        Match(ethertypes=_CONTROL_ETHERTYPES),
        Match(icmpv6_types=(130, 131, 132, 133, 134, 135, 136, 137, 143)),  # MLD and neighbour discovery
        Match(protocols=(2, 88, 89, 103, 112)),  # IGMP, EIGRP, OSPF, PIM, VRRP
        Match(dst=_OSPF_ROUTERS),  # OSPFv3 inside IPsec (RFC 4552), which hides the protocol
        Match(protocols=(_UDP,), dport=_ports(67, 68, 546, 547)),  # DHCP
        Match(protocols=(_UDP,), dport=_ports(520, 521, 1985, 3784, 3785, 4784)),  # RIP, HSRP, BFD
        Match(protocols=(_TCP,), dport=_ports(179)),  # BGP
        Match(protocols=(_TCP,), sport=_ports(179)),
    )
