"""Facts of network devices: rtnetlink for what a device is, ethtool's ioctl for what it joins together."""

from __future__ import annotations

import array
import errno as errors
import fcntl
import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from collectors.netlink import RTM_GETLINK, Channel, NetlinkError, attribute, attributes, each_attribute, text

ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8

IFLA_IFNAME, IFLA_LINKINFO, IFLA_IFALIAS = 3, 18, 20
IFLA_INFO_KIND = 1
_IFLA_ADDRESS, _IFLA_PROP_LIST, _ALT_NAME = 1, 52, 53
_MAC_SIZE = 6
_IFLA_MTU, _IFLA_TXQLEN, _IFLA_EXT_MASK, _IFLA_CARRIER_CHANGES = 4, 13, 29, 35
IFLA_GSO_MAX_SEGS, _IFLA_GSO_MAX_SIZE, _IFLA_GSO_IPV4_MAX_SIZE = 40, 41, 63
_IFLA_LINK, _IFLA_MASTER, _IFLA_AF_SPEC, _IFLA_LINK_NETNSID = 5, 10, 26, 37
_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE = 8, 1
_FORWARDING: Mapping[int, tuple[int, int]] = {socket.AF_INET: (1, 0), socket.AF_INET6: (2, 0)}
"""Where a family keeps its settings of a device, and of these the one that says whether it forwards."""
_RTEXT_FILTER_SKIP_STATS = struct.pack("=I", 8)

_IFINFOMSG = struct.Struct("=BxHiII")
_SIOCETHTOOL = 0x8946
_ETHTOOL_GSET, _ETHTOOL_GFLAGS, _ETHTOOL_GGRO = 0x1, 0x25, 0x2B
_ETH_FLAG_LRO = 1 << 15
_CABLE = "veth"
_RTM_GETDCB, _DCB_IEEE_GET, _DCB_IFNAME = 78, 21, 1
_DCBMSG = struct.Struct("=BBxx")
_SPEED_UNKNOWN = (0, 0xFFFF, 0xFFFFFFFF)


class LinkReading(NamedTuple):
    """One device. `kind` is rtnetlink's ("veth", "ifb"; "" for hardware); sizes in bytes, `queue` in packets.

    `others` are its alternative names, `mac` its hardware address, "" where it has none. `master` and `below` are the
    indexes of the bridge, bond or such that it is a part of and of the device that it stands on (a VLAN's; of a veth
    its other end), 0 for none; `forwards` says whether what comes in by it may be routed on, in IPv4 or IPv6.
    `flaps` counts how often its carrier came or went.
    """

    name: str
    ifindex: int
    type: int
    flags: int
    mtu: int
    queue: int
    gso_max_segs: int
    gso_max_size: int
    kind: str
    alias: str
    others: tuple[str, ...] = ()
    mac: str = ""
    master: int = 0
    below: int = 0
    forwards: bool = False
    flaps: int = 0

    @property
    def up(self) -> bool:
        return bool(self.flags & _IFF_UP)

    @property
    def loopback(self) -> bool:
        return bool(self.flags & _IFF_LOOPBACK)

    @property
    def header(self) -> int:
        """Bytes of link-layer header in front of a packet in the qdisc: Ethernet has one, tunnels and PPP none."""
        return 14 if self.type in (ARPHRD_ETHER, ARPHRD_LOOPBACK) else 0


def pack_link(index: int = 0, *, flags: int = 0, change: int = 0) -> bytes:
    """A struct ifinfomsg; flags that are set are also the ones to change, beside those that `change` names."""
    return _IFINFOMSG.pack(0, 0, index, flags, flags | change)


def pack_silent(name: str) -> bytes:
    """The body of an RTM_SETLINK after which IPv6 gives the device no address once it is up, and so solicits nothing.

    A kernel without IPv6 refuses it with EAFNOSUPPORT.
    """
    mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_MODE_NONE]))
    asked = attribute(_IFLA_AF_SPEC, attribute(socket.AF_INET6, mode))
    return pack_link() + attribute(IFLA_IFNAME, name.encode() + b"\0") + asked


def dump_links(channel: Channel) -> list[bytes]:
    """All devices of the channel's namespace."""
    return channel.dump(RTM_GETLINK, pack_link() + attribute(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS))


