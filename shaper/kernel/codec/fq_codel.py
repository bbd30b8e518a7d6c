"""fq_codel: times cross the wire in microseconds and are kept in units of 1024 ns.

5000 us is dumped as 4999, and 4999 sent again would be dumped as 4998: `clock` has what mends that.
"""

from __future__ import annotations

from shaper.kernel.codec.clock import codel_read
from shaper.kernel.codec.words import pack_words, read_words
from shaper.tree import FqCodelOptions

_TARGET, _LIMIT, _INTERVAL, _ECN, _FLOWS, _QUANTUM, _MEMORY = 1, 2, 3, 4, 5, 6, 9


def encode(options: FqCodelOptions, *, creating: bool) -> bytes:
    """Everything, except that the number of flows is settled when the qdisc is made."""
    values = [
        (_LIMIT, options.limit),
        (_TARGET, options.target),
        (_INTERVAL, options.interval),
        (_QUANTUM, options.quantum),
        (_MEMORY, options.memory),
        (_ECN, int(options.ecn)),
    ]
    if creating:
        values.append((_FLOWS, options.flows))
    return pack_words(values)


def decode(data: bytes) -> FqCodelOptions:
    """Of a dumped qdisc; what an old kernel leaves out counts as zero."""
    found = read_words(data)

    return FqCodelOptions(
        limit=found.get(_LIMIT, 0),
        target=codel_read(found.get(_TARGET, 0)),
        interval=codel_read(found.get(_INTERVAL, 0)),
        quantum=found.get(_QUANTUM, 0),
        flows=found.get(_FLOWS, 0),
        memory=found.get(_MEMORY, 0),
        ecn=bool(found.get(_ECN, 0)),
    )
