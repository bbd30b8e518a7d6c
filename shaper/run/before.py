"""How a direction stood before a change of several, as its folder keeps it until all of them are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shaper.model.policy import Direction
from shaper.plan.codec import tree_from_json, tree_to_json
from shaper.run.state import DeviceState, Record, record_from_json
from shaper.tree import Tree

NAME = "together.json"
FILES = ("record.json", "confirm.json", "refused.json", "released.json")
"""What says whose the direction is, and what waits there."""


@dataclass(frozen=True, slots=True)
class Before:
    """How one direction stood before a change of several; `last` is the number of the last change in its history.

    `places` are the place (`DeviceState.place`) and direction of each, in the order in which they change.
    """

    id: str
    boot: str
    places: tuple[tuple[str, str], ...]
    files: Mapping[str, Any]
    held: Tree
    last: int

    @property
    def record(self) -> Record | None:
        """What was ours."""
        data = self.files["record.json"]
        return None if data is None else record_from_json(data)


def unfinished(state: DeviceState) -> Before | None:
    """How the direction stood before a change of several that was killed; None when there was none."""
    before = read_before(state)
    return None if before is None or mark_of(state, before.id).exists() else before


def mark_of(state: DeviceState, ident: str) -> Path:
    """The file that makes a change of several hold."""
    return state.root / f"done-{ident}"


def write_before(side: DeviceState, before: Before) -> None:
    """On disk before it returns."""
    data = {
        "id": before.id,
        "boot": before.boot,
        "places": before.places,
        "files": before.files,
        "held": tree_to_json(before.held),
        "last": before.last,
    }
    side.write_json(NAME, data)


def read_before(side: DeviceState) -> Before | None:
    """What is kept there, also where the change holds already. Raises StateError when the file can't be read."""
    data = side.read_json(NAME)
    if data is None:
        return None
    with side.reading(NAME):
        places = tuple((str(device), Direction(way).value) for device, way in data["places"])
        files = {name: data["files"][name] for name in FILES}
        before = Before(data["id"], data["boot"], places, files, tree_from_json(data["held"]), int(data["last"]))
        if not (isinstance(before.id, str) and before.id.isalnum() and isinstance(before.boot, str)):
            raise TypeError("a field is of another type")
        return before