def parse_link(body: bytes) -> LinkReading:
    """One message of a link dump."""
    _family, kind, index, flags, _change = _IFINFOMSG.unpack_from(body)
    found = attributes(body, _IFINFOMSG.size)

    def number(attr: int, default: int) -> int:
        return int(struct.unpack_from("=I", found[attr])[0]) if attr in found else default

    return LinkReading(
        name=text(found.get(IFLA_IFNAME, b"")),
        ifindex=index,
        type=kind,
        flags=flags,
        mtu=number(_IFLA_MTU, 0),
        queue=number(_IFLA_TXQLEN, 0),
        gso_max_segs=number(IFLA_GSO_MAX_SEGS, 65535),
        gso_max_size=max(number(_IFLA_GSO_MAX_SIZE, 65536), number(_IFLA_GSO_IPV4_MAX_SIZE, 0)),
        kind=text(attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"")),
        alias=text(found.get(IFLA_IFALIAS, b"")),
        others=tuple(text(name) for kind, name in each_attribute(found.get(_IFLA_PROP_LIST, b"")) if kind == _ALT_NAME),
        master=number(_IFLA_MASTER, 0),
        below=0 if _IFLA_LINK_NETNSID in found else number(_IFLA_LINK, 0),
        forwards=_forwards(found.get(_IFLA_AF_SPEC, b"")),
        flaps=number(_IFLA_CARRIER_CHANGES, 0),
        mac=found[_IFLA_ADDRESS].hex(":") if len(found.get(_IFLA_ADDRESS, b"")) == _MAC_SIZE else "",
    )


def _forwards(families: bytes) -> bool:
    for family, settings in attributes(families).items():
        kind, place = _FORWARDING.get(family, (0, 0))
        values = attributes(settings).get(kind, b"")
        if len(values) >= 4 * place + 4 and struct.unpack_from("=i", values, 4 * place)[0]:
            return True
    return False


class HasFileno(Protocol):
    """A socket of the device's namespace, of any family."""

    def fileno(self) -> int: ...


def ethtool(sock: HasFileno, device: str, data: array.array[int]) -> None:
    """One request of ethtool's in 32-bit words, the command first; the answer takes its place. Raises OSError."""
    address, _ = data.buffer_info()
    fcntl.ioctl(sock.fileno(), _SIOCETHTOOL, struct.pack("16sP16x", device.encode(), address))


def _ethtool(sock: HasFileno, device: str, command: int, words: int = 2) -> array.array[int] | None:
    """The answer in 32-bit words, the command first; None where the driver has no answer. Raises OSError."""
    data = array.array("I", [command] + [0] * (words - 1))
    try:
        ethtool(sock, device, data)
    except OSError as error:
        if error.errno in (errors.EOPNOTSUPP, errors.ENODEV, errors.EPERM):
            return None
        raise
    return data


def joins_packets(sock: HasFileno, device: str) -> bool:
    """Whether the device may join received packets into larger ones (GRO or LRO). Raises OSError."""
    gro = _ethtool(sock, device, _ETHTOOL_GGRO)
    flags = _ethtool(sock, device, _ETHTOOL_GFLAGS)
    return bool(gro and gro[1]) or bool(flags and flags[1] & _ETH_FLAG_LRO)


def heeds_priorities(sock: HasFileno, channel: Channel, link: LinkReading) -> bool:
    """Whether somebody behind the device's queue may go by the priority of a packet. Raises OSError.

    Nobody does behind a virtual cable, which takes it off, and behind Ethernet's hardware that has neither radio nor
    priorities of its own (802.1Q's, by the kernel's DCB). Others may, or hand it on to the queue of another device.
    """
    if link.kind == _CABLE:
        return False
    if link.kind or link.below or link.type != ARPHRD_ETHER:
        return True
    radio = _ethtool(sock, link.name, _ETHTOOL_GSET, 11) is None
    return radio or _has_dcb(channel, link.name)


def _has_dcb(channel: Channel, device: str) -> bool:
    """Whether it has, as far as anybody may know."""
    asked = _DCBMSG.pack(0, _DCB_IEEE_GET) + attribute(_DCB_IFNAME, device.encode() + b"\0")
    try:
        channel.request(_RTM_GETDCB, 0, asked)
    except NetlinkError as error:
        return error.errno != errors.EOPNOTSUPP
    return True


def link_speed(sock: HasFileno, device: str) -> int | None:
    """The link's speed in bit/s as the driver says it; None where it says none. Raises OSError."""
    settings = _ethtool(sock, device, _ETHTOOL_GSET, 11)
    if settings is None:
        return None
    # struct ethtool_cmd: the low half of the speed opens the fourth word, the high half the eighth.
    raw = settings.tobytes()
    (low,), (high,) = struct.unpack_from("=H", raw, 12), struct.unpack_from("=H", raw, 28)
    speed = high << 16 | low
    return None if speed in _SPEED_UNKNOWN else speed * 10**6
