"""A datagram socket that knows when its packets entered the queue, left the machine and came back: the kernel's stamps.

Packets carry a DSCP, are never cut into fragments, and leave by the device that was named. What a router or the other
end says in ICMP comes out as words.
"""

from __future__ import annotations

import contextlib
import errno as errors
import os
import socket
import struct
import sys
from ipaddress import ip_address
from typing import NamedTuple

from collectors.errors import ProbeError
from collectors.netlink import inside
from collectors.probe.apart import set_apart

_SO_TIMESTAMPNS, _SO_TIMESTAMPING = 35, 37
_TX_SOFTWARE, _SOFTWARE, _OPT_ID, _TX_SCHED, _OPT_TSONLY = 1 << 1, 1 << 4, 1 << 7, 1 << 8, 1 << 11
_STAMPS = _TX_SOFTWARE | _TX_SCHED | _SOFTWARE | _OPT_ID | _OPT_TSONLY
_LEFT, _QUEUED = 0, 1
"""SCM_TSTAMP_SND and SCM_TSTAMP_SCHED of <linux/errqueue.h>."""

_IP_RECVTTL, _IP_RECVERR, _IP_RECVTOS, _IP_MTU_DISCOVER = 12, 11, 13, 10
_IPV6_RECVERR, _IPV6_MTU_DISCOVER = 25, 23
_NEVER_CUT, _HOPS = 2, 255
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
_FROM_ICMP, _FROM_ICMP6, _FROM_STAMPS = 2, 3, 4
_TIMESPEC = struct.Struct("=qq")
_INT = struct.Struct("=i")
_LARGEST = 65_535
_ROOM = 1024

_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "a packet too large for a link on the way",
    9: "network prohibited",
    10: "host prohibited",
    13: "prohibited by a filter",
}
_UNREACHABLE6 = {
    0: "no route",
    1: "prohibited by a filter",
    3: "address unreachable",
    4: "port unreachable",
    5: "source refused by a filter",
    6: "route rejected",
}


class Arrival(NamedTuple):
    """A packet that came: when by the kernel's stamp (Unix time in ns), with how many hops left and which DSCP."""

    data: bytes
    at: int
    hops: int | None = None
    dscp: int | None = None
    source: tuple[str, int] = ("", 0)


class Departure(NamedTuple):
    """When the packet sent as `number` (from 0) entered the device's queue, or `left` it: Unix time in ns."""

    number: int
    at: int
    left: bool


class Refusal(NamedTuple):
    """What ICMP said of a packet, and who."""

    text: str
    by: str


class Endpoint:
    """A socket to one address until `close()`. `protocol` is UDP, or ICMP of the address's own version."""

    def __init__(
        self,
        to: str,
        port: int = 0,
        *,
        icmp: bool = False,
        dscp: int = 0,
        device: str = "",
        netns: str = "",
        apart: bool = False,
    ) -> None:
        """`apart`: as in `set_apart`. Raises ProbeError where it may not be made, or there is no way to the address."""
        self.v6 = ip_address(to).version == 6
        self.raw = False
        self._to = (to, 0 if icmp else port)
        self.icmp = icmp
        self.protocol = (socket.IPPROTO_ICMPV6 if self.v6 else socket.IPPROTO_ICMP) if icmp else socket.IPPROTO_UDP
        try:
            self._socket = inside(netns or None, self._open)
        except OSError as error:
            raise ProbeError(
                f"no probe can be sent: {os.strerror(error.errno or 0)}", _MENDS.get(error.errno or 0, "")
            ) from error
        try:
            self._prepare(dscp, device, apart=apart)
            self._socket.connect(self._to)
        except OSError as error:
            self._socket.close()
            raise ProbeError(
                f"no probe can be sent to {to}: {error.strerror}", _MENDS.get(error.errno or 0, "")
            ) from error

    def _open(self) -> socket.socket:
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        if not self.icmp:
            return socket.socket(family, socket.SOCK_DGRAM)
        try:
            return socket.socket(family, socket.SOCK_DGRAM, self.protocol)
        except PermissionError:  # net.ipv4.ping_group_range leaves this group out
            self.raw = True
            return socket.socket(family, socket.SOCK_RAW, self.protocol)

    def _prepare(self, dscp: int, device: str, *, apart: bool) -> None:
        made = self._socket
        made.setblocking(False)
        receiving(made, v6=self.v6)
        for level, option, value in (*_SENDING[self.v6], *_marks(self.v6, dscp)):
            made.setsockopt(level, option, value)
        if apart:
            set_apart(made)
        with contextlib.suppress(OSError):  # a kernel without software stamps: the program's own are left
            made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMPS)
        if device:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())

    @property
    def local_port(self) -> int:
        """The port that it sends from; of a ping socket the identifier that the kernel writes."""
        return int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Gives back the socket."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Raises OSError; what ICMP said of an earlier packet is not this one's failure and comes from `reports`."""
        for _ in range(3):
            try:
                self._socket.send(data)
                return
            except OSError as error:
                if error.errno not in _OF_EARLIER:
                    raise
        self._socket.send(data)

    def arrivals(self) -> list[Arrival]:
        """What came, never waiting."""
        found: list[Arrival] = []
        while True:
            try:
                data, ancillary, _, source = self._socket.recvmsg(_LARGEST, _ROOM)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno in _OF_EARLIER:
                    continue
                raise
            found.append(arrival(_without_header(data) if self.raw and not self.v6 else data, ancillary, source))

    def reports(self) -> list[Departure | Refusal]:
        """What the kernel says of packets that were sent, never waiting."""
        found: list[Departure | Refusal] = []
        while True:
            try:
                _, ancillary, _, _ = self._socket.recvmsg(_LARGEST, _ROOM, socket.MSG_ERRQUEUE)
            except BlockingIOError:
                return found
            report = _report(ancillary)
            if report is not None:
                found.append(report)


