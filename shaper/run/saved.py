"""Plans in files: what a person read is what is applied, or nothing is."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shaper.errors import Exit, PolicyError, ShaperError, TryAgainError, UnavailableError
from shaper.files import read_regular, replace_file
from shaper.kernel.protocol import Kernel
from shaper.model.policy import Direction, Policy, place_text
from shaper.plan.codec import from_json, to_json, tree_from_json, tree_to_json
from shaper.plan.fingerprint import carried, fingerprint, moved
from shaper.plan.steps import Plan
from shaper.policy import parse_policy, policy_hash
from shaper.policy.text import named
from shaper.run.prepare import Prepared
from shaper.run.standing import interface_of, program_of
from shaper.tree import FieldBounds, Handle, Tree

SCHEMA = 1
KIND = "sla-shaper plan"
_LARGEST = 256 * 2**20


class PlanFileError(ShaperError):
    """A file of a saved plan is damaged, or of another version."""

    exit = Exit.POLICY


@dataclass(frozen=True, slots=True)
class SavedInterface:
    """One direction of an interface in a saved plan: what was ours, what of that a controller may move, the steps."""

    interface: str
    device: str
    live: Tree
    bounds: Mapping[Handle, FieldBounds]
    plan: Plan
    in_force: str
    """SHA-256 of the policy that stood there, "" where none did."""
    direction: Direction = Direction.EGRESS


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A policy and the plan that a person saw for it. `kernel` is the release it was made for.

    `leaving` are the shaped devices of the directions that the policy no longer has.
    """

    policy: Policy
    kernel: str
    interfaces: tuple[SavedInterface, ...]
    leaving: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """The interfaces that it was made for."""
        return tuple(one.interface for one in self.interfaces)

    def expected(self, device: str, direction: Direction = Direction.EGRESS) -> SavedInterface:
        """Raises UnavailableError when the plan is not about that direction of the device."""
        for one in self.interfaces:
            if (one.device, one.direction) == (device, direction):
                return one
        place = place_text(device, direction)
        raise UnavailableError(f"the saved plan has nothing for {place}", hint="plan again, without --interface")

    def check_leaving(self, leaving: Collection[str]) -> None:
        """Raises TryAgainError when other directions would be let go of than when the plan was made."""
        if set(leaving) != set(self.leaving):
            raise TryAgainError(
                f"what the policy lets go of is not what it was when the plan was made: {named(sorted(leaving))}",
                hint="look at what changed it, then plan again",
            )


def save(
    path: Path, kernel: Kernel, policy: Policy, prepared: tuple[Prepared, ...], leaving: Sequence[str] = ()
) -> None:
    """Writes a plan; whole or not at all. Raises ShaperError where the file can't be written."""
    data = {
        "schema": SCHEMA,
        "kind": KIND,
        "kernel": kernel.capabilities().kernel,
        "policy": {
            "source": policy.source,
            "sha256": policy.sha256,
            "text": policy.text,
            "files": dict(policy.files),
        },
        "interfaces": [interface_to_json(saved_interface(kernel, one)) for one in prepared],
        "leaving": list(leaving),
    }
    try:
        replace_file(path, json.dumps(data, indent=1).encode())
    except OSError as error:
        raise ShaperError(f"{path} can't be written: {error.strerror}", hint="name another file with -o") from error


def saved_interface(kernel: Kernel, prepared: Prepared) -> SavedInterface:
    """One interface of a plan, to be kept."""
    interface = prepared.program.interface
    in_force = prepared.before.sha256 if prepared.before else ""
    bounds = _bounds(kernel, prepared)
    place = interface.name, interface.spot
    return SavedInterface(*place, prepared.mine, bounds, prepared.plan, in_force, interface.direction)


def interface_to_json(saved: SavedInterface) -> dict[str, Any]:
    """As it goes into the file and over the socket; the inverse is there for people to read."""
    return {
        "interface": saved.interface,
        "device": saved.device,
        "direction": saved.direction.value,
        "fingerprint": fingerprint(saved.live, saved.bounds),
        "in_force": saved.in_force,
        "live": tree_to_json(saved.live),
        "bounds": [[number, own.rate, own.ceil, own.queue, own.target] for number, own in sorted(saved.bounds.items())],
        "plan": to_json(saved.plan),
        "inverse": to_json(saved.plan.inverse()),
    }


