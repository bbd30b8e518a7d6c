"""Which packet belongs to which class: conditions, rules in order, and the reference classifier.

`classify` is the meaning of a policy. The compiled classifier in the kernel must give the same answer for
every packet; tests hold the two together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import chain
from typing import NamedTuple

from shaper.errors import Where
from shaper.model.networks import Networks

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58


class Packet(NamedTuple):
    """What of a packet decides its class. Fields that the packet does not have are None.

    `ethertype` is the one behind up to two VLAN tags in the frame and the one that the device adds; `vlan` and `pcp`
    are of the outermost. `src` and `dst` are the addresses as integers. Ports are None in protocols other than TCP,
    UDP, UDP-Lite, DCCP and SCTP. `tcp_flags` is the byte with FIN as 1 and CWR as 128. `length` is in IP bytes, as the
    IP header says (MAX_LENGTH where it is too large to say). `mark` is the kernel's, `iif` the device it came in by,
    `cgroup` the path of its socket's group. `inner` is the packet that a tunnel carries: IP in IP; GRE of version 0
    with a checksum, key and sequence number or without; VXLAN to its own port; one level deep.

    A fragment has neither ports, ICMP type, TCP flags nor an inner packet, the first as little as the others: so all
    fragments of a datagram go to one class and stay in order. A fragment is what IPv4 marks as one (an offset, or more
    to come), and what has IPv6's fragment header, with more fragments or without; its protocol is what that header
    names.
    """

    ethertype: int
    protocol: int | None = None
    src: int | None = None
    dst: int | None = None
    sport: int | None = None
    dport: int | None = None
    dscp: int | None = None
    icmp_type: int | None = None
    ecn: int | None = None
    tcp_flags: int | None = None
    length: int | None = None
    vlan: int | None = None
    pcp: int | None = None
    src_mac: int | None = None
    dst_mac: int | None = None
    mark: int = 0
    iif: str | None = None
    cgroup: str | None = None
    inner: Packet | None = None

    @property
    def tos(self) -> int | None:
        """The whole byte: IPv4's type of service, IPv6's traffic class."""
        return None if self.dscp is None else self.dscp << 2 | (self.ecn or 0)


MAX_LENGTH = 65535


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


_FEW = 16
"""Networks and rules that are asked one after the other."""


class PortRange(NamedTuple):
    """Ports `first` to `last`, both included; lengths and VLAN tags come as such, too."""

    first: int
    last: int


class Masked(NamedTuple):
    """A number of which only the bits of `mask` are asked."""

    value: int
    mask: int

    def holds(self, number: int | None) -> bool:
        return number is not None and number & self.mask == self.value


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that must all hold; inside one field any value will do; an empty field asks nothing.

    `net`, `port` and `mac` are met by the source or the destination. A cgroup holds for the groups below it, too.
    `inner` asks the packet in a tunnel, and holds for none where there is no tunnel. Of `any_of` one must hold, of
    `all_of` every one, of `none_of` none: so a negation holds where the packet does not have the field.
    `where` is the line that said it.
    """

    dscp: tuple[int, ...] = ()
    protocols: tuple[int, ...] = ()
    src: tuple[Prefix, ...] = ()
    dst: tuple[Prefix, ...] = ()
    sport: tuple[PortRange, ...] = ()
    dport: tuple[PortRange, ...] = ()
    ethertypes: tuple[int, ...] = ()
    net: tuple[Prefix, ...] = ()
    port: tuple[PortRange, ...] = ()
    tos: tuple[Masked, ...] = ()
    ecn: tuple[int, ...] = ()
    icmp: tuple[tuple[int, int], ...] = ()
    """Protocol (ICMP or ICMPv6, each in its own IP version) and type."""
    tcp_flags: tuple[Masked, ...] = ()
    length: tuple[PortRange, ...] = ()
    vlan: tuple[PortRange, ...] = ()
    pcp: tuple[int, ...] = ()
    src_mac: tuple[int, ...] = ()
    dst_mac: tuple[int, ...] = ()
    mac: tuple[int, ...] = ()
    mark: tuple[Masked, ...] = ()
    iif: tuple[str, ...] = ()
    cgroup: tuple[str, ...] = ()
    inner: Match | None = None
    any_of: tuple[Match, ...] = ()
    all_of: tuple[Match, ...] = ()
    none_of: tuple[Match, ...] = ()
    where: Where | None = None
    asks: tuple[str, ...] = field(init=False, compare=False, repr=False)
    """The names of the fields that ask something: what carries a match must know every one of them, or refuse it."""
    long: Mapping[str, Networks[bool]] = field(init=False, compare=False, repr=False)
    """The fields with long lists of networks, as they are asked quickly."""

    def __post_init__(self) -> None:
        asking = tuple(name for name in _conditions() if getattr(self, name))
        object.__setattr__(self, "asks", asking)
        long = [name for name in ("src", "dst", "net") if len(getattr(self, name)) > _FEW]
        object.__setattr__(self, "long", {name: Networks([(True, getattr(self, name))]) for name in long})

    def holds(self, packet: Packet) -> bool:
        """Whether the packet meets every condition."""
        return all(self.meets(name, packet) for name in self.asks)

    def parts(self) -> Iterable[Match]:
        """The matches of which this one is made, those in `inner` apart."""
        return (*self.any_of, *self.all_of, *self.none_of)

    def fields(self) -> Iterator[str]:
        """The fields that it or a part of it asks for; of a tunnel only `inner`."""
        yield from self.asks
        for part in self.parts():
            yield from part.fields()

    def meets(self, name: str, packet: Packet) -> bool:
        """Whether the packet meets the condition in one field."""
        match name:
            case "ethertypes":
                return packet.ethertype in self.ethertypes
            case "protocols":
                return packet.protocol in self.protocols
            case "src" | "dst":
                return self._in_network(name, packet, getattr(packet, name))
            case "net":
                return any(self._in_network(name, packet, address) for address in (packet.src, packet.dst))
            case "port":
                return _in_range(self.port, packet.sport) or _in_range(self.port, packet.dport)
            case "sport" | "dport" | "length" | "vlan":
                return _in_range(getattr(self, name), getattr(packet, name))
            case "icmp":
                return _icmp(packet) in self.icmp
            case "tos" | "tcp_flags" | "mark":
                return any(wanted.holds(getattr(packet, name)) for wanted in getattr(self, name))
            case "mac":
                return packet.src_mac in self.mac or packet.dst_mac in self.mac
            case "cgroup":
                return packet.cgroup is not None and any(_below(packet.cgroup, group) for group in self.cgroup)
            case "inner":
                return packet.inner is not None and self.inner is not None and self.inner.holds(packet.inner)
            case "any_of":
                return any(part.holds(packet) for part in self.any_of)
            case "all_of":
                return all(part.holds(packet) for part in self.all_of)
            case "none_of":
                return not any(part.holds(packet) for part in self.none_of)
            case _:  # one number of a few
                return getattr(packet, name) in getattr(self, name)

    def _in_network(self, name: str, packet: Packet, address: int | None) -> bool:
        if name in self.long:
            return any(self.long[name].holding(packet.ethertype, address))
        return any(prefix.holds(packet, address) for prefix in getattr(self, name))

    def turned(self) -> Match:
        """The same of the packets that go the other way: source and destination change places, all else stays."""
        return replace(
            self,
            src=self.dst,
            dst=self.src,
            sport=self.dport,
            dport=self.sport,
            src_mac=self.dst_mac,
            dst_mac=self.src_mac,
            inner=self.inner and self.inner.turned(),
            any_of=tuple(part.turned() for part in self.any_of),
            all_of=tuple(part.turned() for part in self.all_of),
            none_of=tuple(part.turned() for part in self.none_of),
        )


