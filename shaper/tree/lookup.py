"""Programs of extended BPF, as values: they look addresses up in tables, and see by which device a packet came in.

The instructions are classic ones and three more, which extended BPF has and classic does not. The kernel tells no
more of such a program than its name, so the name is made of what is in it: two that bear the same are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from shaper.tree.filters import FORGED, PROGRAM_PREFIX, Insn
from shaper.tree.handles import Handle

LOOK_UP, COLUMN, CAME_IN = 0xE0, 0xC0, 0xA0
"""Codes that classic BPF has no meaning for. `LOOK_UP`: the row of table `jt` that belongs to the address `k` bytes
behind X, or `jf` instructions on where there is none. `COLUMN`: A = the number in the row's column `k`.
`CAME_IN`: A = the number of the device that the packet came in by, 0 for none."""
LOOKUP_PREFIX = f"{PROGRAM_PREFIX}lookup-"
"""With it begin the names of these programs, behind it come the networks of IPv4 and of IPv6."""
_OR, _RETURN, _MINOR = 0x44, 0x06, 0xFFFF
_ABSENT = 0xFFFFFFFF


class Row(NamedTuple):
    """What is known of the addresses in a network, as far as no longer prefix has a row: a number for each column,
    0xFFFFFFFF where it says nothing of them.
    """

    value: int
    length: int
    columns: tuple[int, ...]


class AddressTable(NamedTuple):
    """Rows by network, of which the longest prefix counts; `version` is 4 or 6."""

    version: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class LookupProgram:
    """Instructions, and the tables that they ask.

    The columns in `verdicts` have classes of the qdisc `major`: the minor is in the lower half, and the place of the
    rule in the upper. `ethernet` says whether the device has Ethernet headers, which extended BPF cannot ask.
    """

    program: tuple[Insn, ...]
    tables: tuple[AddressTable, ...]
    major: Handle = 0
    verdicts: frozenset[int] = frozenset()
    ethernet: bool = True

    @cached_property
    def name(self) -> str:
        """Made of what is in it, and never longer than 80 characters."""
        digest = hashlib.blake2s(digest_size=16)
        digest.update(repr((self.program, self.major, sorted(self.verdicts), self.ethernet)).encode())
        for table in self.tables:
            numbers = chain.from_iterable((row.value, row.length, *row.columns) for row in table.rows)
            digest.update(f"{table.version}:{' '.join(map(str, numbers))};".encode())
        return f"{LOOKUP_PREFIX}{self.networks(4)}-{self.networks(6)}-{digest.hexdigest()}"

    def networks(self, version: int) -> int:
        """How many networks of an IP version have a row."""
        return sum(len(table.rows) for table in self.tables if table.version == version)

    def renumbered(self, there: Callable[[Handle], Handle]) -> LookupProgram:
        """The same with other classes, given by the old ones."""

        def column(number: int, value: int) -> int:
            if number not in self.verdicts or value == _ABSENT or not value & _MINOR:
                return value
            return value & ~_MINOR | there(self.major | value & _MINOR) & _MINOR

        return replace(
            self,
            program=tuple(one._replace(k=there(one.k)) if one.code in (_OR, _RETURN) else one for one in self.program),
            tables=tuple(
                table._replace(
                    rows=tuple(
                        row._replace(columns=tuple(column(number, value) for number, value in enumerate(row.columns)))
                        for row in table.rows
                    )
                )
                for table in self.tables
            ),
            major=there(self.major),
        )


def networks_in(name: str) -> tuple[int, int] | None:
    """How many networks of IPv4 and of IPv6 the program of that name has; None where it looks nothing up."""
    parts = name.removeprefix(LOOKUP_PREFIX).split("-")
    if (
        not name.startswith(LOOKUP_PREFIX)
        or name.endswith(FORGED)
        or len(parts) != 3
        or not (parts[0] + parts[1]).isdecimal()
    ):
        return None
    return int(parts[0]), int(parts[1])


def lookup_to_json(lookup: LookupProgram) -> dict[str, Any]:
    """A value that `json.dumps` takes."""
    return {
        "program": [list(one) for one in lookup.program],
        "tables": [
            [table.version, [[row.value, row.length, *row.columns] for row in table.rows]] for table in lookup.tables
        ],
        "major": lookup.major,
        "verdicts": sorted(lookup.verdicts),
        "ethernet": lookup.ethernet,
    }


def lookup_from_json(data: Any) -> LookupProgram:
    """The program again. Raises ValueError."""
    try:
        return LookupProgram(
            tuple(Insn(*one) for one in data["program"]),
            tuple(
                AddressTable(version, tuple(Row(value, length, tuple(columns)) for value, length, *columns in rows))
                for version, rows in data["tables"]
            ),
            data["major"],
            frozenset(data["verdicts"]),
            data["ethernet"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no program with tables: {error!r}") from error
