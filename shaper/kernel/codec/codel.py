"""codel: times cross the wire in microseconds and are kept in units of 1024 ns."""

from __future__ import annotations

from shaper.kernel.codec.clock import codel_read
from shaper.kernel.codec.words import pack_words, read_words
from shaper.tree import CodelOptions

_TARGET, _LIMIT, _INTERVAL, _ECN = 1, 2, 3, 4


def encode(options: CodelOptions) -> bytes:
    """The whole of it."""
    values = [
        (_TARGET, options.target),
        (_LIMIT, options.limit),
        (_INTERVAL, options.interval),
        (_ECN, int(options.ecn)),
    ]
    return pack_words(values)


def decode(data: bytes) -> CodelOptions:
    """Of a dumped qdisc."""
    found = read_words(data)
    return CodelOptions(
        limit=found.get(_LIMIT, 0),
        target=codel_read(found.get(_TARGET, 0)),
        interval=codel_read(found.get(_INTERVAL, 0)),
        ecn=bool(found.get(_ECN, 0)),
    )
