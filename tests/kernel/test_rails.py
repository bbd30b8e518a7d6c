"""What holds the controller, on a real kernel: the kill switch, and what is left when it is killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import Box, end, send, until

pytestmark = pytest.mark.kernel


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def status(box: Box) -> dict[str, Any]:
    one: dict[str, Any] = json.loads(box.ask("status --json")[1])["interfaces"][0]
    return one


def rates(box: Box) -> str:
    """What a controller moves: the classes, and the limits of their queues."""
    shown = [box.lab.run(f"tc {what} show dev {box.pair.a}").splitlines() for what in ("qdisc", "class")]
    return "\n".join(line for lines in shown for line in lines if line.startswith(("qdisc bfifo", "class htb")))


def applied(box: Box) -> str:
    """The policy with its static allocation, as tc shows it."""
    assert box.shaper(f"apply {box.policy}")[0] == 0
    return rates(box)


def test_the_kill_switch_holds_through_a_kill_and_ends_with_thaw(box: Box) -> None:
    static = applied(box)
    code, out, err = box.shaper("freeze -m testing --for 10m")
    assert (code, err) == (0, "")
    assert "frozen by" in out
    assert ": testing (since " in out
    process = box.start("--no-metrics", "--measure", "counters")
    assert box.shaper("freeze -m testing --for 10m")[::2] == (0, ""), "through its socket"
    flow = send(box, rate=8e6, seconds=600, dscp=34)

    def would() -> dict[str, Any]:
        code, out, _ = box.ask("explain decision video --json")
        return json.loads(out) if code == 0 else {"classes": []}

    until(lambda: any(part["change"] for part in would()["classes"] if part["class"] == "video"))
    assert not would()["applied"]
    assert would()["held"].startswith("frozen by")
    assert rates(box) == static
    process.kill()
    process.communicate(timeout=60)

    process = box.start("--no-metrics", "--measure", "counters")
    found = status(box)
    assert found["frozen"]["why"] == "testing"
    assert found["controller"]["held"].startswith("frozen by")
    assert rates(box) == static
    assert "thawed" in box.shaper("thaw")[1]
    until(lambda: rates(box) != static)
    flow.kill()
    flow.communicate(timeout=60)
    assert end(process)[0] == 0
    assert rates(box) == static
    told = json.loads(box.shaper("history --json")[1])["changes"]
    assert [change["what"] for change in told] == ["apply", "freeze", "run", "freeze", "run", "thaw"]


def test_the_static_allocation_of_nothing_is_nothing_to_put_back_and_says_so(box: Box) -> None:
    """The service asks for it at each end, whatever there was; so does a person, who wants an answer."""
    said = "nothing to put back: nothing of the shaper's is here\n"
    assert box.shaper("rollback --static")[:2] == (0, said)
    applied(box)
    assert box.shaper("clear")[0] == 0
    assert box.shaper("rollback --static")[:2] == (0, said)
    code, out, _ = box.shaper("rollback --static --device a1")
    assert (code, out) == (0, "a1: " + said)


def test_killed_it_leaves_the_last_allocation_and_one_command_brings_the_static_one_back(box: Box) -> None:
    static = applied(box)
    process = box.start("--no-metrics", "--measure", "counters")
    flow = send(box, rate=8e6, seconds=600, dscp=34)
    until(lambda: rates(box) != static)
    assert box.shaper("rollback --static")[0] == 75, "not under a running shaper"
    flow.kill()
    flow.communicate(timeout=60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    left = rates(box)
    assert left != static
    assert rates(box) == left
    assert box.shaper("status --json")[0] == 4
    code, out, _ = box.shaper("rollback --static -m crashed")
    assert code == 0
    assert "static allocation" in out
    assert rates(box) == static
    assert "nothing to put back" in box.shaper("rollback --static")[1]
    last = json.loads(box.shaper("history --json")[1])["changes"][-1]
    assert (last["what"], last["why"], last["result"]) == ("static", "crashed", "done")
