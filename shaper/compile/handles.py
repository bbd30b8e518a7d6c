"""Numbers for life: a class path keeps its minor, and a leaf qdisc is numbered after its class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shaper.errors import UnavailableError
from shaper.tree import LEAF_MAJORS, ROOT_MAJORS, Handle, handle

ROOT_MAJOR = ROOT_MAJORS[0]
ROOT_HANDLE = handle(ROOT_MAJOR, 0)
LINK_HANDLE = handle(ROOT_MAJOR, 1)
_FIRST_MINOR = 0x10
_LAST_MINOR = len(LEAF_MAJORS) - 1


def assign(paths: Iterable[str], previous: Mapping[str, Handle]) -> dict[str, Handle]:
    """Path -> class handle: as in `previous`, else the lowest minor that no path of `previous` ever had.

    Raises UnavailableError when the numbers run out.
    """
    wanted = list(paths)
    taken = set(previous.values())
    free = (number for number in range(_FIRST_MINOR, _LAST_MINOR + 1) if handle(ROOT_MAJOR, number) not in taken)
    handles: dict[str, Handle] = {}
    for path in wanted:
        if path in previous:
            handles[path] = previous[path]
            continue
        minor = next(free, None)
        if minor is None:
            raise UnavailableError(
                f"no number is left for class {path}: a device has {_LAST_MINOR - _FIRST_MINOR + 1} for all classes "
                "it ever had",
                hint="`shaper clear` the device and apply again: that starts the numbers anew",
            )
        handles[path] = handle(ROOT_MAJOR, minor)
    return handles


def lasting(handles: Mapping[str, Handle]) -> dict[str, Handle]:
    """Those that are for life: bands and tins are numbered by the order in which they are served."""
    return {path: number for path, number in handles.items() if number & 0xFFFF >= _FIRST_MINOR}


def leaf_handle(class_handle: Handle) -> Handle:
    """The handle of the qdisc under a class."""
    return handle(LEAF_MAJORS[class_handle & 0xFFFF], 0)
