"""What one interface leaves in the store: a line a second, its decisions, and its shortages."""

from __future__ import annotations

from shaper.history.buffered import BufferedHistory
from shaper.history.links import LinkPremise
from shaper.history.records import Premise
from shaper.model.decision import Allocation, Decision
from shaper.model.observation import Observation
from shaper.model.status import InterfaceStatus
from shaper.run.alarms import Alarms
from shaper.run.clock import Clock
from shaper.run.shortages import Shortages
from shaper.run.state import DeviceState

_RETENTION = 30 * 86400.0
_PRUNE_EVERY = 3600.0


class Chronicle:
    """Of one direction of a device, until `close`; what can't be written now is kept, and `alarm` says so.

    What a run that was killed left open is ended first.
    """

    def __init__(self, state: DeviceState, clock: Clock, alarms: Alarms) -> None:
        self.shortages = Shortages(alarms)
        self._device = state.device
        self._clock = clock
        self._pruned = 0.0
        self._history = BufferedHistory(state.history)
        if state.history.exists():
            self._history.end_shortages(at=clock.wall(), device=self._device)

    @property
    def alarm(self) -> str:
        """What an operator has to know, "" when all is well."""
        return self._history.alarm

    def regard(self, decision: Decision, *, now: float) -> None:
        """The shortages that began, or ended, with a decision at boot time `now`."""
        at = self._clock.wall()
        news = self.shortages.tick(decision, now=now, at=at)
        self._history.shortages(at=at, device=self._device, news=news)

    def journal(
        self,
        observation: Observation,
        decision: Decision,
        *,
        read_back: Allocation | None,
        premise: Premise | None,
        link: LinkPremise | None,
    ) -> None:
        """A decision with all that it stood on; `read_back` is what the kernel then held, None where nothing was sent.

        `premise` and `link` are what the laws knew beside the inputs.
        """
        self._history.decide(
            at=self._clock.wall(),
            device=self._device,
            decision=decision,
            applied=read_back is not None,
            read_back=read_back,
            inputs=observation,
            premise=premise,
            link=link,
        )

    def second(self, status: InterfaceStatus) -> None:
        """One line of each class; once an hour what is older than 30 days goes."""
        at = self._clock.wall()
        self._history.observe(at=at, device=self._device, status=status)
        if at - self._pruned > _PRUNE_EVERY:
            self._pruned = at
            self._history.prune(before=at - _RETENTION)

    def close(self) -> None:
        """Ends the shortages, since nobody watches any more, and gives back the file."""
        at = self._clock.wall()
        self._history.shortages(at=at, device=self._device, news=self.shortages.close(at=at))
        self._history.close()
