"""`shaper run` on every rung of the measurement's ladder: what it measures, says, and leaves behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import SHAPER, Box, end, send, until

pytestmark = pytest.mark.kernel

STAMP = re.compile(r"pref 20 bpf.* (shaper-stamp-\S+) direct-action")


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def status(box: Box) -> dict[str, Any]:
    """The running shaper's status of the one interface; on a busy machine it may have to be asked again."""
    code = 75
    while code == 75:
        code, out, err = box.shaper("status --json")
    assert code in (0, 3, 4), err
    found: dict[str, Any] = json.loads(out)["interfaces"][0]
    return found


def stamps(box: Box) -> list[str]:
    """The programs on the hook, by their names."""
    shown = box.lab.run(f"tc filter show dev {box.pair.a} egress", check=False)
    return STAMP.findall(shown)


@pytest.mark.parametrize("rung", ["ebpf", "capture"])
def test_delay_loss_and_load_are_measured_on_the_rung_that_is_asked_for(box: Box, rung: str) -> None:
    process = box.start(f"--no-metrics --mode structured --measure {rung}")
    flows = [send(box, rate=800e3, seconds=4, dscp=46), send(box, rate=40e6, seconds=4, dscp=0)]
    for flow in flows:
        assert flow.wait(timeout=20) == 0
    time.sleep(0.5)
    found = status(box)
    assert (found["capture"]["running"], found["capture"]["rung"]) == (True, rung)
    assert found["alarms"] == []
    code, lines, err = end(process)
    assert code == 0, err
    classes = lines[-1]["classes"]
    for name in ("voice", "bulk"):
        one = classes[name]
        assert one["samples"] == one["sent_packets"] > 300
        assert one["measured_drops"] == one["kernel_drops"]
        assert one["measured_arrivals"] == one["samples"] + one["measured_drops"]
        assert one["in_flight"] == 0
    if classes["bulk"]["kernel_drops"]:  # a slow machine sends too little to fill the queue
        assert classes["bulk"]["delay_p95_s"] > classes["voice"]["delay_p50_s"]
    assert bool(stamps(box)) == (rung == "ebpf")
    assert ("shp-" in box.lab.run("ip -br link")) == (rung == "capture")


@pytest.mark.parametrize("rung", ["ebpf", "capture"])
def test_bursts_ipdv_and_availability_are_told_as_far_as_the_rung_has_them(box: Box, rung: str) -> None:
    process = box.start(f"--listen 127.0.0.1:0 --mode structured --measure {rung}")
    assert process.stderr is not None
    address = process.stderr.readline().split()[-1]
    flow = send(box, rate=800e3, seconds=60, dscp=46)
    time.sleep(3)
    found = status(box)
    voice = next(one for one in found["classes"] if one["path"] == "voice")
    text = box.lab.inside(lambda: urllib.request.urlopen(address, timeout=60).read().decode())
    flow.kill()
    code, _, err = end(process)
    assert code == 0, err

    assert voice["availability"]["available_ratio"] == 1
    assert 1 <= voice["availability"]["available_s"] <= found["elapsed_s"] + 1
    lent = voice["borrowing"]["own_packets"] + voice["borrowing"]["borrowed_packets"]
    assert abs(lent - voice["sent_packets"]) <= 1, "one may be sent while the kernel tells both"
    assert lent > 100
    most, mean = voice["burst"]["envelope_bytes"], voice["burst"]["mean_bit_s"]
    assert mean == pytest.approx(800e3, rel=0.5)
    assert list(most.values()) == sorted(most.values()), "a longer window holds no less"
    assert 0.9 * mean / 8 <= most["1.0"] <= voice["sent_bytes"], "the worst second is no better than the mean"
    assert bool(voice["delay"]["ipdv_s"]) == (rung == "capture")
    told = {line.partition("{")[0] for line in text.splitlines() if 'class="voice"' in line}
    assert {"shaper_class_availability_ratio", "shaper_class_burst_bytes"} <= told
    assert ("shaper_class_ipdv_seconds" in told) == (rung == "capture")


