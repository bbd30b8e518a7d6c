"""A tier that changes under traffic: what the dump says at once, the kernel does once the class's queue was empty."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import Box, send, until

pytestmark = pytest.mark.kernel

POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 6mbit}}, policy: office}}
policies:
  office:
    classes:
      calls: {{tier: {tier}, guarantee: 200kbit, match: [{{dscp: af41}}], aqm: {{kind: fifo, limit: 30kb}}}}
      rest: {{guarantee: 200kbit, default: true, aqm: {{kind: fifo, limit: 30kb}}}}
"""


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Box:
    return Box(netns, tmp_path)


def counted(box: Box) -> dict[str, tuple[int, int]]:
    """Sent bytes and backlog by class."""
    (record,) = box.state.rglob("record.json")
    handles = json.loads(record.read_text())["handles"]
    text = box.lab.run(f"tc -s class show dev {box.pair.a}")
    found = re.findall(r"class htb 5a00:(\w+) .*\n Sent (\d+) bytes.*\n backlog (\w+)b ", text)
    by_minor = {int(minor, 16): (int(sent), backlog) for minor, sent, backlog in found}
    return {
        path: (by_minor[handle & 0xFFFF][0], by_minor[handle & 0xFFFF][1] != "0") for path, handle in handles.items()
    }


def share(box: Box, seconds: float) -> float:
    """The part of what both sent in that time that is `calls`'s."""
    before = counted(box)
    time.sleep(seconds)
    after = counted(box)
    calls, rest = (after[path][0] - before[path][0] for path in ("calls", "rest"))
    return calls / (calls + rest)


def test_a_higher_tier_is_served_first_once_its_queue_was_empty_and_plan_says_so(box: Box) -> None:
    box.policy.write_text(POLICY.format(device=box.pair.a, tier="standard"))
    assert box.shaper(f"apply {box.policy}")[0] == 0
    rest, calls = send(box, rate=7e6, seconds=120, dscp=0), send(box, rate=7e6, seconds=120, dscp=34)
    until(lambda: all(counted(box)[path][1] for path in ("calls", "rest")), seconds=30)
    assert 0.35 <= share(box, 2.0) <= 0.65
    box.policy.write_text(POLICY.format(device=box.pair.a, tier="priority"))
    code, out, _ = box.shaper(f"plan {box.policy}")
    assert code == 2 and "prio 2 -> 1" in out
    assert "the new tier counts from when its queue is next empty" in out
    assert box.shaper(f"apply {box.policy}")[0] == 0
    calls.kill()
    until(lambda: not counted(box)["calls"][1], seconds=30)
    calls = send(box, rate=7e6, seconds=120, dscp=34)
    until(lambda: counted(box)["calls"][1], seconds=30)
    assert share(box, 2.0) >= 0.9
    assert rest.poll() is None and calls.poll() is None
