"""A packet from the options of a command: each option is one field, read as the policy reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import click
from pydantic_core import PydanticCustomError

from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, TCP, UDP, Packet, Prefix
from shaper.policy import fields, values
from shaper.policy.names import WITH_PORTS
from shaper.report.match_words import found

Command = TypeVar("Command", bound=Callable[..., Any])

_IP_FIELDS = frozenset(("proto", "src", "dst", "sport", "dport", "dscp", "ecn", "tcp_flags", "icmp_type", "length"))
_GRE, _VXLAN = 47, 4789
_TUNNELS = frozenset((4, UDP, 41, _GRE))
_PLAIN_PORT = 49152  # the first that no service has (RFC 6335)
_FULL_LENGTH = 1500


class _Field(NamedTuple):
    """An option, how its text becomes a value, and whether the packet inside a tunnel has the field too."""

    name: str
    read: Callable[[object], object]
    help: str
    inside: bool = False


def number(text: object) -> object:
    """As YAML reads a scalar: what looks like a number is one."""
    try:
        return int(str(text), 0)
    except ValueError:
        return text


def _address(text: object) -> Prefix:
    prefix = values.prefix(text)
    if prefix.length != prefix.bits:
        raise click.BadParameter(f"{text} is a network: a packet has one address")
    return prefix


def _port(text: object) -> int:
    first, last = values.ports(number(text))
    if first != last:
        raise click.BadParameter(f"{text} is a range: a packet has one port")
    return first


def _flags(text: object) -> int:
    return sum({fields.tcp_flags(word.strip()).value for word in str(text).split(",")})


_FIELDS = (
    _Field("family", fields.family, "ipv4 or ipv6; else as the addresses say, or IPv4.", True),
    _Field("src", _address, "Source address.", True),
    _Field("dst", _address, "Destination address.", True),
    _Field("proto", lambda text: fields.protocol(number(text)), "Protocol: a name such as udp, or a number.", True),
    _Field("sport", _port, "Source port or service.", True),
    _Field("dport", _port, "Destination port or service.", True),
    _Field("dscp", lambda text: fields.dscp(number(text)), "DSCP: a name such as ef, or a number.", True),
    _Field("ecn", lambda text: fields.ecn(number(text)), "not-ect, ect0, ect1 or ce.", True),
    _Field("tcp-flags", _flags, "TCP flags that are set, such as syn,ack.", True),
    _Field("icmp-type", lambda text: fields.icmp_type(number(text)), "A name such as echo-request, or a number.", True),
    _Field("length", lambda text: fields.length(number(text)).first, "IP bytes.", True),
    _Field("ethertype", lambda text: fields.ethertype(number(text)), "Of what is not IP, such as arp.", True),
    _Field("vlan", lambda text: fields.vlan(number(text)).first, "The number of its VLAN tag."),
    _Field("pcp", lambda text: fields.pcp(number(text)), "The priority in its VLAN tag."),
    _Field("src-mac", fields.mac, "Source MAC address."),
    _Field("dst-mac", fields.mac, "Destination MAC address."),
    _Field("mark", lambda text: fields.mark(number(text)).value, "The kernel's mark."),
    _Field("iif", fields.device, "The device it came in by."),
    _Field("cgroup", fields.cgroup, "The cgroup of its socket."),
)


def packet_options(command: Command) -> Command:
    """Gives the command an option for each field of a packet, and for each of one inside a tunnel."""
    inside = [
        field._replace(name=f"inner-{field.name}", help=f"Inside a tunnel: {field.help}")
        for field in _FIELDS
        if field.inside
    ]
    marks = (("fragment", "It is a fragment."), ("inner-fragment", "Inside a tunnel: it is a fragment."))
    for name, help_text in reversed(marks):
        command = click.option(f"--{name}", is_flag=True, help=help_text)(command)
    for field in reversed([*_FIELDS, *inside]):
        command = click.option(f"--{field.name}", callback=read_option(field.read), metavar="VALUE", help=field.help)(
            command
        )
    return command


def read_option(read: Callable[[object], object]) -> Callable[[click.Context, click.Parameter, str | None], object]:
    """A callback of click's: the text as the policy reads it, and what the policy says of it where it is wrong."""

    def value(_context: click.Context, _option: click.Parameter, text: str | None) -> object:
        try:
            return None if text is None else read(text)
        except PydanticCustomError as error:
            said = error.context or {}
            raise click.BadParameter(f"{said.get('message')}; {said.get('hint')}") from None

    return value


def packet_of(options: Mapping[str, Any]) -> tuple[Packet, dict[str, str]]:
    """The packet, and what was assumed of it by the policy's keys. Raises UsageError where options contradict."""
    outer = {
        name: value for name, value in options.items() if not name.startswith("inner_") and value not in (None, False)
    }
    inner = {
        name.removeprefix("inner_"): value
        for name, value in options.items()
        if name.startswith("inner_") and value not in (None, False)
    }
    assumed: dict[str, str] = {}
    inside = _packet(inner, assumed, "inner ", None) if inner else None
    return _packet(outer, assumed, "", inside), assumed


