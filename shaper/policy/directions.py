"""Values written apart for each direction: `guarantee: {egress: 2mbit, ingress: 10mbit}`; and a document seen from one.

Anything that a class says may be written so, also in a period of its schedule, but not its matches, the classes in it
and when a period is: those are the same either way. Seen
from one direction such a mapping is the value for it, and where it has none the key was not written. What follows then
never meets a mapping of directions, but for the bandwidths of an interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from shaper.errors import Problem
from shaper.model.policy import Direction
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document, Node
from shaper.policy.text import Loc, did_you_mean, quoted

_NAMES = tuple(direction.value for direction in Direction)
WAYS = frozenset(_NAMES)
SAME_EITHER_WAY = frozenset({"match", "classes", "schedule", "when"})

_Value = Callable[[Node, Loc], Node | None]


def seen_from(document: Document, direction: Direction) -> Document:
    """The document as it is for one direction."""

    def value(node: Node, _: Loc) -> Node | None:
        return node.value.get(direction.value) if isinstance(node.value, dict) else node

    return Document(_each_value(document.root, value))


def directions_of(document: Document) -> tuple[tuple[Direction, ...], list[Problem]]:
    """The directions from which the document must be seen, and what is wrong with how they are written.

    Those that an interface has a bandwidth for; both where something is written apart; egress where none is said.
    """
    problems: list[Problem] = []
    named = set(_bandwidths(document.root))

    def value(node: Node, loc: Loc) -> Node:
        named.update(_NAMES)
        problems.extend(_unknown(document, node, loc))
        return node

    _each_value(document.root, value)
    return tuple(way for way in Direction if way.value in named) or (Direction.EGRESS,), problems


def told_apart(found: Mapping[Direction, Sequence[Problem]]) -> Iterator[Problem]:
    """The problems of every view; those that only one of two has say which."""
    for direction, problems in found.items():
        others = {
            (problem.kind, problem.where, problem.message)
            for other, theirs in found.items()
            if other is not direction
            for problem in theirs
        }
        for problem in problems:
            shared = len(found) == 1 or (problem.kind, problem.where, problem.message) in others
            yield problem if shared else replace(problem, message=f"{problem.message} ({direction})")


def _each_value(root: Node, value: _Value) -> Node:
    """The document with `value` of every mapping that is written apart in its place; None takes the key out."""

    def below(node: Node, loc: Loc, *, skip: frozenset[str] = frozenset()) -> Node:
        """What a class says, its matches and classes aside."""
        return _mapped(node, lambda key, each: each if key in skip else apart(each, (*loc, key)))

    def apart(node: Node, loc: Loc) -> Node | None:
        if isinstance(node.value, dict) and any(name in node.value for name in _NAMES):
            return value(node, loc)
        seen = below(node, loc)
        return None if node.value and seen.value == {} else seen  # all of it was said of the other direction

    def cls(node: Node, loc: Loc) -> Node:
        node = below(node, loc, skip=SAME_EITHER_WAY)
        node = _under_list(node, "schedule", lambda n, each: below(each, (*loc, "schedule", n), skip=SAME_EITHER_WAY))
        return _under(node, "classes", lambda name, each: cls(each, (*loc, "classes", name)))

    def policy(node: Node, loc: Loc) -> Node:
        node = _under(node, "classes", lambda name, each: cls(each, (*loc, "classes", name)))
        return _under(node, "defaults", lambda key, each: apart(each, (*loc, "defaults", key)))

    root = _under(root, "policies", lambda name, each: policy(each, ("policies", name)))
    return _under(root, "defaults", lambda key, each: apart(each, ("defaults", key)))


def _under(node: Node, key: str, change: Callable[[str, Node], Node | None]) -> Node:
    """The mapping with every value of the mapping under one of its keys changed."""
    return _mapped(node, lambda each, below: _mapped(below, change) if each == key else below)


def _under_list(node: Node, key: str, change: Callable[[int, Node], Node]) -> Node:
    """The mapping with every item of the list under one of its keys changed."""

    def changed(each: str, below: Node) -> Node:
        if each != key or not isinstance(below.value, list):
            return below
        return replace(below, value=[change(number, item) for number, item in enumerate(below.value)])

    return _mapped(node, changed)


def _mapped(node: Node, change: Callable[[str, Node], Node | None]) -> Node:
    if not isinstance(node.value, dict):
        return node
    changed = {key: change(key, below) for key, below in node.value.items()}
    if all(changed[key] is below for key, below in node.value.items()):
        return node
    kept = {key: below for key, below in changed.items() if below is not None}
    return replace(
        node,
        value=kept,
        keys={key: where for key, where in node.keys.items() if key in kept},
        size=1 + sum(below.size for below in kept.values()),
    )


def _bandwidths(root: Node) -> Iterator[str]:
    for interface in _at(root, "interfaces").values():
        yield from _at(interface, "bandwidth")


def _at(node: Node, key: str) -> Mapping[str, Node]:
    """The mapping under a key, an empty one where there is none."""
    below = node.value.get(key) if isinstance(node.value, dict) else None
    return below.value if below is not None and isinstance(below.value, dict) else {}


def _unknown(document: Document, node: Node, loc: Loc) -> Iterator[Problem]:
    assert isinstance(node.value, dict)
    for key in node.value:
        if key not in _NAMES:
            hint = f"{did_you_mean(key, _NAMES)}the keys here are {', '.join(_NAMES)}"
            message = f"{quoted(key)} is not a direction"
            yield document.problem(Kind.UNKNOWN_KEY, (*loc, key), message, hint, at_key=True)
