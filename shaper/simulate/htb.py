"""HTB as the kernel schedules it (net/sched/sch_htb.c of 6.12): tokens, borrowing, priorities, turns by deficit.

The names in brackets are the kernel's. Times are in ns, and so are tokens.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from shaper.simulate.feed import Feed
from shaper.simulate.leaf import Fifo, Packet, fifo_of
from shaper.tree import TICK_NS, Handle, HtbClass, Tree, handle_text

_DEPTH = 8
_SECOND = 10**9
_LONGEST = 60 * _SECOND  # mbuffer


class LeafCounters(NamedTuple):
    """Of one leaf since the start: what it sent, what it dropped, and what waits in it."""

    sent_bytes: int
    sent_packets: int
    drops: int
    backlog_bytes: int
    queued_packets: int


class Mode(IntEnum):
    """What a class may do: nothing, borrow, send."""

    CANT_SEND = 0
    MAY_BORROW = 1
    CAN_SEND = 2


class _Rate:
    """Bytes to ns as psched_ratecfg_precompute has it: a 32-bit factor and a shift."""

    __slots__ = ("mult", "shift")

    def __init__(self, rate: int) -> None:
        per_second, factor, self.shift = rate // 8, _SECOND, 0
        while True:
            self.mult = factor // per_second
            if self.mult & (1 << 31) or factor & (1 << 63):
                break
            factor <<= 1
            self.shift += 1

    def time(self, size: int) -> int:
        return size * self.mult >> self.shift


class _Class:
    """A class at work; `prios` is the mask of priorities in which something of it waits (prio_activity)."""

    def __init__(self, cls: HtbClass, parent: _Class | None, level: int, leaf: Fifo | None) -> None:
        self.handle, self.parent, self.level, self.leaf = cls.handle, parent, level, leaf
        self.configure(cls)
        self.tokens, self.ctokens = self.buffer, self.cbuffer
        self.since = 0  # t_c
        self.mode = Mode.CAN_SEND
        self.prios = 0
        self.due: int | None = None  # pq_key
        self.feeds = [Feed() for _ in range(_DEPTH)]
        self.deficit = [0] * _DEPTH
        self.sent_bytes = self.sent_packets = self.drops = 0

    def configure(self, cls: HtbClass) -> None:
        self.rate, self.ceil = _Rate(cls.rate), _Rate(cls.ceil)
        self.buffer, self.cbuffer = cls.burst * TICK_NS, cls.cburst * TICK_NS
        self.prio, self.quantum = cls.prio, cls.quantum

    def mode_at(self, later: int) -> tuple[Mode, int]:
        """The mode `later` ns from `since`, and in how many ns it may change (htb_class_mode)."""
        if self.ctokens + later < 0:
            return Mode.CANT_SEND, -(self.ctokens + later)
        if self.tokens + later >= 0:
            return Mode.CAN_SEND, 0
        return Mode.MAY_BORROW, -(self.tokens + later)


class HtbModel:
    """The queues of one tree. `enqueue` and then `dequeue` until it gives nothing; again at `next_event`."""

    def __init__(self, tree: Tree) -> None:
        """A leaf that is no FIFO (`unmodelled`) takes no packet. Raises ValueError for another root than HTB."""
        root = tree.root()
        if root is None or root.kind != "htb":
            raise ValueError("the model knows HTB only")
        self._classes: dict[Handle, _Class] = {}
        for cls in _from_the_top(tree, root.handle):
            inner = any(other.parent == cls.handle for other in tree.classes)
            qdisc = tree.leaf_of(cls.handle)
            leaf = fifo_of(qdisc) if qdisc is not None else None
            parent = self._classes.get(cls.parent)
            level = 0 if not inner else (parent.level if parent else _DEPTH) - 1
            self._classes[cls.handle] = _Class(cls, parent, level, leaf)
        self._rows = [[Feed() for _ in range(_DEPTH)] for _ in range(_DEPTH)]  # by level and priority
        self._rows_taken = [0] * _DEPTH  # row_mask: the priorities of a level that somebody takes turns in
        self._waiting: list[list[tuple[int, int, _Class]]] = [[] for _ in range(_DEPTH)]  # wait_pq
        self._serial = 0
        self._now = 0
        self.queued = 0
        self.next_event: int | None = None

    def change(self, tree: Tree) -> None:
        """Other rates, bursts, quanta and limits of the same classes: queues and tokens stay as they are."""
        for cls in tree.classes:
            if not isinstance(cls, HtbClass):
                raise ValueError("the model knows HTB only")
            here = self._classes[cls.handle]
            here.configure(cls)
            qdisc = tree.leaf_of(cls.handle)
            if here.leaf is not None and qdisc is not None and (leaf := fifo_of(qdisc)) is not None:
                here.leaf.limit = leaf.limit

    def counters(self) -> dict[Handle, LeafCounters]:
        """Of every leaf, as the kernel has them."""
        return {
            handle: LeafCounters(cls.sent_bytes, cls.sent_packets, cls.drops, cls.leaf.backlog, len(cls.leaf.packets))
            for handle, cls in self._classes.items()
            if cls.leaf is not None
        }

    def enqueue(self, handle: Handle, packet: Packet) -> bool:
        """False where the leaf dropped it. Raises ValueError where the class has no FIFO."""
        cls = self._classes[handle]
        if cls.leaf is None:
            raise ValueError(f"the model knows no queue of {handle_text(handle)}")
        if not cls.leaf.put(packet):
            cls.drops += 1
            return False
        self.queued += 1
        if not cls.prios:  # htb_activate
            cls.prios = 1 << cls.prio
            self._activate(cls)
        return True

    def dequeue(self, now: int) -> tuple[Handle, Packet] | None:
        """What is sent at `now`; None when nothing may be, and then `next_event` is when to ask again."""
        self._now = now
        self.next_event = None
        if not self.queued:
            return None
        soonest = now + 5 * _SECOND
        for level in range(_DEPTH):
            soonest = min(soonest, self._events(level))
            if taken := self._rows_taken[level]:
                prio = (taken & -taken).bit_length() - 1
                return self._serve(self._rows[level][prio], prio, level)
        self.next_event = soonest
        return None

    # --- who may send

    def _activate(self, cls: _Class) -> None:
        """The class joins those that take turns, and so do the parents that it borrows from (htb_activate_prios)."""
        mask, parent = cls.prios, cls.parent
        while cls.mode == Mode.MAY_BORROW and parent is not None and mask:
            for prio in _bits(mask):
                if parent.feeds[prio]:
                    mask &= ~(1 << prio)
                parent.feeds[prio].add(cls.handle)
            parent.prios |= mask
            cls, parent = parent, parent.parent
        if cls.mode == Mode.CAN_SEND:
            self._rows_taken[cls.level] |= mask
            for prio in _bits(mask):
                self._rows[cls.level][prio].add(cls.handle)

    def _deactivate(self, cls: _Class) -> None:
        """htb_deactivate_prios"""
        mask, parent = cls.prios, cls.parent
        while cls.mode == Mode.MAY_BORROW and parent is not None and mask:
            left = 0
            for prio in _bits(mask):
                feed = parent.feeds[prio]
                if feed.here == cls.handle:
                    feed.here, feed.lost = None, cls.handle
                feed.remove(cls.handle)
                if not feed:
                    left |= 1 << prio
            mask = left
            parent.prios &= ~mask
            cls, parent = parent, parent.parent
        if cls.mode == Mode.CAN_SEND:
            for prio in _bits(mask):
                row = self._rows[cls.level][prio]
                if row.here == cls.handle:
                    row.advance()
                row.remove(cls.handle)
                if not row:
                    self._rows_taken[cls.level] &= ~(1 << prio)

    def _change_mode(self, cls: _Class, later: int) -> int:
        """Takes on the mode of `later` ns from `since`; returns in how many ns it may change."""
        mode, wait = cls.mode_at(later)
        if mode != cls.mode:
            if cls.prios and cls.mode != Mode.CANT_SEND:
                self._deactivate(cls)
            cls.mode = mode
            if cls.prios and mode != Mode.CANT_SEND:
                self._activate(cls)
        return wait

    def _wait(self, cls: _Class, wait: int) -> None:
        cls.due = self._now + max(1, wait)
        self._serial += 1
        heapq.heappush(self._waiting[cls.level], (cls.due, self._serial, cls))

    def _events(self, level: int) -> int:
        """Classes whose time has come change their mode; when the next one does (htb_do_events)."""
        waiting = self._waiting[level]
        while waiting:
            due, _, cls = waiting[0]
            if cls.due != due:  # it has left, or waits for another time
                heapq.heappop(waiting)
                continue
            if due > self._now:
                return due
            heapq.heappop(waiting)
            cls.due = None
            wait = self._change_mode(cls, min(self._now - cls.since, _LONGEST))
            if cls.mode != Mode.CAN_SEND:
                self._wait(cls, wait)
        return self._now + _SECOND

    # --- whose turn it is

    def _turn(self, row: Feed, prio: int) -> _Class:
        """The leaf whose turn it is below a row (htb_lookup_leaf)."""
        stack = [row]
        while True:
            feed = stack[-1]
            feed.recover()
            if feed.here is None:  # at the right end: from the left again, and on in the feed above
                feed.here = feed.handles[0]
                if len(stack) > 1:
                    stack.pop()
                    stack[-1].advance()
                continue
            cls = self._classes[feed.here]
            if cls.level == 0:
                return cls
            stack.append(cls.feeds[prio])

    def _serve(self, row: Feed, prio: int, level: int) -> tuple[Handle, Packet]:
        """htb_dequeue_tree"""
        cls = self._turn(row, prio)
        assert cls.leaf is not None
        packet = cls.leaf.take()
        self.queued -= 1
        cls.sent_bytes += packet.size
        cls.sent_packets += 1
        cls.deficit[level] -= packet.size
        if cls.deficit[level] < 0:
            cls.deficit[level] += cls.quantum
            if level:
                assert cls.parent is not None
                cls.parent.feeds[prio].advance()
            else:
                row.advance()
        if not cls.leaf.packets:
            self._deactivate(cls)
            cls.prios = 0
        self._charge(cls, level, packet.size)
        return cls.handle, packet

    def _charge(self, leaf: _Class, level: int, size: int) -> None:
        """Tokens for the packet from the leaf up; below the level that lends only the ceiling's (htb_charge_class)."""
        cls: _Class | None = leaf
        while cls is not None:
            passed = min(self._now - cls.since, _LONGEST)
            if cls.level >= level:
                cls.tokens = max(1 - _LONGEST, min(cls.buffer, cls.tokens + passed) - cls.rate.time(size))
            else:
                cls.tokens += passed
            cls.ctokens = max(1 - _LONGEST, min(cls.cbuffer, cls.ctokens + passed) - cls.ceil.time(size))
            cls.since = self._now
            before = cls.mode
            wait = self._change_mode(cls, 0)
            if cls.mode != before:
                cls.due = None
                if cls.mode != Mode.CAN_SEND:
                    self._wait(cls, wait)
            cls = cls.parent


def _bits(mask: int) -> Iterator[int]:
    return (prio for prio in range(_DEPTH) if mask >> prio & 1)


def _from_the_top(tree: Tree, root: Handle) -> Iterator[HtbClass]:
    waiting = [root]
    while waiting:
        above = waiting.pop()
        for cls in tree.classes:
            if not isinstance(cls, HtbClass):
                raise ValueError("the model knows HTB only")
            if cls.parent == above:
                yield cls
                waiting.append(cls.handle)
