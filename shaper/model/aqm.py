"""How a leaf's queue is kept short: the discipline that the policy asks for, and its numbers."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AqmKind(enum.StrEnum):
    """fq_codel, by tc's name; or a plain queue that drops what comes when it is full."""

    FQ_CODEL = "fq_codel"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Aqm:
    """`target` and `interval` in seconds; a limit in `packets` or in `size` bytes; what is None was not said."""

    kind: AqmKind = AqmKind.FQ_CODEL
    ecn: bool | None = None
    target: float | None = None
    interval: float | None = None
    packets: int | None = None
    size: int | None = None
