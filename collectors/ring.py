"""A packet socket with a memory-mapped ring (TPACKET_V3): frames of one device with the kernel's time stamps.

Layouts are those of linux/if_packet.h and Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from collectors.errors import CaptureError
from collectors.netlink import inside

T = TypeVar("T")

Instruction = tuple[int, int, int, int]
"""One classic-BPF instruction: code, jt, jf, k."""

Frame = tuple[int, int, bytes]
"""Time stamp (CLOCK_REALTIME, ns), length on the wire in bytes (14 B header included), the first bytes of it."""

BLOCK_SIZE = 1 << 16
BLOCKS = 256
"""16 MB a ring: about 70,000 frames at a snap length of 128 B, and since a block that holds a frame is handed over
after RETIRE_MS at the latest, at least 4 s of thin traffic."""
RETIRE_MS = 16

_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _PACKET_IGNORE_OUTGOING = 5, 6, 10, 23
_TPACKET_V3 = 2
_SO_ATTACH_FILTER = 26
_ETH_P_ALL = 3
_SIOCGIFMTU, _SIOCGIFHWADDR = 0x8921, 0x8927
_WITH_ETHERNET_HEADER = (1, 772)  # ARPHRD_ETHER, ARPHRD_LOOPBACK

_FRAME_SIZE = 2048  # only has to divide the block: version 3 packs frames of any size
_STATUS = struct.Struct("=I")
_STATUS_AT, _STATUS_USER = 8, 1
_BLOCK = struct.Struct("=12xII")  # num_pkts, offset_to_first_pkt
_HEADER = struct.Struct("=IIIII4xH")  # tp_next_offset, tp_sec, tp_nsec, tp_snaplen, tp_len, tp_mac
_STATISTICS = struct.Struct("=III")  # packets, drops, freezes


class Link(NamedTuple):
    """`mtu` in bytes; `address` the hardware address."""

    mtu: int
    address: bytes


def captured_in(netns: str, make: Callable[[], T]) -> T:
    """What is made in a network namespace, "" for this one, and stays in it. Raises CaptureError."""
    try:
        return inside(netns or None, make)
    except OSError as error:
        raise CaptureError(
            f"the network namespace {netns!r} cannot be entered: {error.strerror}",
            "`ip netns list` shows those there are; it takes CAP_SYS_ADMIN",
            errno=error.errno or 0,
        ) from error


def link(device: str) -> Link:
    """What the capture must know of a device. Raises CaptureError when there is none, or none with Ethernet headers."""
    request = struct.pack("16s24x", os.fsencode(device)[:16])
    try:
        if len(os.fsencode(device)) > 15:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            (mtu,) = struct.unpack_from("=i", fcntl.ioctl(sock, _SIOCGIFMTU, request), 16)
            kind, address = struct.unpack_from("=H6s", fcntl.ioctl(sock, _SIOCGIFHWADDR, request), 16)
    except OSError as error:
        raise refused(device, error) from error
    if kind not in _WITH_ETHERNET_HEADER:
        raise CaptureError(
            f"{device} has no Ethernet header (link type {kind}): its packets cannot be matched",
            "delay is measured on Ethernet-like devices only; counters work on every device",
        )
    return Link(mtu, address)


class PacketRing:
    """Frames of one device that pass a filter, from `start()` until `close()`."""

    blocks = BLOCKS

    def __init__(self, device: str, program: Sequence[Instruction]) -> None:
        """`program` returns how many bytes of a frame are kept, 0 for none. Raises CaptureError."""
        self.device = device
        self._block = 0
        try:
            # Protocol 0 receives nothing, so that no frame comes in between here and the filter.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            raise refused(device, error) from error
        try:
            self._attach(program)
            self._map()
        except OSError as error:
            self.close()
            raise refused(device, error) from error

    def start(self) -> None:
        """Takes frames from now on. Apart from the making, which takes long, so that two rings start together.

        Raises CaptureError, also for a device that is down.
        """
        try:
            self._socket.bind((self.device, _ETH_P_ALL))
        except OSError as error:
            raise refused(self.device, error) from error
        self._check()

    def _check(self) -> None:
        if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise refused(self.device, OSError(code, os.strerror(code)))

    def narrow(self, program: Sequence[Instruction]) -> None:
        """Another filter from the next frame on, in one step. Raises CaptureError."""
        try:
            self._attach(program)
        except OSError as error:
            raise refused(self.device, error) from error

    def listen(self, *, outgoing: bool) -> None:
        """Whether it is given what goes out, from the next frame on; what it is not given is not even copied for it.

        Raises CaptureError.
        """
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, int(not outgoing))
        except OSError as error:
            raise refused(self.device, error) from error

    def _attach(self, program: Sequence[Instruction]) -> None:
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
        program_header = struct.pack("HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program_header)

    def _map(self) -> None:
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        frames = self.blocks * BLOCK_SIZE // _FRAME_SIZE
        request = struct.pack("=7I", BLOCK_SIZE, self.blocks, _FRAME_SIZE, frames, RETIRE_MS, 0, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
        self._ring = mmap.mmap(self._socket.fileno(), self.blocks * BLOCK_SIZE)

    def read(self) -> list[Frame]:
        """Every frame in the blocks that the kernel has handed over, oldest first; their blocks go back. Never waits.

        Raises CaptureError when the device went down; frames come again when it is up.
        """
        self._check()
        ring = self._ring
        unpack = _HEADER.unpack_from
        frames: list[Frame] = []
        for _ in range(self.blocks):  # once round at most, however fast new frames come
            start = self._block * BLOCK_SIZE
            if not _STATUS.unpack_from(ring, start + _STATUS_AT)[0] & _STATUS_USER:
                break
            count, first = _BLOCK.unpack_from(ring, start)
            at = start + first
            for _ in range(count):
                step, seconds, nanoseconds, kept, length, mac = unpack(ring, at)
                data = at + mac
                frames.append((seconds * 1_000_000_000 + nanoseconds, length, ring[data : data + kept]))
                at += step
            _STATUS.pack_into(ring, start + _STATUS_AT, 0)
            self._block = (self._block + 1) % self.blocks
        return frames

    def drops(self) -> int:
        """Frames lost for want of room since the last call."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        return int(_STATISTICS.unpack(statistics)[1])

    def close(self) -> None:
        """Gives back the mapping and the socket; a second call does nothing."""
        if hasattr(self, "_ring"):
            self._ring.close()  # holds a file descriptor of its own
        self._socket.close()


def refused(device: str, error: OSError) -> CaptureError:
    """What a packet socket of a device was refused, with its mend."""
    code = error.errno or 0
    if code in (errno.EPERM, errno.EACCES):
        return CaptureError(
            "capturing packets is not permitted",
            "run as root, or give the process CAP_NET_RAW in the network namespace of the device",
            errno=code,
        )
    if code in (errno.ENODEV, errno.ENXIO):
        return CaptureError(f"there is no device {device}", "`ip link` lists the devices there are", errno=code)
    if code == errno.ENETDOWN:
        return CaptureError(f"{device} is down", f"bring it up: ip link set {device} up", errno=code)
    if code == errno.ENOMEM:
        return CaptureError(
            f"no memory for the capture of {device}",
            f"a ring takes {BLOCKS * BLOCK_SIZE >> 20} MB; free some, or raise the memory limit of the process",
            errno=code,
        )
    return CaptureError(
        f"capturing on {device}: {os.strerror(code)}", "see `doctor` for what this kernel has", errno=code
    )
