"""ECN marks from the statistics that each kind of qdisc gives."""

from __future__ import annotations

import struct

import pytest

from collectors.marks import marked_packets
from collectors.netlink import attribute

STATS = {
    "codel": struct.pack("=IIIIiIIII", 1514, 3, 2, 900, 0, 5, 77, 1, 0),
    "fq_codel": struct.pack("=IIIIIIIIII", 0, 1514, 5, 77, 9, 0, 1, 0, 4000, 0),
    "pie": struct.pack("=QIIIIIIII", 2**63, 15, 0, 0, 500, 3, 1, 40, 77),
    "fq_pie": struct.pack("=IIIIIIIII", 500, 3, 1, 0, 77, 9, 0, 1, 4000),
    "red": struct.pack("=IIII", 12, 3, 0, 77),
}


def stats2(data: bytes) -> bytes:
    return attribute(4, data)


@pytest.mark.parametrize("kind", STATS)
def test_each_kind_says_it_in_a_place_of_its_own(kind: str) -> None:
    assert marked_packets(kind, stats2(STATS[kind])) == 77


def test_cakes_tins_say_it_one_by_one() -> None:
    tins = b"".join(attribute(number, attribute(8, struct.pack("=I", 10 * number))) for number in (1, 2, 3))
    assert marked_packets("cake", attribute(4, attribute(10, tins))) == 60


@pytest.mark.parametrize("kind", ["bfifo", "sfq", "htb", "fq_codel", "cake"])
def test_no_statistics_are_no_marks(kind: str) -> None:
    assert marked_packets(kind, b"") == 0
