"""sfq: struct tc_sfq_qopt_v1, and no nest around it. The kernel takes it when the qdisc is made, and never again.

The second half of the struct is RED's, for which there are better queues: it stays empty, and is passed over.
"""

from __future__ import annotations

import struct

from shaper.tree import SfqOptions

_QOPT = struct.Struct("=IiIIIII44x")  # the last 44 bytes: RED's parameters (20) and counters (24)
_READ = struct.Struct("=IiIIIII")


def fault(options: SfqOptions) -> str:
    """Why the kernel would not keep these as they are (sfq_change() in net/sched/sch_sfq.c), "" when it would."""
    if options.divisor & (options.divisor - 1) or not 0 < options.divisor <= 65536:
        return "SFQ's number of buckets is a power of two up to 65536"
    if not 0 < options.depth <= 127 or not 0 < options.flows <= min(options.divisor, 65536 - 128):
        return "SFQ has up to 127 packets in a queue, and up to as many queues as buckets"
    if not max(2, options.flows) <= options.limit <= options.depth * options.flows:
        return "SFQ's limit is at least 2 packets and one a queue, and no more than its queues hold"
    return ""


def encode(options: SfqOptions) -> bytes:
    """The whole of it. Raises ValueError for what the kernel would refuse or cut."""
    if said := fault(options):
        raise ValueError(said)
    return _QOPT.pack(
        options.quantum,
        options.perturb,
        options.limit,
        options.divisor,
        options.flows,
        options.depth,
        int(options.headdrop),
    )


def decode(data: bytes) -> SfqOptions:
    """Of a dumped qdisc."""
    quantum, perturb, limit, divisor, flows, depth, headdrop = _READ.unpack_from(data)
    return SfqOptions(limit, quantum, perturb, divisor, flows, depth, bool(headdrop))