def test_killed_it_leaves_a_program_that_does_nothing_and_the_next_run_begins_clean(box: Box) -> None:
    found = box.tc()
    process = box.start("--no-metrics --measure auto")
    (first,) = stamps(box)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert stamps(box) == [first]
    flow = send(box, rate=2e6, seconds=1, dscp=46)  # packets pass a program whose maps are gone
    assert flow.wait(timeout=20) == 0
    assert box.shaper(f"plan {box.policy}")[0] == 0  # it stays until somebody measures again
    process = box.start("--no-metrics --measure auto")
    (second,) = stamps(box)
    assert second != first
    flow = send(box, rate=800e3, seconds=1, dscp=46)
    assert flow.wait(timeout=20) == 0
    until(lambda: status(box)["capture"]["matched"] > 50)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert box.shaper("clear")[0] == 0
    assert box.tc() == found


def test_other_rules_are_another_program_and_a_rate_is_not(box: Box) -> None:
    process = box.start("--no-metrics --measure auto")
    (first,) = stamps(box)
    box.write(video="4mbit")
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert stamps(box) == [first]
    box.policy.write_text(box.policy.read_text().replace("dscp: af41", "dscp: af42"))
    assert box.shaper(f"apply {box.policy}")[0] == 0
    (second,) = stamps(box)
    assert second != first
    before = status(box)["capture"]["matched"]
    flow = send(box, rate=800e3, seconds=1, dscp=46)
    assert flow.wait(timeout=20) == 0
    until(lambda: status(box)["capture"]["matched"] > before + 50)
    assert end(process)[0] == 0
    # Nobody lends a program now: what is there stays as long as it says the same, else packets are copied again.
    assert box.shaper(f"plan {box.policy}")[0] == 0
    box.policy.write_text(box.policy.read_text().replace("dscp: af42", "dscp: af43"))
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert stamps(box) == []
    assert "shp-" in box.lab.run("ip -br link")


INSIDE = """\
ip link add q0 type veth peer name q1
ip link set q0 up && ip link set q1 up
{shaper} run {policy} --state {state} --no-metrics --measure auto --json > {out} &
until grep -q '"second"' {out}; do kill -0 $! || exit 1; sleep 0.1; done
{shaper} status --json --state {state}
kill -TERM $!
wait $!
"""


def test_where_programs_are_forbidden_packets_are_captured_and_it_says_so(box: Box) -> None:
    """In a user namespace all is permitted that shaping takes, and no program may be loaded."""
    box.policy.write_text(box.policy.read_text().replace(f"device: {box.pair.a}", "device: q0"))
    script = box.policy.with_name("inside.sh")
    script.write_text(
        INSIDE.format(shaper=SHAPER, policy=box.policy, state=box.state, out=box.policy.with_name("lines"))
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-u", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    capture = json.loads(done.stdout)["interfaces"][0]["capture"]
    assert (capture["rung"], capture["running"]) == ("capture", True)
    assert "shaper doctor" in capture["lacking"]


def test_counters_alone_put_nothing_on_a_hook(box: Box) -> None:
    process = box.start("--no-metrics --measure counters")
    assert "clsact" not in box.tc()
    found = status(box)["capture"]
    assert (found["running"], found["rung"]) == (False, "counters")
    assert "--measure counters" in found["reason"]
    assert end(process)[0] == 0


@pytest.mark.parametrize("how", ["", "--measure capture", "--measure counters", "--mode static"])
def test_a_plan_beside_a_run_is_what_the_run_does(box: Box, how: str) -> None:
    """What measures is the run's, and so is whether there are tiers: neither may look like a change of the policy."""
    process = box.start(f"--no-metrics {how}")
    code, out, _ = box.ask(f"plan {box.policy}")
    assert code == 0, out
    box.policy.write_text(box.policy.read_text().replace("dscp: af41", "dscp: af42"))
    saved = box.policy.with_name("saved.json")
    code, out, _ = box.ask(f"plan {box.policy} -o {saved} --json")
    assert code == 2
    planned = json.loads(out)["interfaces"][0]["steps"]
    code, out, err = box.ask(f"apply {saved} --json")
    assert code == 0, err
    assert json.loads(out)["interfaces"][0]["steps"] == planned
    assert box.ask(f"plan {box.policy}")[0] == 0
    assert end(process)[0] == 0
