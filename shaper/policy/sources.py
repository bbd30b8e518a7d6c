"""Where the texts of a policy come from: its file and those that it names, or texts that were kept with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from shaper.errors import PolicyError, Problem, Where
from shaper.files import read_regular
from shaper.policy.kinds import Kind
from shaper.policy.reader import MAX_CHARACTERS, where_in
from shaper.policy.text import printable, quoted

Fetch = Callable[[str], str]
"""The text of a file that the policy names, by its name from the policy's folder. Raises OSError, ValueError."""


def text_of(path: Path) -> str:
    """The text of a policy's file. Raises PolicyError."""
    try:
        return _read(path)
    except (OSError, ValueError) as error:
        raise PolicyError([unread(error, str(path))]) from None


def unread(error: OSError | ValueError, source: str, name: str = "", wanted: Where | None = None) -> Problem:
    """Why there is no text from `source`, which `wanted` includes by that name."""
    if isinstance(error, UnicodeDecodeError):
        before = error.object[: error.start].decode()
        message = f"the byte 0x{error.object[error.start]:02x} is not UTF-8"
        return Problem(Kind.NOT_UTF8, where_in(before, len(before), source), "", message, "save the file as UTF-8")
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    message = f"{source}: {reason}" if wanted is None else f"{quoted(name)} cannot be included: {reason}"
    hint = "name a policy file that is there and that you may read"
    return Problem(Kind.UNREADABLE, wanted, "", printable(message), hint)


def from_disk(folder: Path) -> Fetch:
    """Files by their names relative to a folder."""
    return lambda name: _read(folder / name)


def from_texts(files: Mapping[str, str]) -> Fetch:
    """The files that were kept with a policy; no other is read."""

    def fetch(name: str) -> str:
        if name not in files:
            raise ValueError("it was not kept with the policy")
        return files[name]

    return fetch


def _read(path: Path) -> str:
    return read_regular(path, most=4 * MAX_CHARACTERS).decode()
