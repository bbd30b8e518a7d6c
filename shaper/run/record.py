"""What the state folder says of one direction of a device: what of it is ours, and the apply that is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from shaper.compile.numbers import Adopted
from shaper.model.policy import Direction
from shaper.model.schedule import Phase
from shaper.plan.steps import Plan
from shaper.tree import Handle

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Record:
    """What is ours on one device: proof of ownership and the handle of every class path, for life.

    `boot` is the kernel's boot id: a record of an earlier boot owns nothing, but its handles are kept.
    `text` is the policy that was applied last, `files` the lists that it names, `source` where it was read from,
    `structure` whether tiers were compiled, `static` its static allocation (rate, ceil, queue and AQM target by leaf
    path): what a leaf still holds of it is the policy's. `change` is its number in the history of changes, 0 where
    that is not known.
    `offloads` are settings of devices that were changed for it: by device and name what was found, and what was set.
    `adopted` has the numbers of a tree that was taken over; `handles` are those of the policy without them. `phase` are
    the periods of its schedule whose numbers were applied. `stamp` is the instance of the program that measures in the
    kernel, "" where packets are captured. What comes in may be `policed`: then nothing of it has a root.
    """

    device: str
    interface: str
    source: str
    sha256: str
    boot: str
    root: Handle
    handles: Mapping[str, Handle] = field(default_factory=dict)
    tap: str = ""
    structure: bool = True
    text: str = ""
    static: Mapping[str, Sequence[int]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    change: int = 0
    direction: Direction = Direction.EGRESS
    offloads: Mapping[str, Sequence[int]] = field(default_factory=dict)
    phase: Phase = ()
    schema: int = _SCHEMA
    adopted: Adopted | None = None
    stamp: str = ""
    policed: bool = False

    @property
    def hooked(self) -> bool:
        """Whether something of it stands on a hook."""
        return bool(self.tap or self.stamp or self.policed)

    def names(self) -> dict[Handle, str]:
        """The paths of the classes by their handles in the kernel."""
        numbers = self.adopted.numbers if self.adopted else {}
        return {numbers.get(number, number): path for path, number in self.handles.items()}


@dataclass(frozen=True, slots=True)
class Pending:
    """An apply that was begun: its steps, and the records before and after it (None: nothing was ours)."""

    plan: Plan
    before: Record | None
    after: Record | None


def record_to_json(record: Record) -> dict[str, Any]:
    """A value that `json.dumps` takes."""
    adopted = record.adopted
    kept = None
    if adopted is not None:
        inner = [[number, *turns] for number, turns in sorted(adopted.inner.items())]
        kept = {**asdict(adopted), "numbers": sorted(adopted.numbers.items()), "inner": inner}
    return {**asdict(replace(record, adopted=None)), "adopted": kept}


def _adopted(data: Any) -> Adopted:
    return Adopted(
        {int(own): int(there) for own, there in data["numbers"]},
        int(data["default"]),
        int(data["direct_queue"]),
        {int(number): (int(prio), int(quantum)) for number, prio, quantum in data["inner"]},
    )


def record_from_json(data: Any) -> Record:
    """The record again. Raises ValueError: every field is looked at, since what it says decides what is removed."""
    try:
        adopted = None if data.get("adopted") is None else _adopted(data["adopted"])
        direction, phase = Direction(data.get("direction", Direction.EGRESS)), data.get("phase", ())
        phase = tuple(phase) if isinstance(phase, list) else phase
        record = Record(**{**data, "direction": direction, "adopted": adopted, "phase": phase})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no record: {error}") from error
    texts = (record.device, record.interface, record.source, record.sha256, record.boot, record.tap, record.text)
    sound = (
        all(isinstance(text, str) for text in (*texts, record.stamp))
        and type(record.root) is int
        and type(record.change) is int
        and type(record.structure) is bool
        and type(record.policed) is bool
        and isinstance(record.phase, tuple)
        and all(isinstance(path, str) for path in record.phase)
        and isinstance(record.handles, dict)
        and all(type(handle) is int for handle in record.handles.values())
        and isinstance(record.files, dict)
        and all(isinstance(text, str) for text in record.files.values())
        and isinstance(record.static, dict)
        and all(
            isinstance(grant, list) and [type(each) for each in grant] in ([int] * 3, [int] * 4)
            for grant in record.static.values()
        )
        and isinstance(record.offloads, dict)
        and all(
            isinstance(pair, list) and [type(each) for each in pair] == [int] * 2 for pair in record.offloads.values()
        )
        and all(name.count(" ") == 1 for name in record.offloads)
    )
    if not sound:
        raise ValueError("a record's field is of another type")
    if record.schema != _SCHEMA:
        raise ValueError(f"a record of schema {record.schema!r}, this shaper reads {_SCHEMA}")
    return record
