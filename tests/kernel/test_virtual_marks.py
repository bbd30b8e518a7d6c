"""ECN marks, counted where each kind of queue counts them: at an overload that it can still answer with marks."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backend_bench import Bench

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.virtual

FRAME = 942
GAP = FRAME * 8 / 1_050_000
"""A link of 1 Mbit/s is offered a twentieth more than it carries: PIE marks up to a probability of a tenth."""
ROOM = "limit: 1mb"
"""So that nothing is dropped for want of memory."""


@pytest.mark.parametrize(
    "queue",
    ["codel", f"{{kind: fq_codel, {ROOM}}}", "pie", f"{{kind: fq_pie, {ROOM}}}", "red", f"{{kind: cake, {ROOM}}}"],
)
def test_marks_are_counted_where_the_queue_makes_them(netns: Lab, tmp_path: Path, queue: str) -> None:
    pair = netns.link_pair()
    bench = Bench(netns, pair.a, tmp_path, backend="htb", bandwidth="1mbit")
    bench.apply(f"all: {{aqm: {queue}, default: true}}")
    kernel = netns.kernel()
    with netns.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 2)  # ECT(0)
        sent, marks = 0, 0
        while not marks and sent < 2000:
            for _ in range(50):
                sock.sendto(bytes(900), (pair.b_v4, 9))
                sent += 1
                time.sleep(GAP)
            marks = kernel.counters(pair.a).classes[0x5A000011].marked
    assert marks, bench.tc("-s qdisc")
    print(f"{queue}: {marks} marks after {sent} packets")
