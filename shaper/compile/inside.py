"""Addresses and ports as they are inside, where the device translates them.

Packets wait in a queue with the source that they have outside, and come in with the destination that they have there.
So our nftables table looks at what goes out before it is translated, and writes numbers of its source's network and
port into the packet's mark; for what comes in into the connection's, of which the hook gives them to the packet. What a
rule asks of the inside becomes a question to the mark; where nobody has set one, as for what passes nftables by, the
packet is not translated either, and is asked itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from shaper.compile import mark_numbers as numbers
from shaper.compile.groups import Groups, groups_of
from shaper.compile.mark_numbers import Numbers
from shaper.errors import UnavailableError, Where
from shaper.model.match import NETWORK_CONTROL, Match, PortRange, Prefix, Rule, Rules
from shaper.model.nat import Connection, Nat
from shaper.model.policy import Backend, Classifier, Direction, Interface
from shaper.tree import (
    FAMILY_IPV4,
    FAMILY_IPV6,
    POSTROUTING,
    PREROUTING,
    Capabilities,
    LinkFacts,
    MarkChain,
    MarkSet,
    MarkTable,
    Restore,
    Statement,
    table_name,
)
from shaper.tree.marks import CONNMARK

_BEFORE_TRANSLATION = 90
"""A priority before NF_IP_PRI_NAT_SRC."""
_EARLY = -300
"""NF_IP_PRI_RAW: before anything of the machine's own asks for a mark."""
_ALL = 0xFFFFFFFF
_ANY_PORT = (PortRange(0, 65535),)
_FAMILIES = {4: FAMILY_IPV4, 6: FAMILY_IPV6}


@dataclass(frozen=True, slots=True)
class Inside:
    """What the marks of one direction of an interface say; `why` the sources are taken for translated."""

    interface: Interface
    why: str
    networks: Numbers
    ports: Numbers
    groups: Groups
    connmark: bool = False
    """Whether packets get the marks of their connections by connmark, since the kernel lacks ctinfo."""

    @property
    def connection(self) -> Connection:
        return self.interface.connection

    @property
    def comes_in(self) -> bool:
        return self.interface.direction is Direction.INGRESS

    @property
    def numbered(self) -> bool:
        """Whether a rule asks for something of the inside."""
        return bool(self.networks.width or self.ports.width)

    @property
    def restore(self) -> Restore | None:
        """What the hook gives a packet that comes in."""
        if not self.comes_in:
            return None
        mark = self.networks.unknown.mask | self.ports.unknown.mask
        one = self.connection
        return Restore(mark, one.dscp_bits, one.saved_bit) if one.dscp else Restore(mark, connmark=self.connmark)

    def carried(self, rules: Rules) -> Rules:
        """The rules with their questions to the inside, and for cgroups, put to the mark; network control is the
        router's own.
        """
        rules = self.groups.carried(rules)
        if not self.numbered:
            return rules
        return replace(
            rules,
            ordered=tuple(
                rule if rule.path == NETWORK_CONTROL else Rule(tuple(map(self._carried, rule.all_of)), rule.path)
                for rule in rules.ordered
            ),
        )

    def table(self) -> MarkTable:
        """The table that writes the numbers, into packets or into their connections."""
        leaving = Statement("oifname", text=self.interface.device)
        rules: list[tuple[Statement, ...]] = []
        sets: list[MarkSet] = []
        for bit, held in (*self.networks.sets(), *self.ports.sets()):
            version = {32: 4, 128: 6}.get(held.bits, 0)
            begin = (leaving, Statement("nfproto", _FAMILIES[version])) if version else (leaving,)
            if not held.ranges:
                rules.append((*begin, self._set(0, bit)))
                continue
            sets.append(held)
            for absent in (0, 1):
                asked = Statement("saddr" if version else "sport", version, absent, held.name)
                rules.append((*begin, asked, self._set(0 if absent else bit, bit)))
        if self.connection.dscp and self.comes_in:
            rules += self._saving(leaving)
        chains = [MarkChain("leaving", POSTROUTING, _BEFORE_TRANSLATION, tuple(rules))] if rules else []
        chains += self.groups.chains(leaving)
        if self.restore is not None and self.restore.mark:
            wiping = Statement("iifname", text=self.interface.device), Statement("mark", 0, _ALL ^ self.restore.mark)
            chains.append(MarkChain("arriving", PREROUTING, _EARLY, (wiping,)))
        return MarkTable(table_name(self.interface.shaped), tuple(sorted(sets)), tuple(sorted(chains)))

    def _set(self, bits: int, of: int) -> Statement:
        """No bit that is right already is ever changed, not even for a moment: others read it meanwhile."""
        return Statement("ct-mark" if self.comes_in else "mark", bits, _ALL ^ of)

    def _saving(self, leaving: Statement) -> Iterator[tuple[Statement, ...]]:
        lowest = self.connection.dscp_bits & -self.connection.dscp_bits
        for version, family in _FAMILIES.items():
            for place in range(6):
                for what, bits in (("dscp", lowest << place), ("no-dscp", 0)):
                    asked = Statement(what, version, 1 << place)
                    yield leaving, Statement("nfproto", family), asked, self._set(bits, lowest << place)
        yield leaving, self._set(self.connection.saved_bit, self.connection.saved_bit)

    def _carried(self, match: Match) -> Match:
        questions = tuple(self._questions(match))
        without = replace(match, dst=(), dport=()) if self.comes_in else replace(match, src=(), sport=())
        return replace(
            without,
            net=(),
            port=(),
            any_of=tuple(map(self._carried, match.any_of)),
            all_of=(*map(self._carried, match.all_of), *questions),
            none_of=tuple(map(self._carried, match.none_of)),
        )

    def _questions(self, match: Match) -> Iterator[Match]:
        here, there = self.comes_in, not self.comes_in
        if addresses := match.dst if here else match.src:
            yield Match(any_of=self._in_networks(addresses))
        if match.net:
            yield Match(any_of=(*self._in_networks(match.net), _address(match.net, target=there)))
        if ports := match.dport if here else match.sport:
            yield Match(any_of=self._in_ports(ports))
        if match.port:
            yield Match(any_of=(*self._in_ports(match.port), _port(match.port, target=there)))

    def _in_networks(self, wanted: tuple[Prefix, ...]) -> tuple[Match, ...]:
        untold = replace(_address(wanted, target=self.comes_in), mark=(self.networks.unknown,))
        return Match(mark=self.networks.in_networks(wanted)), untold

    def _in_ports(self, wanted: tuple[PortRange, ...]) -> tuple[Match, ...]:
        """A fragment has no ports, whatever the mark says of the datagram that it is of."""
        told = replace(_port(_ANY_PORT, target=self.comes_in), mark=self.ports.in_ports(wanted))
        return told, replace(_port(wanted, target=self.comes_in), mark=(self.ports.unknown,))

    def hidden(self, rules: Rules) -> Iterator[str]:
        """What rules ask for that a packet on the line does not show."""
        if self.numbered:
            yield "addresses or ports inside"
        if self.connection.dscp and self.comes_in and rules.asked().keys() & {"dscp", "tos"}:
            yield "the DSCP of connections"

    def note(self) -> str:
        """For people."""
        parts = []
        if self.numbered:
            bits = self.networks.unknown.mask | self.ports.unknown.mask
            parts.append(
                f"{self.why}: addresses and ports inside are told by {bits:#010x} of the "
                f"{'connection' if self.comes_in else 'packet'}'s mark, set by nftables table {self.table().name}"
                + (", which packets get by connmark, since the kernel lacks ctinfo" if self.connmark else "")
            )
        if self.connection.dscp and self.comes_in:
            parts.append(
                f"what comes in gets the DSCP that its connection went out with, kept in "
                f"{self.connection.dscp_bits | self.connection.saved_bit:#010x} of the connection's mark"
            )
        if self.groups.paths:
            parts.append(self.groups.note())
        return "; ".join(parts)


