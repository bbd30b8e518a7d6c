"""The options of the qdiscs under a class."""

from __future__ import annotations

from typing import NamedTuple


class FifoOptions(NamedTuple):
    """`limit` in bytes for bfifo, in packets for pfifo."""

    limit: int


class FqCodelOptions(NamedTuple):
    """`limit` in packets, `memory` in bytes, `target` and `interval` in microseconds, `quantum` in bytes."""

    limit: int
    target: int
    interval: int
    quantum: int
    flows: int
    memory: int
    ecn: bool


class RawOptions(NamedTuple):
    """Options of a kind that we do not program: kept as the kernel gave them, to compare and to name."""

    data: bytes
