"""Matches and packets in the words of a policy: what a condition asks for, and what a packet has there."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from shaper.model.match import ETHERTYPE_IPV4, ICMPV6, Masked, Match, Packet, PortRange, Prefix
from shaper.model.words import KEYS, key_of
from shaper.policy.names import (
    DSCP_NAMES,
    ECN_NAMES,
    ETHERTYPE_NAMES,
    ICMP_TYPE_NAMES,
    PROTOCOL_NAMES,
    TCP_FLAG_NAMES,
)

_OF_PACKET = {"ethertypes": "ethertype", "protocols": "protocol", "icmp": "icmp_type"}
_MANY, _FIRST = 40, 3
"""Of more values than that, so many are said."""
_EITHER = {"net": ("src", "dst"), "port": ("sport", "dport"), "mac": ("src_mac", "dst_mac")}


def conditions(match: Match) -> Iterator[tuple[str, str]]:
    """Key and value of each condition, as the policy could have said it."""
    return ((key_of(match, name), asked(match, name)) for name in match.asks)


def match_text(match: Match) -> str:
    """`proto udp, dport 5060-5061`."""
    return ", ".join(f"{key} {value}" for key, value in conditions(match))


def asked(match: Match, name: str, packet: Packet | None = None) -> str:
    """What a condition asks for; of a long list those that hold for the packet, else the first, and how many more."""
    value = getattr(match, name)
    if name == "inner":
        return f"({match_text(value)})"
    if name in ("any_of", "all_of", "none_of"):
        word = " and " if name == "all_of" else " or "
        return f"({word.join(match_text(part) for part in value)})"
    if len(value) <= _MANY:
        return " or ".join(_value(name, one) for one in value)
    shown = _holding(value, name, packet)[:_FIRST] or value[:_FIRST]
    return f"{' or '.join(_value(name, one) for one in shown)} or {len(value) - len(shown)} more"


def found(packet: Packet, name: str) -> str:
    """What the packet has in the field of a condition; "" for what is made of several."""
    if name in ("inner", "any_of", "all_of", "none_of"):
        return ""
    if name in _EITHER:
        return " and ".join(f"{KEYS[side]} {found(packet, side)}" for side in _EITHER[name])
    value = getattr(packet, _OF_PACKET.get(name, name))
    if value is None:
        return "none"
    if name in ("src", "dst"):
        return str(IPv4Address(value) if packet.ethertype == ETHERTYPE_IPV4 else IPv6Address(value))
    if name == "tcp_flags":
        return "+".join(flag for flag, bit in TCP_FLAG_NAMES.items() if bit & value) or "none"
    if name in ("tos", "mark"):
        return f"{value:#x}"
    return _value(name, (packet.protocol, value) if name == "icmp" else value)


def _holding(networks: tuple[Prefix, ...], name: str, packet: Packet | None) -> tuple[Prefix, ...]:
    """Of the networks in the condition on a field those that an address of the packet is in."""
    if packet is None or name not in ("src", "dst", "net"):
        return ()
    addresses = [getattr(packet, side) for side in _EITHER.get(name, (name,))]
    return tuple(one for one in networks if any(one.holds(packet, address) for address in addresses))


def _value(name: str, value: object) -> str:
    """One value of a field."""
    if isinstance(value, Prefix):
        return _network(value)
    if isinstance(value, PortRange):
        return str(value.first) if value.first == value.last else f"{value.first}-{value.last}"
    if isinstance(value, Masked):
        return _flags(value) if name == "tcp_flags" else _masked(value, 0xFF if name == "tos" else 0xFFFFFFFF)
    if isinstance(value, tuple):
        return _icmp(*value)
    if isinstance(value, int) and name in ("mac", "src_mac", "dst_mac"):
        return value.to_bytes(6, "big").hex(":")
    tables = {"dscp": DSCP_NAMES, "ecn": ECN_NAMES, "protocols": PROTOCOL_NAMES, "ethertypes": ETHERTYPE_NAMES}
    known = (word for word, number in tables.get(name, {}).items() if number == value)
    return next(known, f"{value:#06x}" if name == "ethertypes" else str(value))


def _network(prefix: Prefix) -> str:
    address = IPv4Address(prefix.value) if prefix.version == 4 else IPv6Address(prefix.value)
    return str(address) if prefix.length == prefix.bits else f"{address}/{prefix.length}"


def _masked(value: Masked, whole: int) -> str:
    return f"{value.value:#x}" if value.mask == whole else f"{value.value:#x}/{value.mask:#x}"


def _flags(wanted: Masked) -> str:
    bits = ((flag, bit) for flag, bit in TCP_FLAG_NAMES.items() if bit & wanted.mask)
    return "+".join(flag if bit & wanted.value else f"no {flag}" for flag, bit in bits)


def _icmp(protocol: int, number: int) -> str:
    column = int(protocol == ICMPV6)
    name = next((name for name, numbers in ICMP_TYPE_NAMES.items() if numbers[column] == number), str(number))
    return f"{name} of {'ICMPv6' if column else 'ICMP'}"
