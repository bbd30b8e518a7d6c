"""bfifo and pfifo: struct tc_fifo_qopt, a bare limit and no nest around it."""

from __future__ import annotations

import struct

from shaper.tree import FifoOptions

_QOPT = struct.Struct("=I")


def encode(options: FifoOptions) -> bytes:
    """The limit in bytes (bfifo) or packets (pfifo)."""
    return _QOPT.pack(options.limit)


def decode(data: bytes) -> FifoOptions:
    """Of a dumped qdisc."""
    return FifoOptions(*_QOPT.unpack_from(data))
