"""pie: the target is kept in units of 64 ns, the time between updates in the kernel's own ticks.

A tick is 1 to 10 ms, by the kernel's build, and 15 ms are dumped as 15 to 20: all of those are the RFC's 15.
"""

from __future__ import annotations

from shaper.kernel.codec.clock import psched_read
from shaper.kernel.codec.words import pack_words, read_words
from shaper.tree import PieOptions

_TARGET, _LIMIT, _UPDATE, _ALPHA, _BETA, _ECN, _BYTEMODE, _RATE_ESTIMATOR = range(1, 9)
_USUAL_UPDATE = 15_000
_SLOWEST_TICK_OF_USUAL = 20_000


def update_sent(update: int) -> int:
    """Microseconds between two updates, 15 ms where the options name none."""
    return update or _USUAL_UPDATE


def update_read(dumped: int) -> int:
    """0 for the 15 ms that the kernel has when it is told so or nothing."""
    return 0 if _USUAL_UPDATE <= dumped <= _SLOWEST_TICK_OF_USUAL else dumped


def encode(options: PieOptions) -> bytes:
    """The whole of it."""
    values = [
        (_TARGET, options.target),
        (_LIMIT, options.limit),
        (_UPDATE, update_sent(options.update)),
        (_ALPHA, options.alpha),
        (_BETA, options.beta),
        (_ECN, int(options.ecn)),
        (_BYTEMODE, int(options.bytemode)),
        (_RATE_ESTIMATOR, int(options.rate_estimator)),
    ]
    return pack_words(values)


def decode(data: bytes) -> PieOptions:
    """Of a dumped qdisc; what an old kernel leaves out counts as zero."""
    found = read_words(data)
    return PieOptions(
        limit=found.get(_LIMIT, 0),
        target=psched_read(found.get(_TARGET, 0)),
        ecn=bool(found.get(_ECN, 0)),
        alpha=found.get(_ALPHA, 0),
        beta=found.get(_BETA, 0),
        update=update_read(found.get(_UPDATE, _USUAL_UPDATE)),
        bytemode=bool(found.get(_BYTEMODE, 0)),
        rate_estimator=bool(found.get(_RATE_ESTIMATOR, 0)),
    )
