"""The last policy that was in force, for a start at which the file is wrong: better that than an unshaped line."""

from __future__ import annotations

from pathlib import Path

from shaper.errors import PolicyError
from shaper.model.policy import Policy
from shaper.policy import parse_policy
from shaper.run.record import Record
from shaper.run.state import both_directions, known_devices


def last_good(folder: Path, source: str, error: PolicyError) -> tuple[Policy, str]:
    """The policy that was applied last from the same file, and why it comes up in the file's place.

    Raises the error where none was, or where this version refuses that one, too.
    """
    sides = (side for device in known_devices(folder) for side in both_directions(folder, device))
    records = [record for side in sides if (record := side.record()) is not None and record.source == source]
    newest = max(records, key=lambda record: record.change, default=None)
    if newest is None:
        raise error
    return _policy(newest, error), (
        f"{source} is wrong ({error.problems()[0].message}): the policy of change {newest.change} comes up in its "
        "place; mend the file and reload"
    )


def _policy(record: Record, error: PolicyError) -> Policy:
    try:
        return parse_policy(record.text, source=record.source, files=record.files)
    except PolicyError:
        raise error from None
