"""What the rules so far have taken: which of them leave nothing for a later one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from shaper.model.match import Rule
from shaper.policy.regions import Box, TooManyBoxesError, boxes_of, left_of

# The axis by which boxes are found again: the first of these that a box has, since it tells most apart.
_TELLING = ("src", "dst", "inner.src", "inner.dst", "src_mac", "dst_mac", "dport", "sport", "tos", "protocol")


class Claims:
    """Rules in order. Looking one up costs about as much for ten thousand as for ten."""

    def __init__(self) -> None:
        self._count = 0
        self._shelves: dict[frozenset[str], _Shelf] = {}

    def add(self, rule: Rule) -> None:
        """The rule takes what it asks for from now on."""
        for box in _boxes(rule):
            shelf = self._shelves.setdefault(frozenset(box), _Shelf(_telling(box)))
            shelf.add(self._count, box, rule)
        self._count += 1

    def takers(self, rule: Rule, rivals: Callable[[Rule, Rule], bool]) -> list[Rule]:
        """The earlier rules that together take all that this one asks for; none where something is left for it."""
        found: dict[int, Rule] = {}
        for box in _boxes(rule):
            near = [entry for entry in sorted(self._near(box), key=_number) if rivals(entry[2], rule)]
            whole = next((entry for entry in near if left_of(box, entry[1]) is None), None)
            rest: Box | None = box if whole is None else None
            if whole is not None:
                found[whole[0]] = whole[2]
            for number, taken, earlier in near:
                if rest is None:
                    break
                left = left_of(rest, taken)
                if left is not rest:
                    found[number] = earlier
                rest = left
            if rest is not None:
                return []
        return [found[number] for number in sorted(found)]

    def _near(self, box: Box) -> Iterator[tuple[int, Box, Rule]]:
        for axes, shelf in self._shelves.items():
            if axes <= box.keys():
                yield from shelf.near(box)


class _Shelf:
    """Boxes with the same axes, in cells of the one that tells them apart: a range lies in at most two of its size."""

    def __init__(self, axis: str) -> None:
        self._axis = axis
        self._cells: dict[int, dict[int, list[tuple[int, Box, Rule]]]] = defaultdict(lambda: defaultdict(list))

    def add(self, number: int, box: Box, rule: Rule) -> None:
        for first, last in box[self._axis]:
            bits = (last - first).bit_length()
            for cell in {first >> bits, last >> bits}:
                self._cells[bits][cell].append((number, box, rule))

    def near(self, box: Box) -> Iterator[tuple[int, Box, Rule]]:
        """Every box that holds the start of one of this one's ranges, and some more; each once."""
        seen: set[tuple[int, int]] = set()
        for bits, cells in self._cells.items():
            for cell in {first >> bits for first, _ in box[self._axis]}:
                for entry in cells.get(cell, ()):
                    key = entry[0], id(entry[1])
                    if key not in seen:
                        seen.add(key)
                        yield entry


def _number(entry: tuple[int, Box, Rule]) -> int:
    return entry[0]


def _telling(box: Box) -> str:
    return next((axis for axis in _TELLING if axis in box), min(box))


def _boxes(rule: Rule) -> list[Box]:
    """None where the rule branches too often: then it takes nothing, and nothing is said about it."""
    try:
        return boxes_of(rule.all_of)
    except TooManyBoxesError:
        return []
