"""How many packets an AQM marked instead of dropping them (RFC 3168), by the statistics of its kind of qdisc."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from collectors.netlink import attributes

_TCA_STATS_APP = 4
_TINS, _TIN_MARKED = 10, 8
_U32 = struct.Struct("=I")
_OFFSETS: Mapping[str, int] = {
    "codel": 24,  # struct tc_codel_xstats.ecn_mark
    "fq_codel": 12,  # struct tc_fq_codel_xstats: its type, then tc_fq_codel_qd_stats.ecn_mark
    "pie": 36,  # struct tc_pie_xstats.ecn_mark
    "fq_pie": 16,  # struct tc_fq_pie_xstats.ecn_mark
    "red": 12,  # struct tc_red_xstats.marked
}


def marked_packets(kind: str, stats2: bytes) -> int:
    """From TCA_STATS2 of a qdisc; 0 for a kind that marks nothing."""
    data = attributes(stats2).get(_TCA_STATS_APP, b"")
    if kind == "cake":
        tins = attributes(attributes(data).get(_TINS, b""))
        return sum(_number(attributes(tin).get(_TIN_MARKED, b"")) for tin in tins.values())
    offset = _OFFSETS.get(kind)
    return 0 if offset is None else _number(data[offset : offset + 4])


def _number(data: bytes) -> int:
    return int(_U32.unpack(data)[0]) if len(data) == 4 else 0
