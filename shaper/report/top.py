"""The live view as a value: statuses and keys go in, a screen comes out. No terminal, no clock."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shaper.model.sla import SlaState
from shaper.model.status import ClassStatus, InterfaceStatus

KEPT = 240
"""Readings that a sparkline can show."""

Key = tuple[str, str, str]
"""A class: device, direction and path."""


class Order(enum.Enum):
    """What the classes are sorted by, and the key that says so."""

    POLICY = "p"
    NAME = "n"
    RATE = "r"
    DELAY = "d"
    LOSS = "l"
    QUEUE = "b"
    SLA = "s"


_WORST = (SlaState.MISSED, SlaState.NO_DATA, SlaState.MET, SlaState.NONE)


@dataclass(slots=True)
class Trace:
    """The past of one class, the newest last: bit/s, s, ratios; None where it was not measured."""

    rates: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    delays: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    losses: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    queues: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    counted: tuple[float, int, int, int] | None = None


@dataclass(slots=True)
class Top:
    """`place` is the interface that is shown, `chosen` the marked class, `inside` whether only that one is shown."""

    statuses: tuple[InterfaceStatus, ...] = ()
    traces: dict[Key, Trace] = field(default_factory=dict)
    order: Order = Order.POLICY
    reverse: bool = False
    place: int = 0
    chosen: str = ""
    inside: bool = False
    paused: bool = False
    helping: bool = False
    over: bool = False
    trouble: str = ""

    def update(self, statuses: Sequence[InterfaceStatus], *, now: float) -> None:
        """What is there `now` (s). While it is paused nothing is taken in."""
        if self.paused:
            return
        self.statuses, self.trouble = tuple(statuses), ""
        self.place = min(self.place, max(0, len(self.statuses) - 1))
        known = set()
        for status in self.statuses:
            for one in status.classes:
                key = (status.device, status.direction.value, one.path)
                known.add(key)
                _remember(self.traces.setdefault(key, Trace()), status, one, now=now)
        for key in self.traces.keys() - known:
            del self.traces[key]

    def press(self, key: str) -> None:
        """One key: a character, or `up`, `down`, `enter`, `escape`, `tab`."""
        orders = {order.value: order for order in Order}
        if key == "q":
            self.over = True
        elif self.helping:
            self.helping = False
        elif key in ("?", "h"):
            self.helping = True
        elif key in orders:
            self.reverse = not self.reverse if orders[key] is self.order else False
            self.order = orders[key]
        elif key in ("up", "k"):
            self._move(-1)
        elif key in ("down", "j"):
            self._move(1)
        elif key == "enter":
            self.inside = bool(self.classes())
            self.chosen = self.marked or ""
        elif key == "escape":
            self.inside = False
        elif key == "tab" and self.statuses:
            self.place = (self.place + 1) % len(self.statuses)
        elif key == " ":
            self.paused = not self.paused

    @property
    def status(self) -> InterfaceStatus | None:
        """The interface that is shown."""
        return self.statuses[self.place] if self.statuses else None

    @property
    def marked(self) -> str | None:
        """The path of the marked class: the first where the chosen one is not there."""
        paths = [one.path for one in self.classes()]
        return self.chosen if self.chosen in paths else next(iter(paths), None)

    def classes(self) -> list[ClassStatus]:
        """Of the interface that is shown, as they are sorted."""
        status = self.status
        if status is None:
            return []
        made = list(status.classes)
        if self.order is not Order.POLICY:
            made.sort(key=lambda one: _SORTS[self.order](one, self.trace(one.path)))
        return made[::-1] if self.reverse else made

    def trace(self, path: str) -> Trace:
        """The past of a class of the interface that is shown."""
        status = self.status
        assert status is not None
        return self.traces[status.device, status.direction.value, path]

    def _move(self, by: int) -> None:
        paths = [one.path for one in self.classes()]
        if paths:
            at = paths.index(self.marked or paths[0])
            self.chosen = paths[max(0, min(len(paths) - 1, at + by))]


def _remember(trace: Trace, status: InterfaceStatus, one: ClassStatus, *, now: float) -> None:
    """Without a running shaper rate and loss are from two readings of the counters."""
    counted = (now, one.sent_bytes, one.sent_packets, one.dropped_packets)
    if status.running:
        rate: float | None = one.throughput
        loss = one.loss
    else:
        rate, loss = _between(trace.counted, counted)
    trace.counted = counted
    view = one.delay
    trace.rates.append(rate)
    trace.losses.append(loss)
    trace.delays.append(view.quantiles.get(0.99) if view is not None and view.count else None)
    trace.queues.append(one.occupancy)


def _between(
    before: tuple[float, int, int, int] | None, after: tuple[float, int, int, int]
) -> tuple[float | None, float | None]:
    if before is None or after[0] <= before[0]:
        return None, None
    seconds, size, sent, dropped = (late - early for late, early in zip(after, before, strict=True))
    if size < 0 or dropped < 0:  # counted anew
        return None, None
    return size * 8 / seconds, dropped / (sent + dropped) if sent + dropped else None


def _last(values: deque[float | None]) -> float:
    return -(values[-1] or 0.0) if values and values[-1] is not None else 0.0


_SORTS: dict[Order, Callable[[ClassStatus, Trace], float | str]] = {
    Order.NAME: lambda one, _: one.path,
    Order.RATE: lambda _, trace: _last(trace.rates),
    Order.DELAY: lambda _, trace: _last(trace.delays),
    Order.LOSS: lambda _, trace: _last(trace.losses),
    Order.QUEUE: lambda _, trace: _last(trace.queues),
    Order.SLA: lambda one, _: _WORST.index(one.sla.state if one.sla else SlaState.NONE),
}
