"""A link that moves, on a real kernel: the queue behind the shaped device is another's, and only probes tell of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import Box, end, send, until
from test_probe_run import state_of

from shaper.api.client import ask
from shaper.history.store import History

pytestmark = pytest.mark.kernel

M = 10**6
POLICY = """\
version: 1
interfaces:
  wan:
    device: {device}
    bandwidth: {{egress: {{min: 2mbit, base: 20mbit}}}}
    reflectors: {{to: [{to}]}}
    policy: office
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 500kbit, limit: 1mbit, match: [{{dscp: ef}}], sla: {{delay-p99: 20ms}}}}
      rest: {{guarantee: 12mbit, adapt: {{min: 500kbit}}, default: true}}
"""


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    made = Box(netns, tmp_path)
    made.policy.write_text(POLICY.format(device=made.pair.a, to=made.pair.b_v4))
    yield made


def link(box: Box) -> dict[str, Any]:
    """The link as the running shaper sees it."""
    (status,) = ask(state_of(box), "status") or []
    return dict(status["link"])


def narrow(box: Box, rate: str) -> None:
    """What the peer takes in goes through a slower device, with a deep queue, before anybody there sees it."""
    for line in (
        "ip link add narrow type ifb",
        "ip link set narrow up",
        f"tc qdisc add dev narrow root tbf rate {rate} burst 5kb limit 300kb",
        f"tc qdisc add dev {box.pair.b} ingress",
        f"tc filter add dev {box.pair.b} parent ffff: protocol all u32 match u32 0 0 "
        "action mirred egress redirect dev narrow",
    ):
        box.lab.run(line, peer=True)


def rate_of_root(box: Box) -> int:
    """Of the link's class, in bit/s, as tc prints it."""
    (line,) = (one for one in box.lab.run(f"tc class show dev {box.pair.a}").splitlines() if " root " in one)
    found = re.search(r"rate (\d+)(K|M)bit", line)
    assert found is not None, line
    return int(found[1]) * {"K": 10**3, "M": M}[found[2]]


def test_a_hidden_queue_is_found_drained_and_left_when_the_run_ends(box: Box) -> None:
    process = box.start("--no-metrics", "--measure", "counters")
    until(lambda: link(box)["delay_s"] is not None)
    assert link(box)["rate_bit_s"] == 20 * M
    assert box.lab.run("ip -br link", peer=True)
    narrow(box, "6mbit")
    sender = send(box, rate=12e6, seconds=40, dscp=0)
    until(lambda: link(box)["moves"] > 0 and link(box)["rate_bit_s"] < 7 * M, seconds=20)
    until(lambda: (link(box)["delay_s"] or 1.0) < 0.03, seconds=20)
    assert 2 * M <= link(box)["rate_bit_s"] < 9 * M
    assert rate_of_root(box) < 9 * M
    (status,) = ask(state_of(box), "status") or []
    assert not status["drift"]
    assert box.shaper(f"apply {box.policy}")[0] == 0, "an apply of the same policy"
    assert rate_of_root(box) < 9 * M, "keeps the live rate"
    sender.kill()
    code, _, _ = end(process)
    assert code == 0
    assert rate_of_root(box) == 20 * M
    with History(state_of(box).history) as history:
        moves = [line.decision.link for line in history.journal(last=1000) if line.decision.link is not None]
    assert any("came through" in move.reason or "in proportion" in move.reason for move in moves)


def test_a_reflector_that_is_not_there_is_an_alarm_and_no_congestion(box: Box) -> None:
    box.policy.write_text(box.policy.read_text().replace(f"to: [{box.pair.b_v4}]", "to: [192.0.2.77]"))
    process = box.start("--no-metrics", "--measure", "counters")
    sender = send(box, rate=8e6, seconds=30, dscp=0)

    def alarms() -> str:
        (status,) = ask(state_of(box), "status") or []
        return " ".join(status["alarms"])

    until(lambda: "192.0.2.77" in alarms(), seconds=20)
    assert link(box)["rate_bit_s"] == 20 * M
    sender.kill()
    assert end(process)[0] == 0