@cache
def _conditions() -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(Match) if each.init and each.name != "where")


def _icmp(packet: Packet) -> tuple[int, int] | None:
    """Protocol and type of an ICMP message in its own IP version."""
    own = {ICMP: ETHERTYPE_IPV4, ICMPV6: ETHERTYPE_IPV6}
    if packet.protocol is None or packet.icmp_type is None or own.get(packet.protocol) != packet.ethertype:
        return None
    return packet.protocol, packet.icmp_type


def _in_range(ranges: tuple[PortRange, ...], number: int | None) -> bool:
    return number is not None and any(first <= number <= last for first, last in ranges)


def _below(path: str, group: str) -> bool:
    return path == group or path.startswith(f"{group.rstrip('/')}/")


class Rule(NamedTuple):
    """Every match of `all_of` must hold; then the packet belongs to the leaf `path`."""

    all_of: tuple[Match, ...]
    path: str

    def holds(self, packet: Packet) -> bool:
        return all(match.holds(packet) for match in self.all_of)

    def turned(self) -> Rule:
        """The same of the packets that go the other way."""
        return Rule(tuple(match.turned() for match in self.all_of), self.path)


@dataclass(frozen=True)
class Rules:
    """The rules of an interface in the order they are asked, and the leaf for the rest."""

    ordered: tuple[Rule, ...]
    default: str

    def holding(self, packet: Packet) -> Iterator[Rule]:
        """The rules that hold for the packet, in their order."""
        return (rule for rule in self._candidates(packet) if rule.holds(packet))

    def _candidates(self, packet: Packet) -> Iterable[Rule]:
        """Of many rules only those that may hold by what they ask of the addresses."""
        if len(self.ordered) <= _FEW:
            return self.ordered
        loose, by_side = self._found
        by_address = (by_side[side].holding(packet.ethertype, getattr(packet, side)) for side in ("src", "dst"))
        return (self.ordered[place] for place in sorted({*loose, *chain.from_iterable(by_address)}))

    @cached_property
    def _found(self) -> tuple[list[int], Mapping[str, Networks[int]]]:
        """By their places the rules that ask for no address, and of each other one list, by the address it asks."""
        loose: list[int] = []
        lists: dict[str, list[tuple[int, tuple[Prefix, ...]]]] = {"src": [], "dst": []}
        for place, rule in enumerate(self.ordered):
            asked = next(
                ((name, match) for match in rule.all_of for name in ("src", "dst", "net") if name in match.asks), None
            )
            if asked is None:
                loose.append(place)
                continue
            name, match = asked
            for side in ("src", "dst") if name == "net" else (name,):
                lists[side].append((place, getattr(match, name)))
        return loose, {side: Networks(held) for side, held in lists.items()}

    def asked(self) -> dict[str, Where | None]:
        """Every field that some match asks for, and where the first does."""
        found: dict[str, Where | None] = {}
        for rule in self.ordered:
            for match in rule.all_of:
                for name in match.fields():
                    found.setdefault(name, match.where)
        return found


