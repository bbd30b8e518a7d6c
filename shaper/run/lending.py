"""Programs with tables, lent to the kernel for the steps that put them on filters.

The kernel says no more of them than their names, so what they are is kept in the state folder, a file each, from before
they are first sent until nothing can go back to them: what an apply that was killed is taken back to is loaded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shaper.kernel.protocol import Kernel
from shaper.plan.steps import Step
from shaper.run.state import DeviceState, StateError
from shaper.tree import LOOKUP_PREFIX, LoadedFilter, LookupProgram, Node, lookup_from_json, lookup_to_json


def keep(state: DeviceState, lookups: Iterable[LookupProgram], *, beside: Iterable[Node]) -> None:
    """Writes what is not there yet; of what is, only that which these nodes name stays. Raises StateError."""
    wanted = {lookup.name: lookup for lookup in lookups}
    there = {path.stem for path in _files(state)}
    for name in wanted.keys() - there:
        state.write_json(f"{name}.json", lookup_to_json(wanted[name]))
    for name in there - wanted.keys() - set(_names(beside)):
        state.write_json(f"{name}.json", None)


@contextmanager
def lent(kernel: Kernel, state: DeviceState, steps: Iterable[Step]) -> Iterator[None]:
    """Within, what these steps put on filters is loaded. Raises StateError, UnavailableError, NotPermittedError."""
    with ExitStack() as loaded:
        for name in sorted(set(_names(step.after for step in steps)) - kernel.programs.keys()):
            loaded.enter_context(kernel.lending(_kept(state, name)))
        yield


def _names(nodes: Iterable[Node | None]) -> Iterator[str]:
    return (node.name for node in nodes if isinstance(node, LoadedFilter) and node.name.startswith(LOOKUP_PREFIX))


def _files(state: DeviceState) -> list[Path]:
    return list(state.folder.glob(f"{LOOKUP_PREFIX}*.json"))


def _kept(state: DeviceState, name: str) -> LookupProgram:
    data = state.read_json(f"{name}.json")
    if data is None:
        raise StateError(
            f"{state.folder / name}.json is gone, the tables of a classifier of {state.title}",
            hint="nothing else knows what was in them: remove the tree by hand (`tc qdisc del dev ... root`) and the "
            "folder, and apply again",
        )
    with state.reading(f"{name}.json"):
        return lookup_from_json(data)
