"""The classifier as flower filters, for a kernel without cls_bpf and for who asks for it.

It gives the answer of `model.match.classify` for every packet whose headers are whole, or refuses the rules. A rule has
a preference for each ethertype it asks for, so the order of preferences is the order of the rules; what a rule asks is
spread out into filters of one value each. Flower takes for 0 what a packet does not have, so a filter that asks for
port 0 asks for no fragment too.

Unlike the program of `classifier`, flower knows a frame with a VLAN tag beside it by the tag; an IEEE 802.3 frame that
a program of this machine sends by its length, for which no filter can ask (those of the kernel and those received are
LLC); and MPLS in IP (protocol 137) by the labels in it. All of them go to the default class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import TypeVar

from shaper.compile.treatment import Treatment
from shaper.errors import UnavailableError, Where
from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Match, Prefix, Rule, Rules
from shaper.model.spans import Span, blocks, common, merged
from shaper.model.words import KEYS
from shaper.tree import ETH_P_ALL, IS_FRAGMENT, FlowerFilter, FlowerKey, Handle, device_value, flower_key

MOST_FILTERS = 4000
FIRST_PREFERENCE = 100

_CARRIED = frozenset(("ethertypes", "dscp", "protocols", "icmp", "src", "dst", "sport", "dport", "iif"))
_ICMPV6, _MPLS = 58, 137
_WITH_PORTS = frozenset((6, 17, 33, 132, 136))  # TCP, UDP, DCCP, SCTP, UDP-Lite
_FLOWER_PORTS = frozenset((6, 17, 132))
_IP = frozenset((ETHERTYPE_IPV4, ETHERTYPE_IPV6))
_DSCP_MASK = 0xFC

_Keys = tuple[FlowerKey, ...]
_NOBODY: Mapping[str, Treatment] = {}
T = TypeVar("T", int, str)


def flower_filters(
    rules: Rules,
    classids: Mapping[str, Handle],
    parent: Handle,
    treated: Mapping[str, Treatment] = _NOBODY,
    *,
    devices: Collection[str] | None = None,
) -> tuple[FlowerFilter, ...]:
    """The filters for the rules, given every leaf's classid by path, and what is done to the packets of some.

    The kernel takes a filter by the device that a packet came in by only while there is such a device: of those that
    are not among `devices` (None: not known) no packet comes, and there is no filter.
    Raises UnavailableError, at the rule that flower cannot say and where the filters get too many.
    """
    filters: list[FlowerFilter] = []
    preference = FIRST_PREFERENCE
    rest = (Rule((), rules.default),) if rules.default in treated else ()
    for rule in (*rules.ordered, *rest):
        _refuse_fields(rule)
        asked = _Asked.of(rule.all_of)
        if asked is None:
            continue
        _refuse(asked, rule)
        treatment = treated.get(rule.path)
        for ethertype in _told_apart(asked, treatment):
            wanted = list(islice(asked.alternatives(ethertype, devices), MOST_FILTERS + 1))
            if len(filters) + len(wanted) > MOST_FILTERS:
                raise UnavailableError(
                    f"the rules take more than {MOST_FILTERS} flower filters",
                    hint="join ports to ranges and addresses to prefixes, or classify by a kernel's bpf filter, which "
                    "takes far longer rules",
                    where=_where(rule),
                )
            filters.extend(
                FlowerFilter(
                    parent,
                    preference,
                    number,
                    ethertype,
                    keys,
                    classids[rule.path],
                    () if treatment is None else treatment.of(ethertype),
                )
                for number, keys in enumerate(sorted(wanted), 1)
            )
            preference += 1
    return tuple(filters)


def _told_apart(asked: _Asked, treatment: Treatment | None) -> list[int]:
    """The ethertypes in the order of their preferences; IP first, where all are asked and not all are treated alike."""
    if treatment is None or ETH_P_ALL not in asked.ethertypes or len(treatment.by_ethertype()) == 1:
        return sorted(asked.ethertypes)
    return [ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETH_P_ALL]


def _where(rule: Rule) -> Where | None:
    return next((match.where for match in reversed(rule.all_of) if match.where), None)


def _refuse_fields(rule: Rule) -> None:
    """Raises UnavailableError where a match asks for what no filter is made for here."""
    for match in rule.all_of:
        unknown = [name for name in match.asks if name not in _CARRIED]
        if any(protocol != _ICMPV6 for protocol, _ in match.icmp):
            unknown.append("icmp")
        if unknown:
            raise UnavailableError(
                f"a rule of {rule.path} asks for {', '.join(KEYS[name] for name in unknown)}, which flower filters "
                "don't carry here",
                hint="write `classifier: bpf` where the kernel has it, or take the condition out",
                where=match.where,
            )


def _refuse(asked: _Asked, rule: Rule) -> None:
    """Raises UnavailableError where flower would see less than the rule asks for."""
    protocols = asked.protocols
    if (asked.sport is not None or asked.dport is not None) and not (protocols or _WITH_PORTS) <= _FLOWER_PORTS:
        raise UnavailableError(
            f"a rule of {rule.path} asks for ports of a protocol whose ports flower does not know",
            hint="name those it knows, `proto: [tcp, udp, sctp]`, or write `classifier: bpf` where the kernel has it",
            where=_where(rule),
        )
    if protocols and _MPLS in protocols:
        raise UnavailableError(
            f"a rule of {rule.path} asks for MPLS in IP (protocol {_MPLS}), which flower looks through",
            hint="take it out, or write `classifier: bpf` where the kernel has it",
            where=_where(rule),
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a conjunction asks for, field by field; None where it asks nothing."""

    ethertypes: frozenset[int]
    dscp: frozenset[int] | None
    protocols: frozenset[int] | None
    icmpv6_types: frozenset[int] | None
    src: frozenset[Prefix] | None
    dst: frozenset[Prefix] | None
    sport: tuple[Span, ...] | None
    dport: tuple[Span, ...] | None
    iif: frozenset[str] | None

    @classmethod
    def of(cls, conjunction: tuple[Match, ...]) -> _Asked | None:
        """None where no packet can meet it."""
        ethertypes = _shared([match.ethertypes for match in conjunction])
        dscp = _shared([match.dscp for match in conjunction])
        protocols = _shared([match.protocols for match in conjunction])
        icmpv6_types = _shared([tuple(number for _, number in match.icmp) for match in conjunction])
        src, dst = (_networks([getattr(match, side) for match in conjunction]) for side in ("src", "dst"))
        sport, dport = (_spans([getattr(match, side) for match in conjunction]) for side in ("sport", "dport"))
        if icmpv6_types is not None:
            protocols = _both(protocols, frozenset((_ICMPV6,)))
            ethertypes = _both(ethertypes, frozenset((ETHERTYPE_IPV6,)))
        if (sport is not None or dport is not None) and protocols is not None:
            protocols &= _WITH_PORTS
        for prefixes in (src, dst):
            if prefixes is not None:
                ethertypes = _both(ethertypes, frozenset(prefix.ethertype for prefix in prefixes))
        iif = _shared([match.iif for match in conjunction])
        values = (dscp, protocols, icmpv6_types, src, dst, sport, dport)
        if any(value is not None for value in values):
            ethertypes = _both(ethertypes, _IP)
        if any(value is not None and not value for value in (ethertypes, *values, iif)):
            return None
        return cls(frozenset((ETH_P_ALL,)) if ethertypes is None else ethertypes, *values, iif)

    def alternatives(self, ethertype: int, devices: Collection[str] | None = None) -> Iterator[_Keys]:
        """The keys of each filter for one of the ethertypes, no two alike.

        What asks for the ethertype alone has no keys: the preference belongs to it.
        """
        version = 4 if ethertype == ETHERTYPE_IPV4 else 6
        choices: list[list[FlowerKey]] = [
            [flower_key("ip_proto", number) for number in sorted(self.protocols or ())],
            [flower_key("ip_tos", number << 2, _DSCP_MASK) for number in sorted(self.dscp or ())],
            [_address("src", prefix) for prefix in sorted(self.src or ()) if prefix.version == version],
            [_address("dst", prefix) for prefix in sorted(self.dst or ()) if prefix.version == version],
        ]
        alternatives: list[list[_Keys]] = [[(key,) for key in choice] or [()] for choice in choices]
        if self.iif is not None:
            there = sorted(name for name in self.iif if devices is None or name in devices)
            alternatives.append([(flower_key("indev", device_value(name)),) for name in there])
        for parts in product(*alternatives, _icmp(self.icmpv6_types), _ports(self.sport, self.dport)):
            keys = [key for part in parts for key in part if key.mask]
            if keys and ethertype != ETH_P_ALL:
                keys.append(flower_key("eth_type", ethertype))
            yield tuple(sorted(keys))


