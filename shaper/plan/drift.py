"""What somebody else changed of ours, field by field, in words for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields as slots
from dataclasses import is_dataclass
from typing import Any

from shaper.plan.describe import fields, subject
from shaper.tree import Handle, Node, Tree

_NO_NAMES: Mapping[Handle, str] = {}
_MOST = 3


def differences(held: Tree, ours: Tree, names: Mapping[Handle, str] = _NO_NAMES) -> tuple[str, ...]:
    """One line a node, such as `class video 5a00:12: ceil is 5mbit, ours is 20mbit`; none when the trees are equal.

    `held` is what the kernel has of us, `ours` what it should; `names` has the paths of class handles.
    """
    have = {node.key: node for node in held.nodes()}
    want = {node.key: node for node in ours.nodes()}
    nodes = {node.key: node for node in (*ours.nodes(), *held.nodes())}
    return tuple(
        f"{subject(node, names)}{_how(have.get(key), want.get(key))}"
        for key, node in nodes.items()
        if have.get(key) != want.get(key)
    )


def some(lines: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f"; and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
    return "; ".join(lines[:_MOST]) + more


def _how(held: Node | None, wanted: Node | None) -> str:
    if held is None:
        return " is gone"
    if wanted is None:
        return " is not ours"
    now, ours = dict(fields(held)), dict(fields(wanted))
    changed = [name for name in {**ours, **now} if now.get(name) != ours.get(name)]
    if type(held) is not type(wanted):
        return " is another one"
    if not changed:  # less than the digits shown
        now, ours = dict(_parts(held)), dict(_parts(wanted))
        changed = [name for name in {**ours, **now} if now.get(name) != ours.get(name)]
    return ": " + ", ".join(f"{name} is {now.get(name, 'none')}, ours is {ours.get(name, 'none')}" for name in changed)


def _parts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All that a value is made of, by name, in the kernel's own units."""
    names = [slot.name for slot in slots(value)] if is_dataclass(value) else list(getattr(value, "_fields", ()))
    if not names:
        yield name, str(value)
    for each in names:
        yield from _parts(getattr(value, each), each)
