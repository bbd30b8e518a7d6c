"""FireQOS's `match`, `server` and `client` lines as our conditions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shaper.policy.importers import quantities
from shaper.policy.importers.draft import Conditions, Line, Report, Rule, Scalar
from shaper.policy.names import PROTOCOL_NAMES

SERVICES: Mapping[str, str] = {
    "dns": "udp/53 tcp/53", "facetime": "udp/3478:3497 udp/16384:16387 udp/16393:16402", "ftp": "tcp/20:21",
    "gtalk": "tcp/5222 tcp/5228", "h323": "tcp/1720", "hangouts": "udp/19302:19309 tcp/19305:19309",
    "http": "tcp/80", "https": "tcp/443", "imap": "tcp/143", "imaps": "tcp/993", "jabber": "tcp/5222:5223",
    "ldap": "tcp/389", "msn": "tcp/6891", "mysql": "tcp/3306", "ntp": "udp/123 tcp/123", "openvpn": "any/1194",
    "pop3": "tcp/110", "pop3s": "tcp/995", "rdp": "tcp/3389", "rsync": "any/873", "sip": "udp/5060",
    "smtp": "tcp/25", "smtps": "tcp/465", "snmp": "udp/161", "ssh": "tcp/22", "stun": "any/3478",
    "submission": "tcp/587", "surfing": "tcp/0:1023", "syslog": "udp/514", "tcp": "tcp/any",
    "teamviewer": "tcp/5938", "telnet": "tcp/23", "torrents": "tcp/6881:6999 udp/6881:6999", "udp": "udp/any",
    "vnc": "tcp/5900:5903", "icmp": "icmp/any", "ping": "icmp/any", "gre": "gre/any", "esp": "esp/any", "ah": "ah/any",
}  # fmt: skip
"""Ports of the services that FireQOS knows by name; a file may add its own by `server_NAME_ports`."""

_TOS = {
    **dict.fromkeys(("min-delay", "minimize-delay", "minimum-delay", "low-delay", "interactive"), "0x10/0x10"),
    **dict.fromkeys(
        ("maximize-throughput", "maximum-throughput", "max-throughput", "high-throughput", "bulk"), "0x8/0x8"
    ),
    **dict.fromkeys(("maximize-reliability", "maximum-reliability", "max-reliability", "reliable"), "0x4/0x4"),
    **dict.fromkeys(("min-cost", "minimize-cost", "minimum-cost", "low-cost", "cheap"), "0x2/0x2"),
    **dict.fromkeys(("normal", "normal-service"), "0x0/0x1e"),
}
_FLAG = {"syn": "syn", "syns": "syn", "ack": "ack", "acks": "ack"}
_VALUED = {
    **dict.fromkeys(("proto", "protocol", "protocols"), "proto"),
    **dict.fromkeys(("port", "ports"), "port"),
    **dict.fromkeys(("sport", "sports"), "sport"),
    **dict.fromkeys(("dport", "dports"), "dport"),
    **dict.fromkeys(("ip", "ips", "net", "nets", "host", "hosts"), "net"),
    **dict.fromkeys(("src", "srcs"), "src"),
    **dict.fromkeys(("dst", "dsts"), "dst"),
    **dict.fromkeys(("tos", "priority"), "tos"),
    **dict.fromkeys(("mark", "marks"), "mark"),
    "dscp": "dscp",
    "length": "length",
}
_PROTOCOLS = ("tcp", "udp", "icmp", "gre")
_ANY = ("any", "all")
_SHORT_ACK = {4: "0-63", 6: "40-103"}
_MARK = re.compile(r"(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})(/0x[0-9a-fA-F]{1,8})?\Z")


class Matched(NamedTuple):
    """What a match line says: its conditions, the place in the order (None: as it stands), and the class it names."""

    conditions: list[Conditions]
    prio: int | None
    owner: str


class _Unknown(Exception):  # noqa: N818 -- a part of a match that we cannot carry
    def __init__(self, why: str, mend: str) -> None:
        super().__init__(why)
        self.why, self.mend = why, mend


def matched(words: Sequence[str], families: tuple[int, ...], line: Line, report: Report) -> Matched | None:
    """A match is left out whole where one part of it can't be carried, so that none grows wider."""
    try:
        return _matched(list(words), families)
    except _Unknown as error:
        report.lose(line, f"{error.why}; the whole match is left out, so that it takes nothing else", error.mend)
        return None


