"""Changes that people and `run` make to a device: who, when, why, from what to what, and how each ended."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shaper.model.policy import Direction, place_text

BEGUN, DONE, FAILED, TAKEN_BACK, ROLLED_BACK = "begun", "done", "failed", "taken back", "rolled back"
"""How a change ended. `begun` is under way, or was killed and waits for the next command to settle it."""


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever asked: the kernel vouches for `uid`, the rest is what their own process said."""

    uid: int
    user: str = ""
    sudo_user: str = ""
    tty: str = ""

    def __str__(self) -> str:
        name = self.user or f"uid {self.uid}"
        name += f" (sudo by {self.sudo_user})" if self.sudo_user else ""
        return f"{name} on {self.tty}" if self.tty else name


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one direction of a device, numbered from 1 in the order in which they began. `at` is wall time, s.

    `what` is apply, run, mend, schedule, clear, adopt, release, rollback, static, confirm, extend, expiry, freeze or
    thaw. `source` and `sha256` are of the policy in force after it, "" where none is; `before` is the change whose
    policy was in force until then, 0 for none; `of` is the change that a rollback goes back to, or that a confirm, an
    extend or an expiry is about. `confirmation` is the id that a change waits for its confirmation by. `steps` in
    words, the first of `step_count`.
    """

    number: int
    at: float
    what: str
    who: Who
    device: str
    why: str = ""
    interface: str = ""
    source: str = ""
    sha256: str = ""
    before: int = 0
    of: int = 0
    confirmation: str = ""
    steps: tuple[str, ...] = ()
    step_count: int = 0
    disruptive: int = 0
    structure: bool = True
    result: str = BEGUN
    reason: str = ""
    direction: Direction = Direction.EGRESS

    @property
    def place(self) -> str:
        """For people: the device, and the direction where it is not the usual one."""
        return place_text(self.device, self.direction)


def outcomes(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """The same changes, those that waited for a confirmation with what became of them as their result."""
    later: dict[str, str] = {}
    for change in changes:
        if change.confirmation and change.what in _ENDINGS and change.result == DONE:
            later[change.confirmation] = f"{_ENDINGS[change.what]} by {change.number}"
    return tuple(
        replace(change, result=later.get(change.confirmation, "waits for its confirmation"))
        if change.confirmation and change.what == "apply" and change.result == DONE
        else change
        for change in changes
    )


_ENDINGS = {"confirm": "confirmed", "rollback": ROLLED_BACK, "expiry": ROLLED_BACK}
