"""cgroups of the second version: from a path below the root to the number that the kernel has for it, and back.

A group that goes and comes back has another number.
"""

from __future__ import annotations

import errno as errors
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_PLAIN = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def root() -> str:
    """Where the hierarchy is mounted. Raises OSError with ENOENT when it is nowhere."""
    for line in _MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            place = before.split()[4]
            for written, plain in _PLAIN.items():
                place = place.replace(written, plain)
            return place
    raise OSError(errors.ENOENT, "no cgroup2 hierarchy is mounted (`mount -t cgroup2 none /sys/fs/cgroup`)")


def number_of(path: str) -> int:
    """Raises OSError with ENOENT when there is no such group."""
    try:
        return Path(root() + path).stat().st_ino
    except FileNotFoundError as error:
        raise OSError(errors.ENOENT, f"there is no cgroup {path}: start what runs in it, or make it") from error


def present(paths: Iterable[str]) -> frozenset[str]:
    """Those of the groups that are there."""
    try:
        top = root()
    except OSError:
        return frozenset()
    return frozenset(path for path in paths if Path(top + path).is_dir())


def path_of(number: int, level: int) -> str:
    """The group of that number so many levels below the root, "" where there is none any more."""
    try:
        top = root()
        return next((path for path in _below(top, "", level) if Path(top + path).stat().st_ino == number), "")
    except OSError:  # it went while we looked
        return ""


def _below(top: str, path: str, level: int) -> Iterator[str]:
    if not level:
        yield path or "/"
        return
    with os.scandir(top + path) as entries:
        names = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
    for name in names:
        yield from _below(top, f"{path}/{name}", level - 1)
