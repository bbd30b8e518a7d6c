"""A machine that reads our nftables table as the kernel does, and a link behind which sources are translated."""

from __future__ import annotations

from dataclasses import replace

from compile_samples import ETHERNET

from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet
from shaper.tree import FAMILY_IPV4, POSTROUTING, MarkTable, Statement

TRANSLATES = replace(ETHERNET, translates="chain leaving of table ip nat masquerades")
_FAMILIES = {2: ETHERTYPE_IPV4, 10: ETHERTYPE_IPV6}


def marked(table: MarkTable, packet: Packet, *, connection: int = 0) -> tuple[int, int]:
    """The marks of a packet and of its connection after it has left."""
    sets = {held.name: held for held in table.sets}
    mark = packet.mark
    (chain,) = (chain for chain in table.chains if chain.hook == POSTROUTING)
    for rule in chain.rules:
        for statement in rule:
            what, number, mask, text = statement
            if what == "mark":
                mark = mark & mask ^ number
            elif what == "ct-mark":
                connection = connection & mask ^ number
            elif not _holds(statement, packet, sets[text].ranges if text in sets else ()):
                break
    return mark, connection


def _holds(statement: Statement, packet: Packet, ranges: tuple[tuple[int, int], ...]) -> bool:
    match statement.what:
        case "oifname":
            return True
        case "nfproto":
            return packet.ethertype == _FAMILIES[statement.number]
        case "saddr":
            assert packet.ethertype == _FAMILIES[FAMILY_IPV4 if statement.number == 4 else 10]
            assert packet.src is not None
            return any(first <= packet.src <= last for first, last in ranges) != bool(statement.mask)
        case "sport":
            if packet.sport is None:
                return False
            return any(first <= packet.sport <= last for first, last in ranges) != bool(statement.mask)
        case "dscp" | "no-dscp":
            assert packet.dscp is not None
            return bool(packet.dscp & statement.mask) == (statement.what == "dscp")
    raise AssertionError(statement)
