"""Our nftables table and what a filter restores of a connection, in words."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterator

from shaper.tree import (
    FAMILY_IPV4,
    FORWARD,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    MarkSet,
    MarkTable,
    Restore,
    Statement,
)

_HOOKS = {PREROUTING: "prerouting", FORWARD: "forward", OUTPUT: "output", POSTROUTING: "postrouting"}
_TYPES = {32: "ipv4_addr", 128: "ipv6_addr", 16: "inet_service"}


def table_words(table: MarkTable) -> Iterator[tuple[str, str]]:
    """How many rules and ranges it has; the fingerprint tells tables of one size apart."""
    rules = sum(len(chain.rules) for chain in table.chains)
    ranges = sum(len(held.ranges) for held in table.sets)
    mark = zlib.crc32(repr((table.sets, table.chains)).encode())
    yield "rules", f"{rules} with {ranges} ranges ({mark:08x})"


def restore_text(restore: Restore) -> str:
    """`mark 0x000f0000, DSCP 0xfc000000`, and by which action where it is not ctinfo."""
    parts = [f"mark {restore.mark:#010x}" if restore.mark else "", f"DSCP {restore.dscp:#010x}" if restore.dscp else ""]
    return ", ".join(filter(None, parts)) + (" by connmark" if restore.connmark else "")


def nft_lines(table: MarkTable) -> Iterator[str]:
    """The table as a script of nft, line by line."""
    yield f"table inet {table.name} {{"
    for held in table.sets:
        ranges = ", ".join(_range(held, *one) for one in held.ranges)
        yield f"\tset {held.name} {{ type {_TYPES[held.bits]}; flags interval; elements = {{ {ranges} }}; }}"
    for chain in table.chains:
        hook = _HOOKS[chain.hook]
        yield f"\tchain {chain.name} {{"
        yield f"\t\ttype filter hook {hook} priority {chain.priority}; policy accept;"
        for rule in chain.rules:
            yield "\t\t" + " ".join(map(statement_text, rule))
        yield "\t}"
    yield "}"


def _range(held: MarkSet, first: int, last: int) -> str:
    if held.bits == 16:
        ends = [str(first), str(last)]
    else:
        make = ipaddress.IPv4Address if held.bits == 32 else ipaddress.IPv6Address
        ends = [str(make(first)), str(make(last))]
    return ends[0] if first == last else "-".join(ends)


def statement_text(statement: Statement) -> str:
    """As nft writes it; what is not ours by its name and a checksum."""
    what, number, mask, text = statement
    ip = "ip" if number == 4 else "ip6"
    match what:
        case "iifname" | "oifname":
            return f'{what} "{text}"'
        case "nfproto":
            return f"meta nfproto {'ipv4' if number == FAMILY_IPV4 else 'ipv6'}"
        case "saddr":
            return f"{ip} saddr {'!= ' if mask else ''}@{text}"
        case "sport":
            return f"th sport {'!= ' if mask else ''}@{text}"
        case "cgroup":
            return f'socket cgroupv2 level {number} "{text.removeprefix("/")}"'
        case "dscp" | "no-dscp":
            where = f"@nh,8,8 & {mask << 2:#x}" if number == 4 else f"@nh,0,16 & {mask << 6:#x}"  # of the DSCP
            return f"{where} {'!=' if what == 'dscp' else '=='} 0"
        case "mark" | "ct-mark":
            mark = "meta mark" if what == "mark" else "ct mark"
            return f"{mark} set {mark} & {mask:#010x} ^ {number:#010x}"
    return f"{text} {number:08x}"
