"""The steps that turn one tree into another, and their inverse."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from shaper.tree import Node


class Verb(enum.StrEnum):
    ADD = "add"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One message to the kernel: `before` is what was there (None for an add), `after` what will be (or None)."""

    verb: Verb
    before: Node | None
    after: Node | None

    @property
    def node(self) -> Node:
        """What the step is about."""
        node = self.after if self.after is not None else self.before
        assert node is not None
        return node

    def inverse(self) -> Step:
        """The step that takes this one back."""
        turned = {Verb.ADD: Verb.DELETE, Verb.DELETE: Verb.ADD, Verb.CHANGE: Verb.CHANGE}
        return Step(turned[self.verb], self.after, self.before)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order they must be sent, for one device. Empty when there is nothing to do."""

    device: str
    steps: tuple[Step, ...] = ()

    def inverse(self, done: int | None = None) -> Plan:
        """What takes back the first `done` steps (all, without a number), last first."""
        steps = self.steps if done is None else self.steps[:done]
        return Plan(self.device, tuple(step.inverse() for step in reversed(steps)))
