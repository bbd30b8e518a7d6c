"""What a filter asks of a packet, in words near those of tc."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from shaper.tree import (
    ETH_P_ALL,
    FLOWER_FIELDS,
    U32_ROOT,
    FlowerFilter,
    FlowerKey,
    Handle,
    U32Filter,
    U32Key,
    U32Link,
    U32Table,
    device_text,
)

_PROTOCOLS = {ETH_P_ALL: "all", 0x0004: "802_2", 0x0800: "ip", 0x0806: "arp", 0x8035: "rarp", 0x86DD: "ipv6"}


def protocol_text(protocol: int) -> str:
    """An ethertype: `ip`, `0x88cc`."""
    return _PROTOCOLS.get(protocol, f"{protocol:#06x}")


def asked_text(node: FlowerFilter) -> str:
    """Such as `ip, ip_proto 17, dport 16384-32767`; the protocol of its preference comes first."""
    return ", ".join((protocol_text(node.protocol), *_asked({key.field: key for key in node.keys})))


def _asked(keys: dict[str, FlowerKey]) -> Iterator[str]:
    """In the order of the fields; the ethertype has been said already."""
    for field in FLOWER_FIELDS:
        if field not in keys or field == "eth_type" or field.endswith("_max"):
            continue
        if field.endswith("_min"):
            side = field.removesuffix("_min")
            yield f"{side} {keys[field].value}-{keys[f'{side}_max'].value}"
        else:
            yield _one(keys[field])


def _one(key: FlowerKey) -> str:
    if key.field == "indev":
        return f"indev {device_text(key.value)}"
    bits = FLOWER_FIELDS[key.field]
    if key.field == "ip_flags":
        return "a fragment" if key.value else "no fragment"
    if key.field[:3] in ("src", "dst"):
        address = (ipaddress.IPv4Address if bits == 32 else ipaddress.IPv6Address)(key.value)
        return f"{key.field[:3]} {address}/{key.mask.bit_count()}"
    if key.field == "ip_tos":
        return f"ip_tos {key.value:#04x}/{key.mask:#04x}"
    whole = key.mask == (1 << bits) - 1
    return f"{key.field} {key.value}" if whole else f"{key.field} {key.value:#x}/{key.mask:#x}"


def u32_text(node: U32Filter | U32Table) -> str:
    """Which one it is: `filter u32 3:c`, the twelfth of table 3; in the table of the preference itself `root:c`."""
    table = _table_text(node.handle)
    if isinstance(node, U32Table):
        return f"table {table}: of u32 filters" if node.handle else "list of u32 filters"
    return f"filter u32 {table}:{node.handle & 0xFFF:x}"


def _table_text(number: Handle) -> str:
    return "root" if number >= U32_ROOT else f"{number >> 20:x}"


def u32_asked_text(node: U32Filter) -> str:
    """Such as `ip, 0x00110000/0x00ff0000 at 8`, and where it is asked further."""
    words = [protocol_text(node.protocol), *map(_u32_key, node.keys)]
    return ", ".join(words) + (f" -> {_u32_link(node.link)}" if node.link is not None else "")


def _u32_key(key: U32Key) -> str:
    return f"{key.value:#010x}/{key.mask:#010x} at {key.offset}"


def _u32_link(link: U32Link) -> str:
    more = f" and what {link.mask:#06x} at {link.at} says, shifted by {link.shift}," if link.mask else ""
    return f"table {_table_text(link.table)}: {link.skip} bytes{more} on"
