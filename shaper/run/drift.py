"""Somebody else changes what is ours: what was found, and when putting it back would only be a fight."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from shaper.model.policy import Drift
from shaper.plan.drift import some
from shaper.tree import LinkFacts
from shaper.units import format_duration, format_rate

_MOST = 3
_WITHIN = 60.0
_PAUSE = 600.0


class _Patience:
    """Three times within a minute, then ten minutes of rest."""

    def __init__(self) -> None:
        self.rests_until = 0.0
        self._recent: deque[float] = deque(maxlen=_MOST)

    def spend(self, now: float) -> None:
        self._recent.append(now)
        if len(self._recent) == _MOST and now - self._recent[0] < _WITHIN:
            self.rests_until = now + _PAUSE
            self._recent.clear()

    def renew(self) -> None:
        self.rests_until = 0.0
        self._recent.clear()

    def resting(self, now: float) -> bool:
        return now < self.rests_until


class Mending:
    """Remembers what was found, and lets it be put back three times a minute; then it rests for ten minutes.

    A device that changes itself is no one to fight with: its tree follows it however often it goes and comes, and rests
    only where that fails. `found` is what differs, in words; `count` how often it was put back. Times are boot time in
    seconds.
    """

    def __init__(self) -> None:
        self.found: tuple[str, ...] = ()
        self.count = 0
        self._facts: tuple[str, ...] = ()
        self._fresh = False
        self._way = Drift.MEND
        self._fight, self._failing = _Patience(), _Patience()

    def saw(self, found: tuple[str, ...], facts: tuple[str, ...]) -> None:
        """A look at the device: what differs of ours, and how the device itself changed."""
        self.found, self._facts, self._fresh = found, facts, True

    def due(self, now: float) -> bool:
        """Whether the last look found something that may be put back, and nobody has tried since."""
        if self.found and self._way is Drift.REPORT:
            return False
        return self._fresh and bool(self.found or self._facts) and not self._patience.resting(now)

    def tries(self) -> None:
        """It is being put back; should that fail, the next look says whether it is worth another attempt."""
        self._fresh = False

    def sends(self, now: float) -> None:
        """The steps are sent now. The third time within a minute is the last for a while."""
        self._patience.spend(now)

    def succeeded(self, *, mended: bool) -> None:
        """All is as it should be; `mended` says that something had to be sent."""
        self.count += mended
        self.found = self._facts = ()
        self._failing.renew()

    def renew(self, way: Drift) -> None:
        """Somebody applied a policy: what was found before is over, and patience begins anew."""
        self._way = way
        self.found = self._facts = ()
        self._fight.renew()
        self._failing.renew()

    def words(self) -> str:
        """What putting it back is about, for the history and who watches."""
        if self.found:
            return f"put back what somebody changed: {some(self.found)}"
        return f"fitted to the device: {some(self._facts)}"

    def alarm(self, device: str, now: float) -> str:
        """What was found, as an alarm with its mend."""
        found = f"somebody changed what {device} holds: {some(self.found)}"
        if self._fight.resting(now):
            left = format_duration(round(self._fight.rests_until - now))
            return f"{found}; put back {_MOST} times within a minute, now left alone for {left}: find out who it is"
        return found + ("; an apply puts it back" if self._way is Drift.REPORT else "")

    @property
    def _patience(self) -> _Patience:
        return self._fight if self.found else self._failing


def changed_facts(before: LinkFacts, now: LinkFacts, *, asked: Collection[str] = ()) -> tuple[str, ...]:
    """How a device itself has changed as far as a tree depends on it, in words; rules name the devices `asked`."""
    pairs = (
        ("MTU", before.mtu, now.mtu),
        ("link-layer header", before.header, now.header),
        ("largest frame", before.super_packet, now.super_packet),
        ("feeders", _feeding(before), _feeding(now)),
        ("devices that rules name beside it", _there(before, asked), _there(now, asked)),
        ("speed", _speed(before), _speed(now)),
        ("translation", before.translates or "none", now.translates or "none"),
    )
    return tuple(f"the {name} of {now.name} is {new}, was {old}" for name, old, new in pairs if new != old)


def _feeding(link: LinkFacts) -> str:
    return ", ".join(feeder.device for feeder in link.feeders if feeder.feeds) or "none"


def _there(link: LinkFacts, asked: Collection[str]) -> str:
    there = (f"{feeder.device} (number {feeder.number})" for feeder in link.feeders if feeder.device in asked)
    return ", ".join(there) or "none"


def flapped(before: LinkFacts, now: LinkFacts) -> str:
    """In words that the link went and is back, "" where it did not, or is not yet."""
    if not now.up or (before.index, before.flaps) == (now.index, now.flaps):
        return ""
    return f"{now.name} came back" if before.index != now.index else f"the link of {now.name} went down and up"


def _speed(link: LinkFacts) -> str:
    return format_rate(link.speed) if link.speed else "unknown"
