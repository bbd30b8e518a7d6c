"""A schedule on a real kernel: a boundary that comes while packets wait, and what the commands say of it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import Box, end, send, until

pytestmark = pytest.mark.kernel

POLICY = """\
version: 1
zone: UTC
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 10mbit}}, policy: office}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{dscp: ef}}]}}
      backup:
        guarantee: 1mbit
        limit: 4mbit
        match: [{{dscp: cs1}}]
        schedule: [{{when: {{from: "{begin:%H:%M:%S}", to: "{end:%H:%M:%S}"}}, guarantee: 3mbit, limit: 6mbit}}]
      rest: {{guarantee: 2mbit, default: true}}
"""
CS1 = 8
SOON = 6.0


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def write(box: Box, begin: datetime) -> None:
    """A period of an hour from then; whole seconds."""
    box.policy.write_text(POLICY.format(device=box.pair.a, begin=begin, end=begin + timedelta(hours=1)))


def backup(box: Box) -> str:
    """The class with its counters."""
    shown = box.lab.run(f"tc -s class show dev {box.pair.a}")
    return next(part for part in shown.split("class ") if part.startswith("htb 5a00:12 "))


def sent(box: Box) -> int:
    return int(backup(box).split("Sent ")[1].split()[0])


def test_a_run_turns_at_the_boundary_under_load_and_loses_nothing_by_it(box: Box) -> None:
    write(box, datetime.now(UTC) + timedelta(hours=2))
    process = box.start("--mode static", "--no-metrics")
    begin = datetime.now(UTC) + timedelta(seconds=SOON)
    write(box, begin)
    process.send_signal(signal.SIGHUP)
    sender = send(box, rate=8e6, seconds=SOON + 6, dscp=CS1)
    try:
        assert "rate 1Mbit" in backup(box) and "ceil 4Mbit" in backup(box)
        until(lambda: "rate 3Mbit" in backup(box))
        late = datetime.now(UTC).timestamp() - int(begin.timestamp())
        before = sent(box)
        assert "ceil 6Mbit" in backup(box)
        assert before > 0, "the counters went on: it is the same class and the same queue"
        time.sleep(1.0)
        assert (sent(box) - before) * 8 > 4.5e6, "more than the limit of before"
    finally:
        sender.wait(30)
        code, lines, _ = end(process)
    assert code == 0
    assert 0 <= late < 3.0
    _, out, _ = box.shaper(f"history --device {box.pair.a} --json")
    turned = [change for change in json.loads(out)["changes"] if change["what"] == "schedule"]
    assert len(turned) == 1 and turned[0]["disruptive"] == 0
    assert turned[0]["why"].startswith("the schedule: backup daily")
    assert lines[-1]["event"] == "summary"


def test_the_commands_say_what_holds_and_that_nobody_will_change_it(box: Box) -> None:
    begin = datetime.now(UTC) + timedelta(hours=2)
    write(box, begin)
    code, out, err = box.shaper(f"apply {box.policy}")
    assert code == 0, err
    assert "schedule: outside every period, until " in out
    assert "nobody will make that change" in out
    then = (begin + timedelta(minutes=5)).replace(tzinfo=None).isoformat(timespec="seconds")
    code, out, _ = box.shaper(f"plan {box.policy} --at {then} --json")
    assert code == 2
    (planned,) = json.loads(out)["interfaces"]
    assert planned["schedule"]["holds"].startswith("backup daily")
    assert {step["impact"] for step in planned["steps"]} == {"hitless"}
    assert "rate 1Mbit" in backup(box), "only shown"
    _, out, _ = box.shaper("status --json")
    (status,) = json.loads(out)["interfaces"]
    assert status["schedule"]["holds"] == "outside every period"
    assert abs(status["schedule"]["next_at_unix_s"] - begin.timestamp()) <= 1
    write(box, datetime.now(UTC) - timedelta(minutes=30))
    code, out, err = box.shaper(f"apply {box.policy}")
    assert code == 0 and "rate 3Mbit" in backup(box), err
    assert "schedule: backup daily" in out
