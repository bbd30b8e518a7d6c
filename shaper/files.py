"""Reading files that may be anything: a pipe, a device, endless."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_PART = 2**20


def read_regular(path: Path, *, most: int) -> bytes:
    """The content of a regular file. Never waits, and never reads more than `most` bytes. Raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:  # noqa: PTH123
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = bytearray()
        while len(data) <= most and (part := file.read(min(_PART, most + 1 - len(data)))):
            data += part  # asked for all at once, room is taken for the most that there may be
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most} bytes")
    return bytes(data)


def replace_file(path: Path, content: bytes) -> None:
    """Puts a file in place whole or not at all, on disk before it returns. Raises OSError."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(
        missing_ok=True
    )  # of one who was killed; and what else stands there, a link to elsewhere, is not followed
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
