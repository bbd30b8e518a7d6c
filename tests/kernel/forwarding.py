"""Packets through a router as fast as they go, or at a rate, and what that took of a processor.

A sender in the peer's namespace writes frames to one cable, the router in the lab's namespace forwards them to another
through an HTB, and they end in the peer's again. On virtual cables all of that is done in the sender's system calls,
soft interrupts included: so its processor time is that of the whole way, whoever else uses the machine.
"""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from collectors.bpf.delays import KernelDelays
from shaper.compile import compile_interface
from shaper.plan import diff
from shaper.policy import parse_policy
from shaper.tree import Tree

if TYPE_CHECKING:
    from conftest import Lab, LinkPair

    from shaper.compile.program import Program

PORT, SOURCE = 5010, "10.99.1.2"
GONE = "10.99.2.77"
"""Nobody's address behind the router: what comes for it is counted by the device and ends there."""

POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 10gbit}}, policy: office}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 5%, limit: 10%, match: [{{dscp: ef}}], sla: {{delay-p99: 20ms}}}}
      video: {{tier: priority, guarantee: 20%, match: [{{dscp: af41}}, {{proto: tcp, dport: [80, 443]}}]}}
      rest: {{guarantee: 50%, default: true}}
"""
"""Never full: what is lost is lost by nobody's queue."""

_FRAME, _HEADERS, CUT = 1514, 42, 1400
"""Bytes of the largest frame; of the headers of one, Ethernet, IPv4 and UDP; and of each part of a super-packet."""
_VIRTIO, _GSO_UDP = struct.Struct("=BBHHHH"), 5
"""struct virtio_net_hdr: flags, kind, length of the headers and of a part, where the checksum begins and goes."""

_SENDER = """
import contextlib, ctypes, json, os, socket, sys, time
device, count, rate, head, size, port, ports, offload = sys.argv[1:]
count, rate, head, size, batch = int(count), float(rate), bytes.fromhex(head), int(size), 64
port, ports, offload = int(port), int(ports), bytearray.fromhex(offload)
libc = ctypes.CDLL(None, use_errno=True)
class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
class Header(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint)]
    _fields_ += [("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t)]
    _fields_ += [("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t)]
    _fields_ += [("flags", ctypes.c_int), ("gap", ctypes.c_int), ("sent", ctypes.c_uint), ("end", ctypes.c_int)]
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.setsockopt(263, 20, 1)  # PACKET_QDISC_BYPASS
sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
sock.setsockopt(263, 15, int(bool(offload)))  # PACKET_VNET_HDR: how it is to be cut stands before the frame
sock.bind((device, 0))
# Each frame is the head with a port, a number that tells it apart, and the rest: only port and number are written anew.
common, numbers = ctypes.create_string_buffer(head, size), (ctypes.c_uint64 * batch)()
towards = (ctypes.c_uint16.__ctype_be__ * batch)(*[port] * batch)
cut = ctypes.create_string_buffer(bytes(offload), len(offload) + 1)
vectors, headers = (Iovec * (6 * batch))(), (Header * batch)()
for at in range(batch):
    start = ctypes.addressof(common)
    vectors[6 * at] = Iovec(ctypes.addressof(cut), len(offload))
    vectors[6 * at + 1] = Iovec(start, 36)
    vectors[6 * at + 2] = Iovec(ctypes.addressof(towards) + 2 * at, 2)
    vectors[6 * at + 3] = Iovec(start + 38, len(head) - 38)
    vectors[6 * at + 4] = Iovec(ctypes.addressof(numbers) + 8 * at, 8)
    vectors[6 * at + 5] = Iovec(start + len(head), size - len(head) - 8)
    headers[at].iov, headers[at].iovlen = ctypes.addressof(vectors) + 6 * at * ctypes.sizeof(Iovec), 6
with contextlib.suppress(PermissionError):  # whoever else is there has no part in the figures
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
sent, begun, used = 0, time.monotonic(), time.process_time()
while sent < count:
    now = min(batch, count - sent)
    numbers[:] = range(sent, sent + batch)
    if ports > 1:
        towards[:] = [port + number % ports for number in range(sent, sent + batch)]
    done = libc.sendmmsg(sock.fileno(), headers, now, 0)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    sent += done
    if rate and (ahead := begun + sent / rate - time.monotonic()) > 0:
        time.sleep(ahead)
print(json.dumps({"sent": sent, "seconds": time.monotonic() - begun, "processor": time.process_time() - used}))
"""


@dataclass(frozen=True)
class Passage:
    """So many packets were sent and came out, in seconds by the clock and of a processor."""

    sent: int
    arrived: int
    seconds: float
    processor: float

    @property
    def rate(self) -> float:
        """Packets to a second of a processor."""
        return self.arrived / self.processor