def _packet(given: dict[str, Any], assumed: dict[str, str], where: str, inside: Packet | None) -> Packet:
    beside = {name: given[name] for name in ("vlan", "pcp", "src_mac", "dst_mac", "iif", "cgroup") if name in given}
    if ("vlan" in given) != ("pcp" in given):
        beside.setdefault("vlan", 0)
        beside.setdefault("pcp", 0)
        assumed[f"{where}{'pcp' if 'vlan' in given else 'vlan'}"] = "0"
    ethertype = _ethertype(given, assumed, where, inside)
    packet = Packet(ethertype, mark=given.get("mark", 0), **beside)
    if ethertype not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        if odd := sorted(_IP_FIELDS & given.keys()):
            raise click.UsageError(f"a packet of ethertype {ethertype:#06x} has no {odd[0].replace('_', '-')}")
        return packet

    def assume(name: str, value: int) -> int:
        key = {"protocol": "proto", "tcp_flags": "tcp-flags", "icmp_type": "icmp-type"}.get(name, name)
        assumed[f"{where}{key}"] = _said(name, value)
        return value

    for side in ("src", "dst"):
        if side not in given:
            assumed[f"{where}{side}"] = "in no network"
    protocol = given.get("proto")
    if protocol is None:
        protocol = assume("protocol", _GRE if inside else _likely_protocol(given, ethertype))
    if inside and protocol not in _TUNNELS:
        raise click.UsageError("this protocol carries no packet inside: --proto ipip, ipv6, gre, or udp for VXLAN")
    if inside and protocol == UDP and given.setdefault("dport", _VXLAN) != _VXLAN:
        raise click.UsageError(f"VXLAN is looked for on its own port only: leave --dport out, or {_VXLAN}")
    fragment = "fragment" in given
    packet = packet._replace(
        protocol=protocol,
        src=given["src"].value if "src" in given else None,
        dst=given["dst"].value if "dst" in given else None,
        dscp=given["dscp"] if "dscp" in given else assume("dscp", 0),
        ecn=given["ecn"] if "ecn" in given else assume("ecn", 0),
        length=given["length"] if "length" in given else assume("length", _FULL_LENGTH),
        inner=None if fragment else inside,
    )
    upper = given.keys() & {"sport", "dport", "tcp_flags", "icmp_type"}
    if fragment:
        if upper or inside:
            raise click.UsageError("a fragment shows neither ports, flags nor types, nor what a tunnel carries")
        return packet
    return packet._replace(**_upper(given, upper, packet, assume))


def _upper(given: dict[str, Any], upper: set[str], packet: Packet, assume: Callable[[str, int], int]) -> dict[str, Any]:
    """The fields of the header above IP."""
    assert packet.protocol is not None
    has: dict[str, Any] = {}
    if packet.protocol in WITH_PORTS:
        for name in ("sport", "dport"):
            has[name] = given[name] if name in given else assume(name, _PLAIN_PORT)
    if packet.protocol == TCP:
        has["tcp_flags"] = given["tcp_flags"] if "tcp_flags" in given else assume("tcp_flags", 0x10)
    if packet.protocol in (ICMP, ICMPV6):
        types = dict(given.get("icmp_type", ()))
        if types and packet.protocol not in types:
            raise click.UsageError("this ICMP type is not one of this protocol")
        has["icmp_type"] = types.get(packet.protocol)
        if not types:
            has["icmp_type"] = assume("icmp_type", 8 if packet.protocol == ICMP else 128)
    if odd := sorted(upper - has.keys()):
        raise click.UsageError(f"protocol {packet.protocol} has no {odd[0].replace('_', '-')}; see --proto")
    return has


def _ethertype(given: dict[str, Any], assumed: dict[str, str], where: str, inside: Packet | None) -> int:
    """As said, or as the addresses are; all that is said must agree."""
    said: dict[str, int] = {name: given[name] for name in ("ethertype", "family") if name in given}
    said |= {name: given[name].ethertype for name in ("src", "dst") if name in given}
    if len(set(said.values())) > 1:
        names = " and ".join(f"--{name}" for name in said)
        raise click.UsageError(f"{names} are not of the same IP version")
    if not said:
        assumed[f"{where}family"] = "ipv4"
        return ETHERTYPE_IPV4
    return next(iter(said.values()))


def _likely_protocol(given: dict[str, Any], ethertype: int) -> int:
    if "tcp_flags" in given:
        return TCP
    if "icmp_type" in given:
        return ICMP if ethertype == ETHERTYPE_IPV4 else ICMPV6
    if "sport" in given or "dport" in given:
        raise click.UsageError("ports belong to a protocol: add --proto udp or --proto tcp")
    return 255  # reserved: no policy means it


def _said(name: str, value: int) -> str:
    packet = Packet(ETHERTYPE_IPV4)._replace(**{name: value})  # type: ignore[arg-type]
    return str(value) if name == "icmp_type" else found(packet, "protocols" if name == "protocol" else name)
