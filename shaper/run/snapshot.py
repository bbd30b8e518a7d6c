"""A machine in files: planning away from it, in CI or at a desk. Reads nothing else, changes nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from shaper.errors import Exit, ShaperError, UnavailableError
from shaper.files import read_regular
from shaper.kernel.protocol import DeviceCounters
from shaper.model.device import DeviceName, split_spot, spot
from shaper.model.policy import Interface
from shaper.plan import diff
from shaper.plan.codec import tree_from_json, tree_to_json
from shaper.plan.steps import Plan, Step
from shaper.run.doctor import Finding
from shaper.run.offloads import released
from shaper.run.ours import ours
from shaper.run.prepare import Prepared
from shaper.run.state import DeviceState, Pending, Record, boot_id, record_from_json, record_to_json
from shaper.tree import (
    Capabilities,
    Feeder,
    LinkFacts,
    LookupProgram,
    MarkTable,
    Occupancy,
    Offload,
    Tree,
    tree,
    with_offloads,
)

_LARGEST = 256 * 2**20


class SnapshotError(ShaperError):
    """A file that was to stand for a machine can't be read, or is none."""

    exit = Exit.POLICY


@dataclass(frozen=True, slots=True)
class Device:
    """One direction of a device as a snapshot has it: its link, all that it holds, and what is ours of that.

    `other` is what is ours of its other direction, `netns` the network namespace that it was named with.
    """

    link: LinkFacts
    held: Tree
    known: Record | None
    other: Record | None = None
    netns: str = ""

    def record(self) -> Record | None:
        return self.known

    def pending(self) -> Pending | None:
        return None

    def beside(self) -> Record | None:
        return self.other

    def let_go(self) -> Record | None:
        return None

    def others(self) -> Sequence[Record]:
        return (self.other,) if self.other else ()


def capabilities_to_json(have: Capabilities) -> dict[str, Any]:
    """As `doctor --json` prints them under `capabilities`."""
    return {"kernel": have.kernel} | {name: sorted(getattr(have, name)) for name in _KINDS}


def live_to_json(prepared: Prepared) -> dict[str, Any]:
    """As `plan --json` prints a device under `live`. A record of an earlier boot keeps only its handles."""
    record = prepared.before
    return {
        "link": asdict(prepared.link),
        "tree": tree_to_json(prepared.seen),
        "record": record_to_json(record) if record else None,
        "current": record is not None and record.boot == boot_id(),
        "netns": prepared.program.interface.netns,
    }


def read_capabilities(path: Path) -> Capabilities:
    """From what `doctor --json` printed.

    Raises SnapshotError; UnavailableError with what doctor found where it could not probe the kernel.
    """
    with _Reading(path, "what `shaper doctor --json` printed"):
        whole = _object(path)
        data = whole["capabilities"]
        if data is None:
            needed = [one for one in whole["findings"] if one["state"] == Finding.NEEDED]
            raise UnavailableError(
                f"{path}: {'; '.join(str(one['detail']) for one in needed) or 'the kernel was not probed'}",
                hint="; ".join(str(one["instead"]) for one in needed if one["instead"]),
            )
        return Capabilities(str(data["kernel"]), *(frozenset(map(str, data.get(name, ()))) for name in _KINDS))


def read_devices(path: Path) -> dict[str, Device]:
    """By the device that is shaped, from what `plan --json` printed. Raises SnapshotError."""

    def beside(one: Device, each: Device) -> bool:
        return each is not one and (each.netns, each.link) == (one.netns, one.link)

    with _Reading(path, "what `shaper plan --json` printed"):
        devices = [_device(one["live"]) for one in _object(path)["interfaces"] if "live" in one]
    return {
        spot(one.netns, one.held.device): replace(
            one, other=next((each.known for each in devices if beside(one, each)), None)
        )
        for one in devices
    }