def classify(rules: Rules, packet: Packet) -> str:
    """The path of the leaf class that the packet belongs to: the first rule that holds, else the default."""
    return next((rule.path for rule in rules.holding(packet)), rules.default)


NETWORK_CONTROL = "network-control"

ETHERTYPE_LLC = 0x0004
"""What stands for the ethertype in IEEE 802.3 frames, which carry a length (below 0x600) in its place."""

# ARP, RARP, LLDP, slow protocols (LACP), EAPOL, and IEEE 802.3 frames by length (STP, IS-IS).
_CONTROL_ETHERTYPES = (0x0806, 0x8035, 0x88CC, 0x8809, 0x888E, ETHERTYPE_LLC)
_OSPF_ROUTERS = tuple(Prefix(6, 0xFF02 << 112 | number, 128) for number in (5, 6))


def _ports(*ports: int) -> tuple[PortRange, ...]:
    return tuple(PortRange(port, port) for port in ports)


def network_control_matches() -> Sequence[Match]:
    """What the implied network-control class takes: ARP, neighbour discovery, DHCP, routing protocols, BFD, VRRP."""
    return (
        Match(ethertypes=_CONTROL_ETHERTYPES),
        Match(icmp=tuple((ICMPV6, number) for number in (*range(130, 138), 143))),  # MLD and neighbour discovery
        Match(protocols=(2, 88, 89, 103, 112)),  # IGMP, EIGRP, OSPF, PIM, VRRP
        Match(dst=_OSPF_ROUTERS),  # OSPFv3 inside IPsec (RFC 4552), which hides the protocol
        Match(protocols=(UDP,), dport=_ports(67, 68, 546, 547)),  # DHCP
        Match(protocols=(UDP,), dport=_ports(520, 521, 1985, 3784, 3785, 4784)),  # RIP, HSRP, BFD
        Match(protocols=(TCP,), dport=_ports(179)),  # BGP
        Match(protocols=(TCP,), sport=_ports(179)),
    )