def segments_of(size: int) -> int:
    """How many packets on the wire one of so many bytes becomes."""
    return 1 if size <= _FRAME else -(-(size - _HEADERS) // CUT)


def by_address(delays: KernelDelays, send: Callable[[], object]) -> None:
    """Packets are known by their addresses from now on, where this kernel can; `send` gives it one to learn from."""
    send()
    for _ in range(2):
        delays.prefer(addresses=True)
    assert delays.copied == bool(delays.copying)


class Router:
    """The lab's namespace between two cables, the second with a policy that never holds anything back."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.inner: LinkPair = lab.link_pair()
        self.outer: LinkPair = lab.link_pair()
        lab.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv6.conf.all.disable_ipv6=1")
        lab.run(f"sysctl -qw net.ipv4.conf.{self.inner.a}.rp_filter=0")
        lab.run(f"ip neigh add {GONE} lladdr {self._address(self.outer.b, peer=True)} dev {self.outer.a}")
        policy = parse_policy(POLICY.format(device=self.outer.a), source="p.yaml")
        self._kernel = lab.kernel()
        link = self._kernel.link(self.outer.a)
        able = self._kernel.capabilities()
        self.plain = compile_interface(policy.interfaces[0], able, link, tap=False)
        self._measured = compile_interface(policy.interfaces[0], able, link, stamp="bench")
        self._copied = compile_interface(policy.interfaces[0], able, link)
        self._held = self._kernel.read(self.outer.a)
        self._go(self.plain.tree)

    def _go(self, target: Tree) -> None:
        self._kernel.send(self.outer.a, diff(self._held, target, bounds={}).steps)
        self._held = target

    @contextlib.contextmanager
    def measuring(self, *, sampling: int = 1, addresses: bool = True) -> Iterator[KernelDelays]:
        """Packets are stamped in front of the queue and counted behind it, as under `shaper run`: known by their
        addresses, where the kernel can, or by their bytes."""
        program = self._measured
        assert program.stamp, program.unstamped
        handles = tuple(program.handles[leaf.path] for leaf in program.interface.leaves())
        delays = KernelDelays(classifier=program.stamping, handles=handles, sampling=sampling, classify=program.sorting)
        try:
            self._kernel.programs[program.stamp] = delays.entry
            self._go(program.tree)
            delays.start(self.outer.a, netns=self.lab.name)
            if addresses:
                by_address(delays, lambda: self.send(1))
            yield delays
        finally:
            self._go(self.plain.tree)
            delays.close()

    @contextlib.contextmanager
    def copying(self) -> Iterator[Program]:
        """Packets are copied in front of the queue, as under a `shaper run` that captures them."""
        program = self._copied
        assert program.measured, program.notes
        try:
            self._go(program.tree)
            yield replace(program, interface=replace(program.interface, netns=self.lab.name))
        finally:
            self._go(self.plain.tree)

    @property
    def default(self) -> int:
        """The class that all of the traffic is in."""
        return self.plain.handles["rest"]

    def send(self, count: int, *, rate: float = 0.0, size: int = 64, ports: int = 1) -> Passage:
        """UDP packets of so many bytes to so many ports, as fast as they go, or at a rate (packets a second).

        What is longer than a frame goes as one that is yet to be cut (`segments_of`).
        """
        offload = _VIRTIO.pack(1, _GSO_UDP, _HEADERS, CUT, 34, 6) if segments_of(size) > 1 else b""
        before = self._arrived()
        argv = f"ip netns exec {self.lab.peer} {sys.executable} -c".split()
        done = subprocess.run(
            [
                *argv,
                _SENDER,
                self.inner.b,
                str(count),
                str(rate),
                self._head(size).hex(),
                str(size),
                str(PORT),
                str(ports),
                offload.hex(),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        found = json.loads(done.stdout)
        sent = found["sent"] * segments_of(size)
        return Passage(sent, self._arrived() - before, found["seconds"], found["processor"])

    def _arrived(self) -> int:
        shown = self.lab.run(f"ip -j -s link show dev {self.outer.b}", peer=True)
        return int(json.loads(shown)[0]["stats64"]["rx"]["packets"])

    def _address(self, device: str, *, peer: bool = False) -> str:
        return str(json.loads(self.lab.run(f"ip -j link show dev {device}", peer=peer))[0]["address"])

    def _head(self, size: int) -> bytes:
        """Ethernet, IPv4 and UDP headers; of these neither checks its sum but IPv4."""
        target = bytes.fromhex(self._address(self.inner.a).replace(":", ""))
        addresses = b"".join(bytes(map(int, one.split("."))) for one in (SOURCE, GONE))
        ip = struct.pack("!BBHHHBBH", 0x45, 0, size - 14, 0, 0, 64, 17, 0) + addresses
        total = sum(struct.unpack("!10H", ip))
        total = (total & 0xFFFF) + (total >> 16)
        ip = ip[:10] + struct.pack("!H", 0xFFFF ^ (total & 0xFFFF) + (total >> 16)) + ip[12:]
        return target + bytes(6) + b"\x08\x00" + ip + struct.pack("!HHHH", 4000, PORT, size - 34, 0)
