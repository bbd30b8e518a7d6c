"""What an importer has read: interfaces, classes and rules in our own words, each with the line it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from shaper.errors import Exit, ShaperError
from shaper.policy.text import printable

Scalar = str | int
Value = Scalar | list[Scalar] | dict[str, list[Scalar]]
Conditions = dict[str, Value]
"""One match of ours: all keys must hold."""

_LONGEST = 100


class Line(NamedTuple):
    """A place in the imported configuration; lines count from 1, 0 where there are none."""

    file: str
    number: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}" if self.number else self.file


class Lost(NamedTuple):
    """One thing that was not carried over: where it stands, why, and the nearest mend."""

    line: Line
    why: str
    mend: str


class Report:
    """What was not carried over, each thing once."""

    def __init__(self) -> None:
        self._lost: dict[Lost, None] = {}

    def lose(self, line: Line, why: str, mend: str) -> None:
        self._lost[Lost(line._replace(text=shortened(line.text)), why, mend)] = None

    def lost(self) -> tuple[Lost, ...]:
        """Sorted by place."""
        return tuple(sorted(self._lost, key=lambda one: (one.line.file, one.line.number)))


@dataclass(slots=True)
class Rule:
    """One match of a class."""

    conditions: Conditions
    line: Line


@dataclass(slots=True)
class Class:
    """A class; rates in bit/s, `burst` in bytes, `aqm` by our name; `police` and `marking` (`set`) in our words.

    `rank` is HTB's priority in that tool, the lowest first; None where it says none. `order` is the place of its first
    rule in the order that the tool asks rules in.
    """

    name: str
    line: Line
    guarantee: int | None = None
    limit: int | None = None
    rank: int | None = None
    order: float | None = None
    burst: int | None = None
    aqm: str = ""
    police: Conditions = field(default_factory=dict)
    marking: Conditions = field(default_factory=dict)
    fairness: str = ""
    default: bool = False
    rules: list[Rule] = field(default_factory=list)
    classes: list[Class] = field(default_factory=list)

    def walk(self) -> Iterator[Class]:
        """This class and all below it, parents first."""
        yield self
        for child in self.classes:
            yield from child.walk()


@dataclass(slots=True)
class Interface:
    """An interface with the classes of its egress; `bandwidth` in bit/s, `link` the name of a link layer of ours."""

    name: str
    device: str
    bandwidth: int
    line: Line
    classes: list[Class] = field(default_factory=list)
    link: str = ""

    def walk(self) -> Iterator[Class]:
        """Every class, parents before children."""
        for cls in self.classes:
            yield from cls.walk()


@dataclass(frozen=True, slots=True)
class Facts:
    """What carries over from a tool and what does not: (what it is there, what becomes of it)."""

    tool: str
    carried: Mapping[str, str]
    lost: Mapping[str, str]


class ImportFailedError(ShaperError):
    """Nothing useful could be read."""

    exit = Exit.POLICY


def shortened(text: str) -> str:
    """One printable line of at most 100 characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
