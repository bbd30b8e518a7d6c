"""Netlink as bytes: a request and its answer, a dump and its messages, attributes in and out.

pyroute2 parses a dump at about 70 us a class, too slow for a tree that is read several times a second; this decoder
cuts messages with `struct` and looks only at what is asked for. `Channel` works over any AF_NETLINK socket.
"""

from __future__ import annotations

import ctypes
import errno as errors
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTCLASS, RTM_DELTCLASS, RTM_GETTCLASS = 40, 41, 42
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_NEWACTION, RTM_GETACTION = 48, 50

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
_NLM_F_DUMP_INTR, _NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x10, 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG = 1
_BATCH_BEGIN, _BATCH_END, _NFTABLES = 0x10, 0x11, 10
_SOL_NETLINK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 270, 11, 12

TCA_KIND, TCA_OPTIONS, TCA_STATS2, TCA_STAB, TCA_CHAIN = 1, 2, 7, 8, 11
_TCA_STATS_BASIC, _TCA_STATS_QUEUE, _TCA_STATS_PKT64 = 1, 3, 8

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TCMSG = struct.Struct("=BxHiIII")
_BASIC = struct.Struct("=QI")
_QUEUE = struct.Struct("=IIIII")
_NO_BASIC, _NO_QUEUE = bytes(_BASIC.size), bytes(_QUEUE.size)

# The kernel sizes a dump's messages by the largest buffer it has seen, up to 32 KiB: a long filter needs it.
_BUFFER = 1 << 16
_ATTEMPTS = 10
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


class NetlinkError(OSError):
    """What the kernel answered: `errno`, and `strerror` its own words where it gave some."""


class DumpInterruptedError(Exception):
    """The kernel's tables changed under every attempt to read them."""


class Socket(Protocol):
    """What a channel needs of a socket."""

    def send(self, data: bytes, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute (struct nlattr), padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on by type; of a type given twice the last. Stops at what is malformed."""
    found = {}
    last = len(data) - 4
    unpack = _ATTRIBUTE.unpack_from  # looked up once: this loop is most of the cost of a dump
    while offset <= last:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in their order, those of a type that comes several times too. Stops at what is malformed."""
    offset = 0
    while offset <= len(data) - 4:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += length + 3 & ~3


def text(payload: bytes) -> str:
    """A string attribute, without its closing zero."""
    return payload.split(b"\0", 1)[0].decode("utf-8", "replace")


class TcMessage(NamedTuple):
    """A struct tcmsg and its attributes. `info`: a class's leaf handle, or a filter's pref << 16 | protocol."""

    ifindex: int
    handle: int
    parent: int
    info: int
    attributes: dict[int, bytes]


def pack_tc(index: int, *, handle: int = 0, parent: int = 0, info: int = 0) -> bytes:
    """A struct tcmsg; `index` is the device's."""
    return _TCMSG.pack(0, 0, index, handle, parent, info)


def parse_tc(body: bytes) -> TcMessage:
    """A message of a qdisc, class or filter dump."""
    _family, _pad, index, handle, parent, info = _TCMSG.unpack_from(body)
    return TcMessage(index, handle, parent, info, attributes(body, _TCMSG.size))


class QueueStats(NamedTuple):
    """TCA_STATS2: `drops` counts skbs but `packets` segments; `backlog` is in bytes, `queued` in packets."""

    bytes: int = 0
    packets: int = 0
    drops: int = 0
    overlimits: int = 0
    backlog: int = 0
    queued: int = 0


def parse_stats(stats2: bytes) -> QueueStats:
    """The content of TCA_STATS2; what is missing counts as zero."""
    found = attributes(stats2)
    size, packets = _BASIC.unpack_from(found.get(_TCA_STATS_BASIC, _NO_BASIC))
    if _TCA_STATS_PKT64 in found:  # only there once the 32-bit counter has wrapped
        (packets,) = struct.unpack_from("=Q", found[_TCA_STATS_PKT64])
    queued, backlog, drops, _requeues, overlimits = _QUEUE.unpack_from(found.get(_TCA_STATS_QUEUE, _NO_QUEUE))
    return QueueStats(size, packets, drops, overlimits, backlog, queued)


class Channel:
    """Requests and dumps over one netlink socket; one call at a time."""

    def __init__(self, sock: Socket) -> None:
        self._socket = sock
        self._sequence = 0

    def request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Sends one message and waits for its ACK; gives the answers before it. Raises NetlinkError."""
        return self.requests([(kind, flags, body)])

    def requests(self, messages: list[tuple[int, int, bytes]]) -> list[bytes]:
        """Sends several messages in one system call, so that SIGKILL comes before all of them or after.

        It is no transaction: the kernel goes on after a refusal. Every ACK is read; raises the first NetlinkError.
        """
        first = self._sequence + 1
        data = b""
        for kind, flags, body in messages:
            self._sequence += 1
            data += _HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST | NLM_F_ACK, self._sequence, 0) + body
        self._socket.send(data)
        answers: list[bytes] = []
        refused: NetlinkError | None = None
        waiting = set(range(first, self._sequence + 1))
        while waiting:
            for kind, flags, sequence, body in self._receive():
                if sequence not in waiting:
                    continue
                if kind != _NLMSG_ERROR:
                    answers.append(body)
                    continue
                waiting.discard(sequence)
                refused = refused or _refusal(body, flags)
        if refused is not None:
            raise refused
        return answers

    def transaction(self, messages: list[tuple[int, int, bytes]]) -> None:
        """Sends messages to nftables in one batch: all of them take effect at once, or none. Raises NetlinkError."""
        ends = struct.pack("!BBH", 0, 0, _NFTABLES)
        batch = [(_BATCH_BEGIN, 0, ends), *messages, (_BATCH_END, 0, ends)]
        first, last = self._sequence + 1, self._sequence + len(messages) + 1
        data = b""
        for kind, flags, body in batch:
            self._sequence += 1
            asked = NLM_F_REQUEST | (NLM_F_ACK if self._sequence == last else 0)
            data += _HEADER.pack(16 + len(body), kind, flags | asked, self._sequence, 0) + body
        self._socket.send(data)
        refused: NetlinkError | None = None
        while True:  # a refusal of the batch itself answers its first message, and may be all that comes
            for kind, flags, sequence, body in self._receive():
                if kind != _NLMSG_ERROR or not first <= sequence <= last:
                    continue
                refused = refused or _refusal(body, flags)
                if sequence == last or (sequence == first and refused is not None):
                    if refused is not None:
                        raise refused
                    return

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all messages of a dump, begun anew while the tables change under it.

        Raises NetlinkError, DumpInterruptedError.
        """
        for _ in range(_ATTEMPTS):
            bodies = self._dump_once(kind, body)
            if bodies is not None:
                return bodies
        raise DumpInterruptedError(f"interrupted {_ATTEMPTS} times")

    def _dump_once(self, wanted: int, body: bytes) -> list[bytes] | None:
        self._sequence += 1
        header = _HEADER.pack(16 + len(body), wanted, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0)
        self._socket.send(header + body)
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, answer in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & _NLM_F_DUMP_INTR)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    error = _refusal(answer, flags) if len(answer) >= 4 else None
                    if error is not None:
                        raise error
                    return None if interrupted else bodies
                bodies.append(answer)

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        """One datagram as (type, flags, sequence, body)."""
        data = self._socket.recv(_BUFFER)
        messages = []
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
            if length < 16:
                break
            messages.append((kind, flags, sequence, data[offset + 16 : offset + length]))
            offset += length + 3 & ~3
        return messages


