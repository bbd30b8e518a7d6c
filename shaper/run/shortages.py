"""From shortfalls tick by tick to shortages with a begin and an end: one alarm each, and one line of history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from shaper.model.decision import Decision, Shortfall
from shaper.model.shortage import Shortage
from shaper.run.alarms import Alarms

_TICKS = 2
"""So many ticks one after the other make a shortage: what one tick saw may be chance."""

_OVER = 10.0
"""Seconds without a shortfall after which it is over: what comes and goes is one shortage and not many."""

_Key = tuple[str, str]


@dataclass(slots=True)
class _Standing:
    """`seen` is the boot time at which it was short last, `first` the wall time at which it was short first."""

    seen: float
    first: float
    ticks: int = 0
    shortage: Shortage | None = None


class Shortages:
    """Of one interface. `begun` counts them since the start."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms
        self._known: dict[_Key, _Standing] = {}
        self.begun = 0

    @property
    def standing(self) -> tuple[Shortage, ...]:
        """Those that have begun and are not over."""
        return tuple(one.shortage for one in self._known.values() if one.shortage is not None)

    def tick(self, decision: Decision, *, now: float, at: float) -> tuple[Shortage, ...]:
        """Those that began, or ended, with this decision; `now` is boot time, `at` wall time."""
        news: list[Shortage] = []
        for short in decision.shortfalls:
            key = (short.path, short.target)
            known = self._known.setdefault(key, _Standing(now, at))
            known.seen, known.ticks = now, known.ticks + 1
            if known.shortage is not None:
                known.shortage = _worse(known.shortage, short, decision)
            elif known.ticks >= _TICKS:
                known.shortage = _shortage(short, decision, known.first)
                self.begun += 1
                self._sound(short, decision)
                news.append(known.shortage)
        for key, known in list(self._known.items()):
            if known.shortage is None and known.seen < now:
                del self._known[key]
            elif now - known.seen >= _OVER:
                news.extend(self._end(key, at=at - (now - known.seen)))
        return tuple(news)

    def close(self, *, at: float) -> tuple[Shortage, ...]:
        """Ends all that stand: nobody watches any more."""
        return tuple(shortage for key in list(self._known) for shortage in self._end(key, at=at))

    def _end(self, key: _Key, *, at: float) -> Iterator[Shortage]:
        shortage = self._known.pop(key).shortage
        self._alarms.end(_name(key))
        if shortage is not None:
            yield replace(shortage, ended=max(at, shortage.began))

    def _sound(self, short: Shortfall, decision: Decision) -> None:
        """Once, with the figures of then: an alarm that changes with every tick would be one with every tick."""
        order = f"; given up, in this order: {'; '.join(decision.given_up)}" if decision.given_up else ""
        self._alarms.sound(_name((short.path, short.target)), f"{short.words}{order}")


def _name(key: _Key) -> str:
    return f"short {' '.join(key)}"


def _shortage(short: Shortfall, decision: Decision, began: float) -> Shortage:
    figures = (short.need, short.granted, short.capacity)
    return Shortage(short.path, short.target, began, *figures, decision.given_up, bound=short.bound)


def _worse(known: Shortage, short: Shortfall, decision: Decision) -> Shortage:
    more = short.need - short.granted > known.need - known.granted
    return _shortage(short, decision, known.began) if more else known
