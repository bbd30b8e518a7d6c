"""TCP on a device, both ways: its headers from a ring of their own, of so many flows as there is time for."""

from __future__ import annotations

import struct
from collections.abc import Callable

from collectors.ring import BLOCK_SIZE, PacketRing, captured_in, link
from collectors.sampling import Sampling
from collectors.tcp.filter import tcp_filter
from collectors.tcp.segments import segment
from collectors.tcp.tracker import TcpClass, TcpFlow, Tracker

MOST = 10_000
"""Frames a second that are looked at: some 5 % of a core. Of more, fewer flows are."""

_STATUS = struct.Struct("=I")
_STATUS_AT, _STATUS_USER = 8, 1
_BLOCK = struct.Struct("=12xII")
_HEADER = struct.Struct("=IIIII4xH32xB")  # as PacketRing's, and the packet's type in the sockaddr_ll behind it
_OUTGOING = 4


class _BothWays(PacketRing):
    """Says of each frame whether it went out."""

    blocks = 64

    def both(self) -> list[tuple[int, int, bytes, bool]]:
        """As `read`. Raises CaptureError."""
        self._check()
        ring, unpack = self._ring, _HEADER.unpack_from
        frames: list[tuple[int, int, bytes, bool]] = []
        for _ in range(self.blocks):
            start = self._block * BLOCK_SIZE
            if not _STATUS.unpack_from(ring, start + _STATUS_AT)[0] & _STATUS_USER:
                break
            count, first = _BLOCK.unpack_from(ring, start)
            at = start + first
            for _ in range(count):
                step, seconds, nanoseconds, kept, length, mac, kind = unpack(ring, at)
                data = at + mac
                stamp = seconds * 1_000_000_000 + nanoseconds
                frames.append((stamp, length, ring[data : data + kept], kind == _OUTGOING))
                at += step
            _STATUS.pack_into(ring, start + _STATUS_AT, 0)
            self._block = (self._block + 1) % self.blocks
        return frames


class TcpTap:
    """From the moment it is made until `close()`; `read()` it a few times a second.

    Round trips begin behind the device's queue: what a segment waits in it is no part of them.
    """

    def __init__(self, *, device: str, classify: Callable[[bytes], int], netns: str = "", most: int = MOST) -> None:
        """`classify` names the class of a flow, given as `collectors.frames` has it. At most about `most` frames a
        second are looked at. Raises CaptureError without the device or the permission.
        """

        def opened() -> tuple[_BothWays, int]:
            mtu = link(device).mtu
            ring = _BothWays(device, tcp_filter(1))
            try:
                ring.start()
            except BaseException:
                ring.close()
                raise
            return ring, mtu

        self._ring, self._mtu = captured_in(netns, opened)
        self._tracker = Tracker(classify)
        self._sampling = Sampling(1, 0.0, most=most)
        self.frames = self.drops = self.undecoded = 0

    @property
    def sampling(self) -> int:
        """One flow in so many is looked at."""
        return self._sampling.before

    def read(self, *, now: float) -> None:
        """Everything that came since the last time, at `now` (any clock, s); never waits. Raises CaptureError."""
        frames, drops = self._ring.both(), self._ring.drops()
        tracker, mtu = self._tracker, self._mtu
        if drops:
            tracker.missed()
        for stamp, length, frame, out in frames:
            one = segment(frame, length, mtu=mtu)
            if one is None:
                self.undecoded += 1
            elif out:
                tracker.sent(one, stamp)
            elif not drops:
                tracker.came(one, stamp)
        if drops:
            tracker.missed()
        self.frames += len(frames)
        self.drops += drops
        before = self.sampling
        self._sampling.take(len(frames), drops, now=now)
        if self.sampling != before:
            self._ring.narrow(tcp_filter(self.sampling))

    def classes(self, *, wall: float) -> dict[int, TcpClass]:
        """What is known of each class at `wall` time (s)."""
        return self._tracker.classes(now=int(wall * 1e9))

    def flows(self, classid: int, count: int, *, secret: bytes = b"") -> tuple[TcpFlow, ...]:
        """As Tracker has them."""
        return self._tracker.flows(classid, count, secret=secret)

    def close(self) -> None:
        """Gives back the socket; a second call does nothing."""
        self._ring.close()
