"""A change that waits for its confirmation, as the state folder has it, and a policy that was not confirmed.

`confirm.json` stands from before the first step of the change until it is confirmed or rolled back, and holds all that
rolling back needs. `refused.json` names a policy that nobody confirmed, so that `run` does not bring it up by itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from shaper.run.state import DeviceState, Record, boot_id, record_from_json, record_to_json

_CONFIRM, _REFUSED = "confirm.json", "refused.json"


@dataclass(frozen=True, slots=True)
class Waiting:
    """`deadline` in seconds of boot time, of the boot `boot`; `before` is what was in force, and confirmed.

    `change` is the change's number, `sha256` its policy's. `judged` is the boot time at which a running shaper judges
    the change by itself, None where only a person confirms. `trouble` is why the rolling back did not work so far.
    """

    id: str
    change: int
    sha256: str
    boot: str
    deadline: float
    before: Record | None
    judged: float | None = None
    trouble: str = ""

    def left(self, now: float) -> float:
        """Seconds until it is rolled back; 0 after a reboot."""
        return max(0.0, self.deadline - now) if self.boot == boot_id() else 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A policy that was not confirmed in time: never brought up but by an `apply`."""

    sha256: str
    change: int


def read_waiting(state: DeviceState) -> Waiting | None:
    """What waits on the device. Raises StateError when the file can't be read."""
    data = state.read_json(_CONFIRM)
    if data is None:
        return None
    with state.reading(_CONFIRM):
        before = data["before"]
        waiting = Waiting(**{**data, "before": None if before is None else record_from_json(before)})
        numbers = (waiting.deadline, waiting.change, *(() if waiting.judged is None else (waiting.judged,)))
        texts = (waiting.id, waiting.sha256, waiting.boot, waiting.trouble)
        if not (
            all(isinstance(text, str) for text in texts) and all(isinstance(each, (int, float)) for each in numbers)
        ):
            raise TypeError("a field is of another type")
        return waiting


def write_waiting(state: DeviceState, waiting: Waiting | None) -> None:
    """On disk before it returns; None: nothing waits any more."""
    state.write_json(_CONFIRM, None if waiting is None else _plain(waiting))


def read_refused(state: DeviceState) -> Refused | None:
    """The policy that was not confirmed, until another is applied."""
    data = state.read_json(_REFUSED)
    if data is None:
        return None
    with state.reading(_REFUSED):
        return Refused(str(data["sha256"]), int(data["change"]))


def write_refused(state: DeviceState, refused: Refused | None) -> None:
    """On disk before it returns."""
    state.write_json(_REFUSED, None if refused is None else asdict(refused))


def _plain(waiting: Waiting) -> dict[str, Any]:
    before = record_to_json(waiting.before) if waiting.before else None
    return {**asdict(replace(waiting, before=None)), "before": before}
