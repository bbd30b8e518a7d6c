"""Random policies as text, about packets: most of what they ask for is what one of the packets has."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Any

from frame_samples import ADDRESSES, DSCPS, FLAGS, ICMP_TYPES, MACS, MARKS, PORTS, V4, V6, VLANS

from shaper.model.match import Packet
from shaper.policy.names import DSCP_NAMES, ICMP_TYPE_NAMES, PROTOCOL_NAMES, SERVICE_PORTS, TCP_FLAG_NAMES

_OUTSIDE = ("vlan", "pcp", "mac", "src-mac", "dst-mac", "mark")
FIELDS = (
    "family", "proto", "src", "dst", "net", "sport", "dport", "port", "dscp", "tos", "ecn", "tcp-flags", "icmp-type",
    "length", "ethertype", *_OUTSIDE,
)  # fmt: skip
PLAIN = ("family", "proto", "src", "dst", "sport", "dport", "dscp", "ethertype")
"""What every classifier carries, in matches of one level."""
BY_TABLES = (*FIELDS, "iif")
"""What extended BPF carries."""
BY_FLOWER = (*PLAIN, "iif")
"""What flower carries."""
BY_U32 = (*PLAIN, "net", "port", "tos", "ecn", "tcp-flags", "icmp-type", "length")
"""What u32 carries, of several too, but no negation."""
DEVICES = ("feed-peer", "q0", "feed")
Spec = dict[str, Any]


def classes(random: Random, packets: Sequence[Packet], *, fields: Sequence[str] = FIELDS) -> dict[str, Any]:
    """Up to six classes about the packets, some inside others, and one for the rest."""
    written: dict[str, Any] = {}
    for number in range(random.randint(1, 6)):
        matches = [match(random, random.choice(packets), fields) for _ in range(random.randint(1, 3))]
        written[f"c{number}"] = {"match": matches}
        if random.random() < 0.2:
            inner = {f"d{below}": {"match": [match(random, random.choice(packets), fields)]} for below in range(2)}
            written[f"c{number}"]["classes"] = inner
    return {**written, "rest": {"default": True}}


def text_of(
    written: dict[str, Any],
    *,
    device: str = "eth1",
    classifier: str = "auto",
    bandwidth: Mapping[str, str] = MappingProxyType({"egress": "10gbit"}),
    nat: str = "auto",
) -> str:
    """The policy with these classes."""
    policy = {
        "version": 1,
        "interfaces": {
            "wan": {
                "device": device,
                "bandwidth": dict(bandwidth),
                "policy": "p",
                "classifier": classifier,
                "nat": nat,
            }
        },
        "policies": {"p": {"classes": written}},
    }
    return json.dumps(policy, indent=1)


def without(written: dict[str, Any], path: str) -> bool:
    """Takes the match out at which a problem was found, and its class if nothing is left; whether there was one."""
    steps = path.replace("[", ".").replace("]", "").split(".")
    if "match" not in steps:
        return False
    at = steps.index("match")
    holder: Any = written
    for step in steps[3 : at - 1]:
        holder = holder[step]
    name = steps[at - 1]
    index = int(steps[at + 1])
    holder[name]["match"][index] = None
    return True


def swept(written: dict[str, Any]) -> dict[str, Any]:
    """Without the matches that were taken out, and the classes that have none left."""
    kept: dict[str, Any] = {}
    for name, cls in written.items():
        if "match" not in cls:
            kept[name] = cls
            continue
        matches = [one for one in cls["match"] if one is not None]
        if matches:
            kept[name] = {"match": matches}
            below = swept(cls.get("classes", {}))
            if below:
                kept[name]["classes"] = below
    return kept


def match(random: Random, packet: Packet, fields: Sequence[str] = FIELDS, depth: int = 0) -> Spec:
    """One to three conditions; now and then one of several, a negation, or what a tunnel carries, but in plain ones."""
    spec: Spec = {}
    for name in random.sample(fields, min(len(fields), random.choice((1, 1, 2, 2, 3)))):
        spec[name] = _values(random, packet, name)
    if depth < 2 and fields not in (PLAIN, BY_FLOWER) and random.random() < 0.25:
        key = random.choice(("any", "all") if fields is BY_U32 else ("any", "all", "not"))
        parts = [match(random, packet, fields, depth + 1) for _ in range(random.choice((1, 2)))]
        spec[key] = parts if key != "not" or random.random() < 0.5 else parts[0]
        if random.random() < 0.5:
            spec = {key: spec[key]}
    if "mark" in fields and depth == 0 and random.random() < (0.5 if packet.inner else 0.05):
        inside = [name for name in fields if name not in _OUTSIDE] or ["dscp"]
        spec = {"inner": match(random, packet.inner or packet, inside, 2)}
    if "proto" in spec and {"sport", "dport", "port"} & set(spec):
        del spec["proto"]
    if "src" in spec and "dst" in spec:
        del spec["dst"]
    if "family" in spec and "ethertype" in spec:
        del spec["family"]
    return spec


def _values(random: Random, packet: Packet, name: str) -> Any:
    values = [_value(random, packet, name, own=random.random() < 0.8) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    return values[0] if len(values) == 1 and random.random() < 0.7 else values


def _value(random: Random, packet: Packet, name: str, *, own: bool) -> Any:
    """One value of a field, with `own` such that the packet meets it, if it has the field."""

    def pick(held: int | None, others: Sequence[int]) -> int:
        return held if own and held is not None else random.choice(others)

    match name:
        case "family":
            return {V4: "ipv4", V6: "ipv6"}[pick(packet.ethertype if packet.protocol is not None else None, (V4, V6))]
        case "ethertype":
            held = packet.ethertype if packet.ethertype not in (0x8100, 0x88A8) else None
            return pick(held, (V4, V6, 0x0806, 0x8847))
        case "proto":
            return _named(random, pick(packet.protocol, (1, 6, 17, 47, 58)), PROTOCOL_NAMES)
        case "src" | "dst" | "net":
            return _network(random, packet, packet.dst if name == "dst" else packet.src, own=own)
        case "sport" | "dport" | "port":
            return _range(random, pick(packet.sport if name == "sport" else packet.dport, PORTS), 65535, SERVICE_PORTS)
        case "iif":
            return packet.iif if own and packet.iif else random.choice(DEVICES)
        case "dscp":
            return _named(random, pick(packet.dscp, DSCPS), DSCP_NAMES)
        case "tos":
            return _masked(random, pick(packet.tos, (0, 0xB8, 0x10)), 0xFF)
        case "ecn":
            return pick(packet.ecn, (0, 1, 2, 3))
        case "tcp-flags":
            return _flags(random, pick(packet.tcp_flags, FLAGS))
        case "icmp-type":
            numbers = {name: max(number or 0 for number in both) for name, both in ICMP_TYPE_NAMES.items()}
            return _named(random, pick(packet.icmp_type, ICMP_TYPES), numbers)
        case "length":
            return _range(random, pick(packet.length, (20, 40, 64, 1500)), 65535, {})
        case "vlan":
            return _range(random, pick(packet.vlan, VLANS), 4094, {})
        case "pcp":
            return pick(packet.pcp, range(8))
        case "mac" | "src-mac" | "dst-mac":
            held = packet.dst_mac if name == "dst-mac" else packet.src_mac
            return pick(held, MACS).to_bytes(6, "big").hex(":")
        case _:
            return _masked(random, pick(packet.mark, MARKS), 0xFFFFFFFF)


def _named(random: Random, number: int, names: dict[str, int]) -> Any:
    known = [name for name, value in names.items() if value == number]
    return random.choice(known) if known and random.random() < 0.5 else number


def _range(random: Random, number: int, most: int, names: dict[str, int]) -> Any:
    if random.random() < 0.5:
        return _named(random, number, names)
    low, high = (random.choice((0, 0, 1, 100, 5000)) for _ in range(2))
    return f"{max(0, number - low)}-{min(most, number + high)}"


def _masked(random: Random, number: int, most: int) -> Any:
    mask = random.choice((most, most, 0xFC & most, 0xF0 & most, 0x03))
    return number if mask == most else f"{number & mask:#x}/{mask:#x}"


def _flags(random: Random, flags: int) -> Any:
    names = random.sample(list(TCP_FLAG_NAMES), random.randint(1, 3))
    on = [name for name in names if TCP_FLAG_NAMES[name] & flags]
    off = [name for name in names if name not in on]
    if len(on) == 1 and random.random() < 0.5:
        return on[0]
    return {key: part for key, part in (("set", on), ("unset", off)) if part}


def _network(random: Random, packet: Packet, address: int | None, *, own: bool) -> str:
    version = {V4: 4, V6: 6}.get(packet.ethertype, random.choice((4, 6)))
    if not own or address is None:
        address = random.choice(ADDRESSES[version])
    bits = 32 if version == 4 else 128
    length = random.choice((0, 8, 16, 24, bits - 1, bits, bits))
    shift = bits - length
    base = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return f"{base(address >> shift << shift)}/{length}"