def read_saved(path: Path) -> SavedPlan | None:
    """The plan in a file; None where it holds something else, such as a policy. Raises PlanFileError."""
    try:
        content = read_regular(path, most=_LARGEST)
        if content.lstrip()[:1] != b"{":
            return None
        data = json.loads(content)
    except (OSError, ValueError, RecursionError):  # whoever reads it as a policy says what is wrong with it
        return None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        return None
    try:
        return saved_from_json(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PlanFileError(f"{path}: the saved plan is damaged: {error}", hint="make it again: `plan -o`") from error


def saved_from_json(data: Mapping[str, Any]) -> SavedPlan:
    """Raises ValueError, KeyError or TypeError for what is no plan; PolicyError where its policy is refused."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"it is of schema {data['schema']}, this shaper reads {SCHEMA}")
    kept = data["policy"]
    if policy_hash(kept["text"], kept["files"]) != kept["sha256"]:
        raise ValueError("its policy was edited")
    return SavedPlan(
        parse_policy(kept["text"], source=str(kept["source"]), files=kept["files"]),
        str(data["kernel"]),
        tuple(interface_from_json(one) for one in data["interfaces"]),
        tuple(map(str, data.get("leaving", ()))),
    )


def interface_from_json(data: Mapping[str, Any]) -> SavedInterface:
    """Raises ValueError, KeyError or TypeError for what is none."""
    live = tree_from_json(data["live"])
    bounds = {
        int(number): FieldBounds(*map(_ends, ends))
        for number, *ends in data["bounds"]  # three of a shaper that moved no target
    }
    if fingerprint(live, bounds) != data["fingerprint"]:
        raise ValueError("what it says of the live state does not match its fingerprint")
    direction = Direction(data.get("direction", Direction.EGRESS))
    place = str(data["interface"]), str(data["device"])
    return SavedInterface(*place, live, bounds, from_json(data["plan"]), str(data["in_force"]), direction)


def _ends(pair: Any) -> tuple[int, int]:
    low, high = pair
    return int(low), int(high)


def check_unmoved(prepared: Prepared, saved: SavedInterface) -> None:
    """Raises TryAgainError, naming the field, unless carrying out `prepared` is carrying out the saved plan."""
    device = place_text(saved.device, saved.direction)
    names = {handle: path for path, handle in prepared.program.handles.items()}
    again = "look at what changed it, then plan again"
    field = moved(saved.live, prepared.mine, saved.bounds, names)
    if field:
        raise TryAgainError(f"{device} is not as it was when the plan was made: {field}", hint=again)
    in_force = prepared.before.sha256 if prepared.before else ""
    if in_force != saved.in_force:
        raise TryAgainError(f"{device} has had another policy applied since the plan was made", hint=again)
    planned = carried(saved.live, saved.plan.steps)
    field = moved(planned, prepared.whole, prepared.program.field_bounds(), names)
    if field:
        raise TryAgainError(
            f"the saved plan for {device} is not what this machine would do now: {field}",
            hint="its link, its kernel or the shaper is another; plan again",
        )


def check_kernel(kernel: Kernel, saved: SavedPlan) -> None:
    """Raises TryAgainError when the plan was made for another kernel."""
    release = kernel.capabilities().kernel
    if release != saved.kernel:
        raise TryAgainError(
            f"the plan was made for kernel {saved.kernel}, this one is {release}", hint="plan again on this kernel"
        )


def _bounds(kernel: Kernel, prepared: Prepared) -> Mapping[Handle, FieldBounds]:
    """What the controller may move of the policy that stands; nothing where this version can't read it any more."""
    record = prepared.before
    if record is None:
        return {}
    try:
        interface = interface_of(record)
    except (PolicyError, UnavailableError):
        return {}
    return program_of(record, interface, kernel.capabilities(), prepared.link).field_bounds()