def translated(interface: Interface, link: LinkFacts) -> str:
    """Why what the interface sends is taken for translated, "" where it is not."""
    if interface.nat is Nat.AUTO:
        return link.translates
    return "the policy says `nat: yes`" if interface.nat is Nat.YES else ""


def unread_note(interface: Interface, link: LinkFacts) -> Iterator[str]:
    """Where `nat: auto` matters and rules that may translate can't be read."""
    asks = interface.backend is Backend.CAKE or any(
        _of_inside(match, interface.direction is Direction.INGRESS) for match in _asked(interface.rules())
    )
    if interface.nat is Nat.AUTO and not link.translates and link.unread and asks:
        yield (
            f"warning: the nat table of {' and of '.join(link.unread)} is in use, whose rules `nat: auto` cannot read: "
            f"where they translate what {interface.device} sends, write `nat: yes` at the interface, else `nat: no`"
        )


def marks_for(interface: Interface, capabilities: Capabilities, link: LinkFacts) -> Inside | None:
    """None where no mark is needed. Raises UnavailableError, with its line, for what cannot be told by marks here."""
    why, connection = translated(interface, link), interface.connection
    comes_in = interface.direction is Direction.INGRESS
    asked = list(_asked(interface.rules())) if why else []
    address, port = _sides(comes_in)
    wanted = [network for match in asked for network in (*getattr(match, address), *match.net)]
    ranges = [one for match in asked for one in (*getattr(match, port), *match.port)]
    addresses = numbers.networks(wanted, connection.lowest)
    by_connmark = comes_in and "ctinfo" not in capabilities.actions and not connection.dscp
    told = numbers.ports(ranges, connection.lowest + addresses.width)
    groups = groups_of(interface.rules(), connection.lowest + addresses.width + told.width)
    found = Inside(interface, why, addresses, told, groups, by_connmark)
    if groups.paths:
        _require_groups(found, capabilities)
    if not found.numbered and not (connection.dscp and comes_in):
        return found if groups.paths else None
    where = next((match.where for match in asked if _of_inside(match, comes_in)), None) or interface.where
    _require(found, asked, capabilities, where)
    return found