def _refusal(body: bytes, flags: int) -> NetlinkError | None:
    """The error in an ACK (or the end of a dump) with the extended ACK's text; None when all went well."""
    (code,) = struct.unpack_from("=i", body)
    if code >= 0:
        return None
    said = ""
    if flags & _NLM_F_ACK_TLVS:
        offset = 4
        if len(body) >= 20:  # an ACK repeats the request, whole unless capped
            (length,) = struct.unpack_from("=I", body, 4)
            offset += 16 if flags & _NLM_F_CAPPED else length + 3 & ~3
        said = text(attributes(body, offset).get(_NLMSGERR_ATTR_MSG, b""))
    return NetlinkError(-code, said or os.strerror(-code))


NAMESPACES = Path("/run/netns")


def namespaces() -> tuple[str, ...]:
    """The network namespaces that have a name here, as `ip netns` lists them."""
    try:
        return tuple(sorted(path.name for path in NAMESPACES.iterdir()))
    except OSError:
        return ()


def inside(netns: str | None, action: Callable[[], T]) -> T:
    """Runs `action` in a network namespace (a name under /run/netns, or a path), in a thread made for it.

    A socket opened there stays in that namespace; the caller never leaves its own. Raises OSError.
    """
    if netns is None:
        return action()
    path = netns if "/" in netns else f"{NAMESPACES}/{netns}"
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _enter(path)
            results.append(action())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name=f"netns {netns}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _enter(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(path).open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)


def open_socket(netns: str | None = None, protocol: int = NETLINK_ROUTE) -> socket.socket:
    """A plain netlink socket with extended ACKs, in a namespace. The caller closes it. Raises OSError."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, protocol)
        try:
            sock.bind((0, 0))
            extend(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    return inside(netns, make)


def extend(sock: socket.socket) -> None:
    """Asks for the kernel's words with every refusal, and for filtered dumps; older kernels have neither."""
    for option in (_NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
        try:
            sock.setsockopt(_SOL_NETLINK, option, 1)
        except OSError as error:
            if error.errno != errors.ENOPROTOOPT:
                raise
