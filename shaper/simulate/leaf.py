"""The leaf's FIFO (sch_fifo.c), and what the model does not know."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from shaper.tree import FifoOptions, Handle, Qdisc, Tree


class Packet(NamedTuple):
    """`size` in bytes as the queue counts it, `arrived` in ns; `number` is the caller's name for it."""

    number: int
    size: int
    arrived: int


@dataclass(slots=True)
class Fifo:
    """`limit` in bytes, or in packets where `counts` says so."""

    limit: int
    counts: bool
    packets: deque[Packet]
    backlog: int = 0

    def put(self, packet: Packet) -> bool:
        """False where it is full: the packet is dropped. A limit below the backlog throws nothing away."""
        if (len(self.packets) + 1 if self.counts else self.backlog + packet.size) > self.limit:
            return False
        self.packets.append(packet)
        self.backlog += packet.size
        return True

    def take(self) -> Packet:
        """The oldest; there must be one."""
        packet = self.packets.popleft()
        self.backlog -= packet.size
        return packet


def fifo_of(qdisc: Qdisc) -> Fifo | None:
    """The model of a leaf's qdisc, None where it is another than a FIFO."""
    if qdisc.kind not in ("bfifo", "pfifo") or not isinstance(qdisc.options, FifoOptions):
        return None
    return Fifo(qdisc.options.limit, qdisc.kind == "pfifo", deque())


def unmodelled(tree: Tree, classes: Collection[Handle]) -> list[str]:
    """The queueing disciplines that the model does not know, at the root or under these classes; empty for none."""
    root = tree.root()
    found = {root.kind} if root is not None and root.kind != "htb" else set()
    return sorted(found | {qdisc.kind for qdisc in tree.qdiscs if qdisc.parent in classes and fifo_of(qdisc) is None})