def _require_groups(found: Inside, capabilities: Capabilities) -> None:
    """Raises UnavailableError, with the line that asks for a cgroup, where it cannot be told here."""
    interface, connection, asked = found.interface, found.connection, found.interface.rules().asked()
    what, where = f"{interface.title}: `cgroup` is told by a bit of the mark for each", asked["cgroup"]
    needed = found.networks.width + found.ports.width + found.groups.width
    if "nft-cgroup" not in capabilities.features:
        why = f", which nftables sets by `socket cgroupv2`, and the kernel ({capabilities.kernel}) lacks that"
        hint = "`modprobe nf_tables nft_socket`, a kernel built with CONFIG_NFT_SOCKET, and cgroup2 mounted"
    elif interface.classifier in (Classifier.FLOWER, Classifier.U32) or Classifier.BPF not in capabilities.filters:
        why = ", which is seen by the bpf filter alone"
        hint = "leave `classifier` out, on a kernel with cls_bpf (`modprobe cls_bpf`)"
    elif needed > connection.room:
        why = f"; with what else is kept there that takes {needed} bits, of which there are {connection.room}"
        hint = "give the shaper more bits, such as `connection: {mark: 0xffffff00}`, or ask for a group above them"
    else:
        for one in (one for match in _every(interface.rules()) for one in match.mark):
            if one.mask & connection.mark:
                why = f", and a rule asks for {one.mask & connection.mark:#010x} of the bits that are the shaper's"
                hint = "ask for other bits, or give the shaper others: `connection: {mark: ...}`"
                raise UnavailableError(what + why, hint=hint, where=asked["mark"])
        return
    raise UnavailableError(what + why, hint=hint, where=where)


def _every(rules: Rules) -> Iterator[Match]:
    """Every match, those within others too."""
    for rule in rules.ordered:
        for match in rule.all_of:
            yield from _parts(match, match.where)


def _require(found: Inside, asked: Iterable[Match], capabilities: Capabilities, where: Where) -> None:
    interface, connection = found.interface, found.connection
    what = f"{interface.title}: {found.why}, so that the queue does not see what this asks for"
    if not found.numbered:
        what = f"{interface.title}: the DSCP of connections cannot be restored"
    lacking = [] if "nft-ct" in capabilities.features else ["nftables with connection tracking"]
    if found.comes_in and "ctinfo" not in capabilities.actions:
        if not found.connmark:
            lacking.append("the ctinfo action")
        elif not capabilities.actions >= CONNMARK:
            lacking.append("the ctinfo action, or connmark and skbedit in its place")
    if lacking:
        raise UnavailableError(
            f"{what}, and the kernel ({capabilities.kernel}) lacks {' and '.join(lacking)}",
            hint="`modprobe nf_tables nf_conntrack nft_ct act_ctinfo`, match the outside addresses with `nat: no`, or "
            "mark the traffic where it enters the network and match its DSCP",
            where=where,
        )
    needed = found.networks.width + found.ports.width
    if needed > connection.room:
        raise UnavailableError(
            f"{what}, and its networks and ports take {needed} bits of a mark, of which there are {connection.room}",
            hint="give the shaper more bits, such as `connection: {mark: 0xffffff00}`, or join networks and ports",
            where=where,
        )
    if found.numbered and interface.classifier in (Classifier.FLOWER, Classifier.U32):
        raise UnavailableError(
            f"{what}, and {interface.classifier} sees no mark",
            hint="write `classifier: bpf`, or leave it out",
            where=where,
        )
    for match in asked:
        for one in match.mark:
            if one.mask & connection.mark:
                raise UnavailableError(
                    f"{interface.title}: {found.why}, so that the bits {connection.mark:#010x} of marks are the "
                    f"shaper's, and this asks for {one.mask & connection.mark:#010x} of them",
                    hint=f"ask for the others, such as `mark: {one.value & ~connection.mark:#x}/"
                    f"{_ALL ^ connection.mark:#x}`, or give the shaper other bits: `connection: {{mark: ...}}`",
                    where=match.where or where,
                )


def _address(wanted: tuple[Prefix, ...], *, target: bool) -> Match:
    return Match(dst=wanted) if target else Match(src=wanted)


def _port(wanted: tuple[PortRange, ...], *, target: bool) -> Match:
    return Match(dport=wanted) if target else Match(sport=wanted)


def _sides(comes_in: bool) -> tuple[str, str]:
    """The fields of a packet that a translation changes: those of the host inside."""
    return ("dst", "dport") if comes_in else ("src", "sport")


def _of_inside(match: Match, comes_in: bool) -> bool:
    return any(getattr(match, name) for name in (*_sides(comes_in), "net", "port"))


def _asked(rules: Rules) -> Iterator[Match]:
    """Every match of the policy's own rules, those within others too; a match within has the place of the whole."""
    for rule in rules.ordered:
        if rule.path != NETWORK_CONTROL:
            for match in rule.all_of:
                yield from _parts(match, match.where)


def _parts(match: Match, where: Where | None) -> Iterator[Match]:
    yield match if match.where else replace(match, where=where)
    for part in match.parts():
        yield from _parts(part, match.where or where)