class SnapshotKernel:
    """A kernel that can only be looked at."""

    def __init__(self, have: Capabilities, devices: Mapping[str, Device], netns: str = "") -> None:
        self._have = have
        self.programs: dict[str, int] = {}
        self._devices = devices
        self._netns = netns

    def capabilities(self) -> Capabilities:
        return self._have

    def inside(self, netns: str) -> SnapshotKernel:
        there = {split_spot(name)[1]: one for name, one in self._devices.items() if one.netns == netns}
        return self if netns == self._netns else SnapshotKernel(self._have, there, netns)

    def devices(self) -> tuple[DeviceName, ...]:
        return tuple(DeviceName(name) for name, one in self._devices.items() if one.netns == self._netns)

    def link(self, device: str) -> LinkFacts:
        here = (one.link for one in self._devices.values() if one.link.name == device)
        return next(here, None) or self.device(device).link

    def offloads(self, devices: Collection[str]) -> tuple[Offload, ...]:
        there = {one.key: one for each in self._devices.values() for one in each.held.offloads}
        return tuple(one for one in there.values() if one.device in devices)

    def read(self, device: str, *, fed_by: str = "") -> Tree:
        return self.device(device).held

    def tables(self, device: str) -> tuple[MarkTable, ...]:
        return self.device(device).held.tables

    def device(self, name: str) -> Device:
        """Raises UnavailableError when the snapshot has no such device."""
        if name not in self._devices:
            raise UnavailableError(
                f"the snapshot has no device {name}; it has {', '.join(sorted(self._devices))}",
                hint="make it on that machine, with a policy for that device: `shaper plan POLICY --json`",
            )
        return self._devices[name]

    def leaving(self, interfaces: Sequence[Interface]) -> list[tuple[DeviceState, Plan]]:
        """The directions of the interfaces' devices that carry what is ours and are in the policy no more."""
        wanted, spots = {one.key for one in interfaces}, {one.spot for one in interfaces}
        found: list[tuple[DeviceState, Plan]] = []
        for key, device in self._devices.items():
            record = device.known
            if record is None or key in wanted or spot(device.netns, record.device) not in spots:
                continue
            held = ours(device.held, record, leaving=True)
            bare = with_offloads(tree(held.device, ()), released(held, record, ()))
            side = DeviceState(Path(), spot(device.netns, record.device), record.direction, namespace="elsewhere")
            found.append((side, diff(held, bare, bounds={})))
        return found

    def cgroups(self, paths: Collection[str]) -> frozenset[str]:
        """All of them: a snapshot does not say."""
        return frozenset(paths)

    def counters(self, device: str) -> DeviceCounters:
        _refuse()

    def verdicts(self, device: str) -> DeviceCounters:
        _refuse()

    def occupancy(self, device: str) -> Mapping[int, Occupancy]:
        _refuse()

    def send(self, device: str, steps: Sequence[Step]) -> None:
        _refuse()

    def lending(self, program: LookupProgram) -> NoReturn:
        _refuse()

    def close(self) -> None:
        """There is nothing to give back."""


_KINDS = ("qdiscs", "filters", "actions", "links", "features")


def _refuse() -> NoReturn:
    raise UnavailableError("a snapshot neither counts nor takes steps", hint="plan against it; apply on the machine")


def _device(data: Any) -> Device:
    record = record_from_json(data["record"]) if data["record"] else None
    if record is not None:
        record = replace(record, boot=boot_id() if data["current"] else "")
    return Device(_link(data["link"]), tree_from_json(data["tree"]), record, netns=str(data.get("netns", "")))


def _link(data: Any) -> LinkFacts:
    own = _feeder(data["own"]) if data.get("own") else None
    feeders, unread = tuple(map(_feeder, data.get("feeders", ()))), tuple(map(str, data.get("unread", ())))
    return LinkFacts(**{**data, "own": own, "feeders": feeders, "unread": unread})


def _feeder(data: Any) -> Feeder:
    device, joins, feeds, fixed, far, *index = data
    return Feeder(str(device), tuple(joins), bool(feeds), tuple(fixed), bool(far), *map(int, index))


def _object(path: Path) -> Any:
    return json.loads(read_regular(path, most=_LARGEST))


class _Reading:
    """What goes wrong in here is said of the file."""

    def __init__(self, path: Path, wanted: str) -> None:
        self._path, self._wanted = path, wanted

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            raise SnapshotError(f"{self._path} can't be read: {error.strerror}") from error
        if isinstance(error, (KeyError, TypeError, AttributeError, ValueError, RecursionError)):
            raise SnapshotError(f"{self._path} is not {self._wanted}: {error!r}") from error
