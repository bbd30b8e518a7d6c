"""What a class's traffic is probed with where the class has little or none of its own."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import ip_address

from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, TCP, UDP, Packet

_SYN, _ECHO_REQUEST, _ECHO_REQUEST6 = 0x02, 8, 128
_PLAIN_PORT = 49152  # the first that no service has (RFC 6335): where the kernel takes its own from begins below it


class ProbeKind(enum.StrEnum):
    """What is sent: test packets to a reflector, an echo request, or what a user's program would do."""

    STAMP = "stamp"
    TWAMP_LIGHT = "twamp-light"
    ICMP = "icmp"
    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    HTTP = "http"
    HTTPS = "https"

    @property
    def reflected(self) -> bool:
        """Whether the other end is a reflector, which gives times of its own."""
        return self in (ProbeKind.STAMP, ProbeKind.TWAMP_LIGHT)

    @property
    def transaction(self) -> bool:
        """Whether it is a connection, and not one packet each way."""
        return self in (ProbeKind.TCP, ProbeKind.TLS, ProbeKind.HTTP, ProbeKind.HTTPS)

    @property
    def named(self) -> bool:
        """Whether it can ask for a name."""
        return self in (ProbeKind.DNS, ProbeKind.TLS, ProbeKind.HTTP, ProbeKind.HTTPS)

    @property
    def sized(self) -> bool:
        """Whether its packets can be made longer."""
        return self.reflected or self is ProbeKind.ICMP

    @property
    def port(self) -> int:
        """The usual one of the other end; 0 where there is none, or none that is usual."""
        return _PORTS.get(self, 0)


_PORTS = {
    ProbeKind.STAMP: 862,
    ProbeKind.TWAMP_LIGHT: 862,
    ProbeKind.DNS: 53,
    ProbeKind.TLS: 443,
    ProbeKind.HTTP: 80,
    ProbeKind.HTTPS: 443,
}


class ProbeWhen(enum.StrEnum):
    """Whether a class is probed always, or only while it has no traffic of its own."""

    IDLE = "idle"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe to the address `to`, every `interval` seconds, with a DSCP.

    `size` in bytes is of the test packet, or of the data of an echo; 0 the least. `key_file` authenticates STAMP,
    `name` is the host's or, of DNS, what is asked for; `path` what of HTTP is.
    """

    to: str
    kind: ProbeKind
    port: int = 0
    interval: float = 0.2
    size: int = 0
    dscp: int = 0
    when: ProbeWhen = ProbeWhen.IDLE
    key_file: str = ""
    name: str = ""
    path: str = "/"

    @property
    def packet(self) -> Packet:
        """As a classifier sees the first packet of it."""
        address = ip_address(self.to)
        v6 = address.version == 6
        packet = Packet(
            ETHERTYPE_IPV6 if v6 else ETHERTYPE_IPV4,
            dst=int(address),
            dscp=self.dscp,
            ecn=0,
            length=self._length(v6=v6),
        )
        if self.kind is ProbeKind.ICMP:
            kind = _ECHO_REQUEST6 if v6 else _ECHO_REQUEST
            return packet._replace(protocol=ICMPV6 if v6 else ICMP, icmp_type=kind)
        packet = packet._replace(protocol=TCP if self.kind.transaction else UDP, sport=_PLAIN_PORT, dport=self.port)
        return packet._replace(tcp_flags=_SYN) if self.kind.transaction else packet

    def _length(self, *, v6: bool) -> int:
        """IP bytes."""
        if self.kind.transaction:
            return 80 if v6 else 60
        least = {ProbeKind.ICMP: 0, ProbeKind.DNS: 17 + len(self.name)}.get(self.kind, 112 if self.key_file else 44)
        return (40 if v6 else 20) + 8 + max(least, self.size)