def _both(left: frozenset[int] | None, right: frozenset[int]) -> frozenset[int]:
    return right if left is None else left & right


def _shared(fields: list[tuple[T, ...]]) -> frozenset[T] | None:
    asked = [frozenset(values) for values in fields if values]
    return frozenset.intersection(*asked) if asked else None


def _spans(fields: list[tuple[Span, ...]]) -> tuple[Span, ...] | None:
    asked = [merged(spans) for spans in fields if spans]
    if not asked:
        return None
    held = asked[0]
    for spans in asked[1:]:
        held = common(held, spans)
    return tuple(held)


def _networks(fields: list[tuple[Prefix, ...]]) -> frozenset[Prefix] | None:
    asked = [{_network(prefix) for prefix in prefixes} for prefixes in fields if prefixes]
    if not asked:
        return None
    held = asked[0]
    for prefixes in asked[1:]:
        pairs = product(held, prefixes)
        held = {max(pair, key=lambda prefix: prefix.length) for pair in pairs if _overlap(*pair)}
    return frozenset(held)


def _network(prefix: Prefix) -> Prefix:
    """Without bits beyond its length."""
    shift = prefix.bits - prefix.length
    return prefix._replace(value=prefix.value >> shift << shift)


def _overlap(left: Prefix, right: Prefix) -> bool:
    shift = left.bits - min(left.length, right.length)
    return left.version == right.version and left.value >> shift == right.value >> shift


