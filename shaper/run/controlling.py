"""The control law of one interface at work: what it remembers, what it decides, and what the kernel took of that."""

from __future__ import annotations

from dataclasses import replace

from shaper import control
from shaper.history.records import Premise
from shaper.model.decision import Allocation, Change, Decision
from shaper.model.link_rate import LinkDecision
from shaper.model.observation import Observation
from shaper.model.status import Moved
from shaper.run.alarms import Alarms
from shaper.run.holding import Holding
from shaper.run.setups import setup_of


class Controlling:
    """Moves the rates of what is held. `wanted` says whether it may at all, `dry_run` that it only decides.

    `allocation` is what the classes have now, `changes` how many of them were given another.
    """

    allocation: Allocation
    decision: Decision
    _setup: control.Setup

    def __init__(self, holding: Holding, alarms: Alarms, *, wanted: bool, dry_run: bool) -> None:
        self.changes = 0
        self.premise: Premise | None = None
        """What the last decision stood on beside its inputs, None where none was made."""

        self._holding = holding
        self._alarms = alarms
        self._wanted = wanted
        self._dry_run = dry_run
        self._astray = False  # what it remembers is of another time, or of rates that were never set
        self._moved: dict[str, tuple[float, Change]] = {}
        self._take_over()
        self._state = control.initial(self._setup)

    @property
    def active(self) -> bool:
        """Whether it decides anything: it may, and there is a class whose rate can move, or a link that does."""
        return self._wanted and (self._holding.program.movable or self._holding.program.moving is not None)

    def resume(self) -> None:
        """Goes on with what is held now; what is known of classes that stay is kept."""
        self._take_over()
        self._state = control.resume(control.initial(self._setup), self.allocation, before=self._state)

    def restart(self) -> None:
        """Forgets what was found before: the link is another one."""
        self._take_over()
        self._state = control.initial(self._setup)

    def lower(self) -> None:
        """Goes on with limits that queues were too full for."""
        with self._alarms.watching("lowering"):
            if self._holding.lower():
                self._took()

    def decide(
        self,
        observation: Observation,
        *,
        now: float,
        held: str,
        frozen: str = "",
        link: LinkDecision | None = None,
    ) -> tuple[Decision, bool]:
        """The decision, and whether the kernel took it.

        Nothing is decided while it is `held` back, by what the words say. While it is `frozen` the decision is what it
        would do, and is not carried out. `link` is what was decided about a link that moves: its classes get what it
        carries.
        """
        if not self.active or held:
            self._astray = bool(held)
            self.decision, self.premise = Decision(self.allocation, held=held), None
            return self.decision, False
        if self._astray and not frozen:
            self._state = control.resume(control.initial(self._setup), self.allocation)
        self._astray = bool(frozen)
        applied, rate = False, None
        if self._holding.program.moving is not None:
            rate = self.link if link is None else link.rate
            self._setup = self._setup.carrying(rate, base=self._holding.program.link_in(self._holding.program.tree))
        decision = self._classes(observation, now=now, frozen=frozen)
        if link is not None:
            decision = replace(decision, link=link.move, held="; ".join(filter(None, (decision.held, link.held))))
        if frozen:
            decision = replace(decision, held="; ".join(filter(None, (frozen, decision.held))))
        elif (decision.changes or decision.link) and not self._dry_run:
            with self._alarms.watching("programming"):
                self._holding.send(self._holding.program.with_allocation(decision.allocation, link=rate))
                applied = True
                self.changes += len(decision.changes)
                self._moved |= {change.path: (now, change) for change in decision.changes}
            self._took()
        self.decision = decision
        return decision, applied

    def moved(self, now: float) -> tuple[Moved, ...]:
        """The last change of every class that has been moved and is still there, the latest first."""
        found = (Moved(now - at, change) for path, (at, change) in self._moved.items() if path in self.allocation)
        return tuple(sorted(found, key=lambda one: one.ago))

    def _classes(self, observation: Observation, *, now: float, frozen: str) -> Decision:
        """What the classes are granted; where none of them can move, what they have."""
        if not self._holding.program.movable:
            self.premise = None
            return Decision(self.allocation)
        self.premise = Premise(self._setup, self._state, now, frozen)
        self._state, decision = control.step(self._setup, self._state, observation, now=now)
        return decision

    @property
    def link(self) -> int:
        """The rate of the whole link that the kernel holds, in bit/s."""
        return self._holding.program.link_in(self._holding.tree)

    def _took(self) -> None:
        """Goes on from what the kernel took, not from what was asked."""
        self.allocation = self._holding.program.allocation_in(self._holding.tree)
        self._state = control.resume(self._state, self.allocation)

    def _take_over(self) -> None:
        program = self._holding.program
        self.allocation = program.allocation_in(self._holding.tree)
        self._setup = setup_of(program)
        self.decision = Decision(self.allocation)
