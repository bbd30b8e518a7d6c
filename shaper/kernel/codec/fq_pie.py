"""fq_pie: PIE's numbers by numbers of its own, and the flows, which are settled when the qdisc is made."""

from __future__ import annotations

from shaper.kernel.codec.clock import psched_read
from shaper.kernel.codec.pie import update_read, update_sent
from shaper.kernel.codec.words import pack_words, read_words
from shaper.tree import FqPieOptions

_LIMIT, _FLOWS, _TARGET, _UPDATE, _ALPHA, _BETA, _QUANTUM = range(1, 8)
_MEMORY, _ECN_PROB, _ECN, _BYTEMODE, _RATE_ESTIMATOR = range(8, 13)


def encode(options: FqPieOptions, *, creating: bool) -> bytes:
    """Everything, except the number of flows in a change: the kernel refuses the very word there."""
    values = [
        (_LIMIT, options.limit),
        (_TARGET, options.target),
        (_UPDATE, update_sent(options.update)),
        (_ALPHA, options.alpha),
        (_BETA, options.beta),
        (_QUANTUM, options.quantum),
        (_MEMORY, options.memory),
        (_ECN_PROB, options.ecn_prob),
        (_ECN, int(options.ecn)),
        (_BYTEMODE, int(options.bytemode)),
        (_RATE_ESTIMATOR, int(options.rate_estimator)),
    ]
    if creating:
        values.append((_FLOWS, options.flows))
    return pack_words(values)


def decode(data: bytes) -> FqPieOptions:
    """Of a dumped qdisc."""
    found = read_words(data)
    return FqPieOptions(
        limit=found.get(_LIMIT, 0),
        flows=found.get(_FLOWS, 0),
        target=psched_read(found.get(_TARGET, 0)),
        quantum=found.get(_QUANTUM, 0),
        memory=found.get(_MEMORY, 0),
        ecn=bool(found.get(_ECN, 0)),
        ecn_prob=found.get(_ECN_PROB, 0),
        alpha=found.get(_ALPHA, 0),
        beta=found.get(_BETA, 0),
        update=update_read(found.get(_UPDATE, 0)),
        bytemode=bool(found.get(_BYTEMODE, 0)),
        rate_estimator=bool(found.get(_RATE_ESTIMATOR, 0)),
    )