def _matched(words: list[str], families: tuple[int, ...]) -> Matched:
    found: Conditions = {}
    prio, owner, flag, every = None, "", "", False
    while words:
        word = words.pop(0)
        if word.lower() in _PROTOCOLS:
            found["proto"] = word.lower()
        elif word.lower() == "ipv6":
            found["proto"] = "ipv6"
        elif word in _ANY:
            every = True
        elif word == "arp":
            raise _Unknown("ARP belongs to network-control here, on every interface", "take it out")
        elif word in _FLAG:
            flag = _FLAG[word]
        elif word in _VALUED or word in ("prio", "class", "at"):
            if not words:
                raise _Unknown(f"nothing stands after `{word}`", "complete the line")
            value = words.pop(0)
            if word == "prio":
                prio = _number(value)
            elif word == "class":
                owner = value
            elif word == "at":
                raise _Unknown("`at` asks below another class", "put the class into the class that it asks in")
            elif value not in _ANY:
                found[_VALUED[word]] = _values(_VALUED[word], value)
        else:
            raise _Unknown(f"`{word}` is not known", "write its meaning as a match of ours")
    if flag and found.get("proto", "tcp") != "tcp":
        raise _Unknown(f"`{flag}` is of TCP alone", "write one match for TCP and one for the rest")
    if not (found or flag or every):
        raise _Unknown("it asks for nothing", "write `match all` if all is meant")
    return Matched(_with_families(found, families, flag), prio, owner)


def _with_families(found: Conditions, families: tuple[int, ...], flag: str) -> list[Conditions]:
    """FireQOS asks IPv4 alone unless it is told otherwise."""
    if flag:
        others = [name for name in ("fin", "syn", "rst", "psh", "ack", "urg") if name != flag]
        found = {**found, "proto": "tcp"}
        if flag == "syn":
            found["tcp-flags"] = "syn"
        else:
            asked: dict[str, list[Scalar]] = {"set": [flag], "unset": list(others)}
            return [{"family": f"ipv{one}", **found, "tcp-flags": asked, "length": _SHORT_ACK[one]} for one in families]
    addressed = any(key in found for key in ("src", "dst", "net"))
    if found.get("proto") == "icmp" and 6 in families:
        found["proto"] = ["icmp", "icmpv6"] if 4 in families else "icmpv6"
    if (addressed and len(families) == 1) or not addressed:
        family: str | list[Scalar] = "ipv4" if families == (4,) else "ipv6" if families == (6,) else ["ipv4", "ipv6"]
        if isinstance(family, str) or not found:
            found = {"family": family, **found}
    return [found]


def _values(key: str, text: str) -> str | list[Scalar]:
    if key in ("port", "sport", "dport"):
        numbers = quantities.ports(text)
        if numbers is None:
            raise _Unknown(f"`{text}` are no ports by number", "write their numbers")
        return numbers
    parts: list[Scalar] = []
    for part in text.split(","):
        if key == "proto":
            number = re.fullmatch(r"[0-9]{1,3}", part)
            if part.lower() not in PROTOCOL_NAMES and not number:
                raise _Unknown(f"the protocol `{part}` is not known here", "write its number")
            parts.append(int(part) if number else part.lower())
        elif key in ("src", "dst", "net") and "/" in part:
            parts.append(quantities.network(part))
        elif key == "tos":
            parts.append(_TOS.get(part, part))
        elif key == "mark" and not _MARK.match(part):
            raise _Unknown(f"the mark `{part}` is a name", "write its number")
        else:
            parts.append(int(part) if part.isascii() and part.isdigit() and len(part) < 12 else part)
    return parts


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise _Unknown(f"`prio {text}` is no number", "write a number")
    return int(text)


def served(
    words: Sequence[str], families: tuple[int, ...], line: Line, own: Mapping[str, str], report: Report
) -> list[Rule]:
    """`server NAME`: the ports of this side, the source of what leaves; `client NAME`: those of the other side."""
    if len(words) < 2:
        report.lose(line, "no service is named", "name it, or write a match")
        return []
    side = "sport" if words[0].startswith("server") else "dport"
    if len(words) > 2:
        report.lose(line, f"`{' '.join(words[2:])}` is beyond what a service line of ours carries", "write a match")
        return []
    ports = own.get(words[1]) or SERVICES.get(words[1].lower())
    if ports is None:
        mend = f'say `server_{words[1]}_ports="tcp/80"` above it, or write a match'
        report.lose(line, f"the service {words[1]} is not known here", mend)
        return []
    rules = []
    for part in ports.split():
        protocol, _, numbers = part.partition("/")
        asked = [] if protocol == "any" else [protocol]
        asked += [] if numbers in ("any", "") else [side, numbers]
        got = matched(["proto", *asked] if protocol != "any" else asked, families, line, report)
        rules += [Rule(conditions, line) for conditions in got.conditions] if got else []
    return rules
