"""Taking over a tree that `tc` commands made, under traffic, and letting go of one, as a person types it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import Box, end, send, until

from shaper.run.state import DeviceState

pytestmark = pytest.mark.kernel

TREE = """\
qdisc add dev {0} root handle 1: htb default 30
class add dev {0} parent 1: classid 1:1 htb rate 20mbit ceil 20mbit
class add dev {0} parent 1:1 classid 1:10 htb rate 1mbit ceil 2mbit prio 1
class add dev {0} parent 1:1 classid 1:20 htb rate 3mbit ceil 20mbit prio 2
class add dev {0} parent 1:1 classid 1:30 htb rate 12mbit ceil 20mbit prio 3
qdisc add dev {0} parent 1:10 handle 10: {1}
qdisc add dev {0} parent 1:20 handle 20: {1}
qdisc add dev {0} parent 1:30 handle 30: {1}
"""


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def theirs(box: Box) -> None:
    """A script's tree, with the leaf queue that the shaper would choose on this kernel."""
    json_out = box.shaper("doctor --json")[1]
    leaf = "fq_codel" if "fq_codel" in json.loads(json_out)["capabilities"]["qdiscs"] else "bfifo limit 30000"
    for line in TREE.format(box.pair.a, leaf).splitlines():
        box.lab.run(f"tc {line}")


def packets(box: Box, number: str) -> int:
    shown = box.lab.run(f"tc -s class show dev {box.pair.a}")
    found = re.search(rf"class htb {number} .*?Sent \d+ bytes (\d+) pkt", shown, re.S)
    assert found, shown
    return int(found[1])


def unshaped(box: Box) -> str:
    """How many packets no class of the root has taken."""
    found = re.search(r"direct_packets_stat (\d+)", box.lab.run(f"tc -s qdisc show dev {box.pair.a}"))
    assert found
    return found[1]


def handles(box: Box) -> set[str]:
    shown = [box.lab.run(f"tc {what} show dev {box.pair.a}") for what in ("qdisc", "class")]
    return {match for text in shown for match in re.findall(r"(?:htb|bfifo|fq_codel) (\w+:\w*) ", text)}


def test_a_tree_of_tc_commands_is_taken_over_under_traffic(box: Box) -> None:
    theirs(box)
    before, passed = handles(box), unshaped(box)  # while the script made it, packets had no class
    code, _, err = box.shaper(f"apply {box.policy}")
    assert code == 69
    assert "somebody else's qdisc (htb 1:)" in err
    stands = box.tc()
    code, out, err = box.shaper(f"adopt {box.pair.a} {box.policy} --dry-run")
    assert code == 2, err
    assert "voice takes over class 1:10" in out
    assert "bulk takes over class 1:30" in out
    assert "the root htb" not in out
    assert box.tc() == stands, "a dry run changes nothing"
    sender = send(box, rate=4e6, seconds=6, dscp=0)
    until(lambda: packets(box, "1:30") > 100)
    counted = packets(box, "1:30")
    code, out, err = box.shaper(f"adopt {box.pair.a} {box.policy} -m mine")
    assert code == 0, err
    assert before <= handles(box)
    assert packets(box, "1:30") >= counted, "its counters, and so its queue, were never made anew"
    until(lambda: packets(box, "1:30") > counted + 100)
    sender.wait(timeout=20)
    assert unshaped(box) == passed
    assert not json.loads(box.shaper(f"plan {box.policy} --json")[1])["interfaces"][0]["steps"]
    assert not json.loads(box.shaper("status --json")[1])["interfaces"][0]["drift"]
    assert "mine" in box.shaper("history")[1]
    box.write(video="5mbit")
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert before <= handles(box)
    process = box.start()
    code, _, err = end(process)
    assert code == 0, err
    assert before <= handles(box)
    assert box.shaper("clear")[0] == 0
    assert "htb" not in box.tc()


def test_a_lost_record_is_found_again_and_released_it_is_nobody_s(box: Box) -> None:
    assert box.shaper(f"apply {box.policy}")[0] == 0
    held = box.tc()
    elsewhere = box.state.with_name("elsewhere")
    box.state.rename(elsewhere)
    code, _, err = box.shaper(f"apply {box.policy}")
    assert code == 69
    assert f"shaper adopt {box.pair.a} POLICY" in err
    code, out, err = box.shaper(f"adopt {box.pair.a} {box.policy} --json")
    assert code == 0, err
    assert json.loads(out)["interfaces"][0]["steps"] == []
    assert box.tc() == held
    code, out, err = box.shaper(f"release {box.pair.a}")
    assert code == 0, err
    assert "not ours any more" in out
    shown = box.tc()
    assert "class htb 5a00:1 root" in shown
    assert "clsact" not in shown
    assert "shp-" not in shown
    state = box.lab.inside(lambda: DeviceState(box.state, box.pair.a))
    assert state.record() is None
    assert box.shaper("clear")[0] == 0
    assert "class htb 5a00:1 root" in box.tc()
    assert box.shaper(f"release {box.pair.a}")[0] == 69


def test_a_running_shaper_lets_go(box: Box) -> None:
    process = box.start()
    code, out, err = box.shaper(f"release {box.pair.a}")
    assert code == 0, err
    assert "the running shaper let go of it" in out
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert "class htb 5a00:1 root" in box.tc()
    assert box.shaper("status")[0] == 69
