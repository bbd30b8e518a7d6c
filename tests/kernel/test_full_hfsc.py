"""HFSC on a kernel that has it: what tc shows, what an apply leaves, and that a run can move what it may."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backend_bench import SHAPER, Bench

from shaper.plan.steps import Step, Verb
from shaper.tree import ROOT, Curve, HfscClass, HfscOptions, Qdisc, straight

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.full

TOP = 0x5A000000
M = 1_000_000
CLASSES = """
voice: {tier: special, guarantee: 200kbit, limit: 2mbit, match: [{dscp: ef}], sla: {delay-p99: 10ms}}
video: {tier: priority, guarantee: VIDEO, match: [{dscp: af41}], sla: {delay-p95: 50ms}}
office: {match: [{dscp: 10}], classes: {web: {share: 70%, match: [{dport: 443}]}, other: {guarantee: 2mbit}}}
bulk: {guarantee: 9mbit, adapt: {min: 2mbit}, default: true}
"""


@pytest.fixture
def bench(netns: Lab, tmp_path: Path) -> Bench:
    return Bench(netns, netns.link_pair().a, tmp_path, backend="hfsc")


def test_tc_shows_what_was_sent_and_its_own_are_read_as_it_shows_them(netns: Lab) -> None:
    device, kernel = netns.link_pair().a, netns.kernel()
    before = kernel.read(device)
    sent = HfscClass(TOP | 0x10, TOP | 1, Curve(10 * M, 10_000, M), Curve(2 * M, 500, 3 * M), straight(4 * M))
    link = HfscClass(TOP | 1, TOP, None, straight(20 * M), straight(20 * M))
    nodes = (Qdisc(TOP, ROOT, "hfsc", HfscOptions(0x10)), link, sent)
    kernel.send(device, [Step(Verb.ADD, None, node) for node in nodes])
    (shown,) = (line for line in netns.run(f"tc class show dev {device}").splitlines() if "5a00:10" in line)
    curves = "rt m1 10Mbit d 10ms m2 1Mbit ls m1 2Mbit d 500us m2 3Mbit ul m1 0bit d 0us m2 4Mbit"
    assert shown.strip() == f"class hfsc 5a00:10 parent 5a00:1 {curves}"
    assert "default 10" in netns.run(f"tc qdisc show dev {device}")

    netns.run(f"tc class change dev {device} parent 5a00:1 classid 5a00:10 hfsc rt m1 8mbit d 3ms m2 1mbit")
    netns.run(f"tc class add dev {device} parent 5a00:1 classid 5a00:11 hfsc sc umax 1500b dmax 5ms rate 1mbit")
    held = {cls.handle & 0xFFFF: cls for cls in kernel.read(device).classes}
    assert held[0x10] == HfscClass(sent.handle, sent.parent, Curve(8 * M, 3_000, M), sent.ls, sent.ul)
    assert held[0x11].rt == held[0x11].ls == Curve(2_400_000, 5_000, M)
    kernel.send(device, [Step(Verb.DELETE, nodes[0], None)])
    assert kernel.read(device) == before


def test_apply_once_change_in_place_and_clear_leaves_nothing(bench: Bench) -> None:
    before = bench.found()
    assert {step["verb"] for step in bench.apply(CLASSES.replace("VIDEO", "3mbit"))} == {"add"}
    assert "qdisc hfsc 5a00: root" in bench.tc("qdisc")
    voice = next(line for line in bench.tc("class").splitlines() if "rt m1" in line and "m2 200Kbit" in line)
    assert "rt m1 1211Kbit d 10ms m2 200Kbit" in voice
    first = bench.found()
    assert bench.apply(CLASSES.replace("VIDEO", "3mbit")) == []

    steps = bench.apply(CLASSES.replace("VIDEO", "5mbit"))
    assert {(step["verb"], step["class"]) for step in steps} == {("change", "video")}
    bench.apply(CLASSES.replace("VIDEO", "3mbit"))
    assert bench.found() == first
    assert bench.shaper(f"status --device {bench.device}")[1]["interfaces"][0]["alarms"] == []
    assert bench.shaper("clear")[0] == 0
    assert bench.found() == before


def test_from_htb_to_hfsc_and_back_is_said_to_be_disruptive_and_leaves_the_same_tree(bench: Bench, netns: Lab) -> None:
    htb = Bench(netns, bench.device, bench.policy.parent, backend="htb")
    htb.apply(CLASSES.replace("VIDEO", "3mbit"))
    first = htb.found()
    steps = bench.apply(CLASSES.replace("VIDEO", "3mbit"))
    assert any(step["verb"] == "delete" and step["before"].get("kind") == "htb" for step in steps)
    htb.apply(CLASSES.replace("VIDEO", "3mbit"))
    assert htb.found() == first


def test_curves_that_the_link_cannot_keep_are_refused_with_the_class_and_the_mend(bench: Bench) -> None:
    before = bench.found()
    bench.write(CLASSES.replace("VIDEO", "3mbit").replace("10ms", "500us"))
    code, answer = bench.shaper(f"apply {bench.policy}")
    assert code == 69
    (problem,) = answer["problems"]
    assert problem["line"] == 7
    assert "24.224mbit" in problem["message"]
    assert "a delay of at least" in problem["hint"]
    assert bench.found() == before


def test_a_run_gives_a_class_what_it_needs_and_puts_the_static_rates_back(netns: Lab, tmp_path: Path) -> None:
    pair = netns.link_pair()
    bench = Bench(netns, pair.a, tmp_path, backend="hfsc")
    bench.apply(CLASSES.replace("VIDEO", "3mbit"))
    held = bench.shaping()
    assert "m2 3Mbit" in held
    process = bench.lab.start(f"{SHAPER} run {bench.policy} --state {bench.state} --json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "ready"
    sender = bench.flood(pair.b_v4, rate=8 * M, seconds=10, dscp=34)
    limit = time.monotonic() + 10
    while "m2 3Mbit" in bench.tc("class"):
        assert time.monotonic() < limit, "the controller never gave video more"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    sender.kill()
    assert process.returncode == 0, err
    assert bench.shaping() == held