_OF_EARLIER = frozenset(
    {errors.ECONNREFUSED, errors.EHOSTUNREACH, errors.ENETUNREACH, errors.EPROTO, errors.ENOPROTOOPT, errors.EACCES}
)
_MENDS = {
    errors.EPERM: "ICMP takes CAP_NET_RAW, or a group within net.ipv4.ping_group_range",
    errors.EACCES: "ICMP takes CAP_NET_RAW, or a group within net.ipv4.ping_group_range",
    errors.ENODEV: "`ip link` shows the devices there are",
    errors.ENETUNREACH: "`ip route get` shows the way there is",
    errors.EHOSTUNREACH: "`ip route get` shows the way there is",
}
_RECEIVING = {
    False: ((socket.IPPROTO_IP, _IP_RECVTTL), (socket.IPPROTO_IP, _IP_RECVTOS)),
    True: ((socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT), (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS)),
}
_SENDING = {
    False: (
        (socket.IPPROTO_IP, _IP_RECVERR, 1),
        (socket.IPPROTO_IP, _IP_MTU_DISCOVER, _NEVER_CUT),
        (socket.IPPROTO_IP, socket.IP_TTL, _HOPS),
    ),
    True: (
        (socket.IPPROTO_IPV6, _IPV6_RECVERR, 1),
        (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _NEVER_CUT),
        (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOPS),
    ),
}


def receiving(made: socket.socket, *, v6: bool) -> None:
    """Has the kernel say of each packet when it came, how many hops it had left, and its DSCP. Raises OSError."""
    for level, option in _RECEIVING[v6]:
        made.setsockopt(level, option, 1)
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def _marks(v6: bool, dscp: int) -> tuple[tuple[int, int, int], ...]:
    if v6:
        return ((socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2),)
    return ((socket.IPPROTO_IP, socket.IP_TOS, dscp << 2),)


def arrival(data: bytes, ancillary: list[tuple[int, int, bytes]], source: tuple[str, int]) -> Arrival:
    """A packet with what the kernel says beside it; without a stamp of the kernel's its time is 0."""
    at, hops, dscp = 0, None, None
    for level, kind, value in ancillary:
        match level, kind:
            case socket.SOL_SOCKET, _ if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack_from(value)
                at = seconds * 10**9 + nanoseconds
            case (socket.IPPROTO_IP, socket.IP_TTL) | (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT):
                (hops,) = _INT.unpack(value)
            case socket.IPPROTO_IP, socket.IP_TOS:
                dscp = value[0] >> 2
            case socket.IPPROTO_IPV6, socket.IPV6_TCLASS:
                dscp = _INT.unpack(value)[0] >> 2
    return Arrival(data, at, hops, dscp, (source[0], source[1]) if source else ("", 0))


def _report(ancillary: list[tuple[int, int, bytes]]) -> Departure | Refusal | None:
    stamp, said = 0, None
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            stamp = seconds * 10**9 + nanoseconds
        elif (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
            said = value
    if said is None:
        return None
    _, origin, kind, code, info, number = _EXTENDED_ERROR.unpack_from(said)
    if origin == _FROM_STAMPS and stamp and info in (_LEFT, _QUEUED):
        return Departure(number, stamp, info == _LEFT)
    if origin == _FROM_ICMP:
        return Refusal(_words(kind, code, 3, 11, _UNREACHABLE), _offender(said))
    if origin == _FROM_ICMP6:
        return Refusal(_words(kind, code, 1, 3, _UNREACHABLE6), _offender(said))
    return None


def _words(kind: int, code: int, unreachable: int, exceeded: int, names: dict[int, str]) -> str:
    if kind == unreachable and code in names:
        return names[code]
    return "hop limit exceeded" if kind == exceeded else f"ICMP type {kind} code {code}"


def _offender(said: bytes) -> str:
    """The address behind the extended error: a sockaddr of either family."""
    address = said[_EXTENDED_ERROR.size :]
    family = int.from_bytes(address[:2], sys.byteorder)
    if family == socket.AF_INET:
        return socket.inet_ntop(family, address[4:8])
    return socket.inet_ntop(family, address[8:24]) if family == socket.AF_INET6 else ""


def _without_header(data: bytes) -> bytes:
    """A raw IPv4 socket hands over the IP header, too."""
    return data[(data[0] & 0xF) * 4 :] if data else data
