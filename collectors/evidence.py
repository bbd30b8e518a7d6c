"""Frames of both taps kept as files, in bounded room, and no payload unless it is asked for.

A frame is kept up to the end of its headers. What follows is replaced by a keyed hash of it, which tells packets apart
as the payload did, so that the two files can be matched again; the key is forgotten with the program.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from collectors import pcap
from collectors.errors import CaptureError
from collectors.frames import parts_of
from collectors.hitters import hashed
from collectors.ring import Frame

KEPT = 4
"""Files of each tap: the one that is written, and those before it."""
_DIGEST = 8


class Evidence:
    """Writes `STEM.before.pcap` and `STEM.after.pcap` for a file name `STEM.pcap`, the older ones `STEM.before.1.pcap`.

    Together they never take more than `room` bytes. `secret` hashes addresses too, `payload` keeps what was captured.
    """

    def __init__(self, file: Path, *, room: int, payload: bool = False, secret: bytes = b"") -> None:
        """Raises CaptureError where the files cannot be made."""
        self._payload, self._addresses = payload, secret
        self._key = secret or secrets.token_bytes(16)
        stem = file.with_suffix("") if file.suffix in (".pcap", ".pcapng") else file
        self._sides = [_Rotated(stem, side, room // (2 * KEPT)) for side in ("before", "after")]

    def add(self, before: Sequence[Frame], after: Sequence[Frame]) -> None:
        """Frames of both taps. Raises CaptureError where the disk is full."""
        for side, frames in zip(self._sides, (before, after), strict=True):
            side.write([pcap.record((stamp, length, self._kept(frame))) for stamp, length, frame in frames])

    def close(self) -> tuple[Path, ...]:
        """The files that are there."""
        return tuple(path for side in self._sides for path in side.close())

    def _kept(self, frame: bytes) -> bytes:
        if self._payload and not self._addresses:
            return frame
        parts = parts_of(frame)
        if parts is None:
            return frame[:14]
        addresses, width, end = parts
        head, rest = frame[:end], frame[end:]
        if self._addresses:
            head = (
                hashed(frame[:6], self._addresses)
                + hashed(frame[6:12], self._addresses)
                + head[12:addresses]
                + hashed(head[addresses : addresses + width], self._addresses)
                + hashed(head[addresses + width : addresses + 2 * width], self._addresses)
                + head[addresses + 2 * width :]
            )
        if self._payload or not rest:
            return head + rest
        return head + hashlib.blake2b(rest, digest_size=_DIGEST, key=self._key).digest()


class _Rotated:
    def __init__(self, stem: Path, side: str, room: int) -> None:
        self._paths = [stem.with_name(f"{stem.name}.{side}{f'.{n}' if n else ''}.pcap") for n in range(KEPT)]
        self._room = max(room, 1 << 12)
        self._open()

    def _open(self) -> None:
        try:
            descriptor = os.open(self._paths[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "wb")
            self._size = self._file.write(pcap.header())
        except OSError as error:
            raise CaptureError(
                f"{self._paths[0]}: {error.strerror}", "name a file in a folder that is yours"
            ) from error

    def write(self, records: Sequence[bytes]) -> None:
        try:
            for one in records:
                if self._size + len(one) > self._room:
                    self._file.close()
                    for older, newer in zip(self._paths[:0:-1], self._paths[-2::-1], strict=True):
                        if newer.exists():
                            newer.replace(older)
                    self._open()
                self._size += self._file.write(one)
        except OSError as error:
            raise CaptureError(f"{self._paths[0]}: {error.strerror}", "make room, or ask for a smaller one") from error

    def close(self) -> list[Path]:
        self._file.close()
        return [path for path in self._paths if path.exists()]
