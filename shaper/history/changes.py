"""The log of changes: one file a device that only grows, and every policy that was ever applied beside it.

A line is written before anything is done and another when it has ended, each on disk before it returns. Nothing is
ever removed or rewritten, retention leaves it alone, and a half-written last line costs that line only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shaper.errors import UnavailableError
from shaper.files import read_regular, replace_file
from shaper.history.codec import decode, encode
from shaper.history.failures import HistoryError, translated
from shaper.model.change import Change
from shaper.policy import policy_hash

_SCHEMA = 1
_LARGEST = 2**30
_STEPS = 500
"""Steps in words that a line holds at most: a first apply of a large tree has tens of thousands."""


class ChangeLog:
    """The log in a device's state folder. Written only under the device's lock, read by anybody at any time.

    Whatever fails raises HistoryError. A folder that is not there has no changes, and reading makes none.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "changes.log"
        self._policies = folder / "policies"
        self.damaged = 0
        """Lines that the last reading could not understand: of a write that was killed, or another's."""

    def begin(self, change: Change, *, text: str, files: Mapping[str, str]) -> Change:
        """Puts a change on disk before it is made, its policy's text and lists too; gives it back with its number."""
        number = max((each.number for each in self.all()), default=0) + 1
        change = replace(change, number=number, steps=change.steps[:_STEPS])
        with translated(self.path, "written"):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            if change.sha256:
                self._keep(change.sha256, {"text": text, "files": dict(files)})
            self._append({"schema": _SCHEMA, "change": encode(change)})
        return change

    def end(self, number: int, *, at: float, result: str, reason: str = "") -> None:
        """Says how a change ended."""
        with translated(self.path, "written"):
            self._append({"schema": _SCHEMA, "end": number, "at": at, "result": result, "reason": reason})

    def all(self) -> tuple[Change, ...]:
        """Every change, oldest first, each with its latest result."""
        changes: dict[int, Change] = {}
        self.damaged = 0
        for line in self._lines():
            try:
                data = json.loads(line)
                if data["schema"] != _SCHEMA:
                    raise ValueError(data["schema"])
                if "change" in data:
                    change = decode(Change, data["change"])
                    changes[change.number] = change
                else:
                    number = data["end"]
                    changes[number] = replace(changes[number], result=str(data["result"]), reason=str(data["reason"]))
            except (KeyError, TypeError, ValueError, RecursionError):
                self.damaged += 1
        return tuple(changes[number] for number in sorted(changes))

    def find(self, number: int) -> Change:
        """Raises UnavailableError when there is no such change."""
        changes = self.all()
        for change in changes:
            if change.number == number:
                return change
        have = f"it has 1 to {changes[-1].number}" if changes else "it has none"
        raise UnavailableError(f"{self.path.parent.name} has no change {number}; {have}", hint="see `shaper history`")

    def text(self, sha256: str) -> str:
        """The text of the policy with that hash, "" for none. Raises HistoryError when it is gone or was edited."""
        return self.policy(sha256)[0] if sha256 else ""

    def policy(self, sha256: str) -> tuple[str, dict[str, str]]:
        """The text of the policy with that hash and the lists that it names. Raises HistoryError as `text` does."""
        path = self._policy(sha256)
        with translated(path, "read"):
            content = read_regular(path, most=_LARGEST)
        try:
            data = json.loads(content)
            text, files = data["text"], data["files"]
            intact = policy_hash(text, files) == sha256
        except (AttributeError, KeyError, TypeError, ValueError):
            intact = False
        if not intact:
            raise HistoryError(f"{path}: is not the policy that was applied", hint="apply the policy from its file")
        return text, files

    def _policy(self, sha256: str) -> Path:
        return self._policies / f"{sha256}.json"

    def _keep(self, sha256: str, policy: Mapping[str, Any]) -> None:
        path = self._policy(sha256)
        if not path.exists():
            self._policies.mkdir(exist_ok=True, mode=0o750)
            replace_file(path, json.dumps(policy).encode())

    def _append(self, data: dict[str, Any]) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fresh = not self.path.exists()
        with open(os.open(self.path, flags, 0o640), "ab", buffering=0) as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            line = json.dumps(data, sort_keys=True, allow_nan=False).encode() + b"\n"
            line = b"\n" + line if torn else line
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        if fresh:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _lines(self) -> Iterator[bytes]:
        try:
            with translated(self.path, "read"):
                content = read_regular(self.path, most=_LARGEST)
        except HistoryError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return
            raise
        yield from (line for line in content.split(b"\n") if line)