def _address(side: str, prefix: Prefix) -> FlowerKey:
    """Of a prefix without length an empty key."""
    whole = (1 << prefix.bits) - 1
    mask = whole >> prefix.bits - prefix.length << prefix.bits - prefix.length
    return flower_key(f"{side}{prefix.version}", prefix.value, mask)


def _icmp(types: frozenset[int] | None) -> Iterator[_Keys]:
    if types is None:
        yield ()
    for number in sorted(types or ()):
        yield flower_key("icmpv6_type", number), *_no_fragment(zero=number == 0)


def _ports(sport: tuple[Span, ...] | None, dport: tuple[Span, ...] | None) -> Iterator[_Keys]:
    """The keys of each pair of ranges.

    One port of one side beside a range of the other is what kernels get wrong that lack 3e5796862c69 (of 6.14): the
    range is then cut into blocks, each asked for by a mask.
    """
    for source, target in product(sport or (None,), dport or (None,)):
        sides = [(side, span) for side, span in (("sport", source), ("dport", target)) if span is not None]
        mixed = len({first == last for _, (first, last) in sides}) > 1
        alone = _no_fragment(zero=bool(sides) and all(first == 0 for _, (first, _) in sides))
        for keys in product(*(_side(side, span, masked=mixed) for side, span in sides)):
            yield *(key for several in keys for key in several), *alone


def _side(side: str, span: Span, *, masked: bool) -> Iterator[_Keys]:
    first, last = span
    if masked or first == last:
        for value, size in blocks(span):
            yield (flower_key(side, value, -size),)
    else:
        yield flower_key(f"{side}_min", first), flower_key(f"{side}_max", last)


def _no_fragment(*, zero: bool) -> _Keys:
    return (flower_key("ip_flags", 0, IS_FRAGMENT),) if zero else ()
