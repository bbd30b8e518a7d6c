"""How much of the kernel's memory the packets of a queue take, as its limit counts them: buffers, not lengths."""

from __future__ import annotations

import struct

from collectors.netlink import attributes, parse_stats

_TCA_STATS_APP = 4
_FQ_CODEL_MEMORY = 32  # struct tc_fq_codel_xstats: its type, then tc_fq_codel_qd_stats.memory_usage
_CAKE_MOST_USED = 4
_U32 = struct.Struct("=I")


def memory_held(kind: str, stats2: bytes) -> int:
    """In bytes, from TCA_STATS2 of a qdisc; 0 for a kind that no memory limits.

    CAKE tells the most that it ever used, not what it uses now: what is said is no more than that, and else for each
    packet twice its length and 2 KB, which is more than the buffers of common drivers take.
    """
    data = attributes(stats2).get(_TCA_STATS_APP, b"")
    if kind == "fq_codel" and len(data) >= _FQ_CODEL_MEMORY + _U32.size:
        return int(_U32.unpack_from(data, _FQ_CODEL_MEMORY)[0])
    if kind == "cake":
        stats, most = parse_stats(stats2), attributes(data).get(_CAKE_MOST_USED, b"")
        guess = 2 * stats.backlog + 2048 * stats.queued
        return min(guess, *_U32.unpack(most)) if len(most) == _U32.size else guess
    return 0
