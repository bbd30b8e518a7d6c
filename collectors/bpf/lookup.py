"""A classifier that looks addresses up in maps of longest prefixes, loaded into the kernel.

Who has put it on a filter may close it: the filter holds the program, and the program its maps. These are frozen before
the program is loaded, so what one of its name answers is settled for life.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from collectors.bpf.library import SCHED_CLS, BpfError, load_program, make_map
from collectors.bpf.translate import COLUMN, LOOK_UP, Table, answering
from collectors.errors import CaptureError
from collectors.ring import Instruction

Network = tuple[int, int, Sequence[int]]
"""An address, how many bits of it are asked, and the numbers in its row."""

_LPM_TRIE, _NO_PREALLOC = 11, 1
_ETHERNET, _OTHER = 1, 0xFFFE
_SIZES = {4: 4, 6: 16}
_SHORTER = "lists that one classic program holds need no such program"


def load(program: Sequence[Instruction], tables: Sequence[tuple[int, Sequence[Network]]], *, ethernet: bool) -> int:
    """The program's descriptor, which the caller closes; tables are given by IP version, none of them empty.

    Raises BpfError.
    """
    with ExitStack() as maps:
        made = []
        for version, networks in tables:
            fd = make_map(_LPM_TRIE, f"addresses{version}", _entries(version, networks), flags=_NO_PREALLOC)
            maps.callback(os.close, fd)
            made.append(Table(fd, _SIZES[version]))
        try:
            wide = answering(program, tables=made, hardware_type=_ETHERNET if ethernet else _OTHER)
        except ValueError as error:
            raise BpfError(f"the classifier cannot be loaded: {error}", _SHORTER) from error
        return load_program(wide, kind=SCHED_CLS, name="shaper_lookup")


def _entries(version: int, networks: Iterable[Network]) -> list[tuple[bytes, bytes]]:
    size = _SIZES[version]
    return [
        (struct.pack("=I", length) + value.to_bytes(size, "big"), struct.pack(f"={len(columns)}I", *columns))
        for value, length, columns in networks
    ]


_LEAST = ((LOOK_UP, 0, 2, 0), (COLUMN, 0, 0, 0), (0x16, 0, 0, 0), (0x06, 0, 0, 0))


def refusal() -> str:
    """Why this process can load no such program into this kernel, "" where it can."""
    try:
        os.close(load(_LEAST, [(4, [(0, 0, (1,))]), (6, [(0, 0, (1,))])], ethernet=True))
    except CaptureError as error:
        return f"{error.message}: {error.hint}"
    return ""
