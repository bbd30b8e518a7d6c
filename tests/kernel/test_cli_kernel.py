"""The commands on a real kernel, as a person types them: exit codes, what changes, and what never does."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shaper.errors import Exit
from shaper.history.store import History
from shaper.run.state import DeviceState

pytestmark = pytest.mark.kernel

SHAPER = f"{Path(sys.executable).parent / 'shaper'}"
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, bandwidth: {{egress: 20mbit}}, policy: office}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{dscp: ef}}], sla: {{delay-p99: 20ms}}}}
      video: {{tier: priority, guarantee: {video}, match: [{{dscp: af41}}], sla: {{delay-p95: 50ms, loss: 0.5%}}}}
      bulk: {{guarantee: 12mbit, adapt: {{min: 2mbit}}, default: true}}
"""


class Box:
    """A device, a policy for it and the command, in a namespace."""

    def __init__(self, lab: Any, folder: Path) -> None:
        self.lab = lab
        self.pair = lab.link_pair()
        self.policy = folder / "policy.yaml"
        self.state = folder / "state"
        self.write()

    def write(self, video: str = "3mbit") -> None:
        self.policy.write_text(POLICY.format(device=self.pair.a, video=video))

    def shaper(self, command: str, *, prefix: str = "") -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        state = "" if command.startswith("check") else f"--state {self.state}"
        argv = f"ip netns exec {self.lab.name} {prefix} {SHAPER} {command} {state}".split()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
        return done.returncode, done.stdout, done.stderr

    def ask(self, question: str) -> tuple[int, str, str]:
        """`shaper`, put again as long as the one that runs is too busy to answer, as it may be on a busy machine."""
        limit = time.monotonic() + 60
        answer = self.shaper(question)
        while answer[0] == Exit.TRY_AGAIN and time.monotonic() < limit:
            answer = self.shaper(question)
        return answer

    def tc(self) -> str:
        """Everything tc sees on the device, counters left out, and the devices themselves.

        fq_codel shows a flow that has packets as a class: those come and go.
        """
        shown = [self.lab.run(f"tc {what} show dev {self.pair.a}") for what in ("qdisc", "class", "filter")]
        lines = (line for text in shown for line in text.splitlines() if not line.startswith("class fq_codel"))
        return "\n".join([*lines, self.lab.run("ip -br link")])

    def shaping(self) -> str:
        """Of `tc` what shapes: not the hook, nor the device of the copies, which are there for what measures."""
        return "\n".join(line for line in self.tc().splitlines() if "clsact" not in line and "shp-" not in line)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """A running `shaper run` that has said that it is ready."""
        process = self.lab.start(f"{SHAPER} run {self.policy} --state {self.state} --json {' '.join(options)}")
        line = process.stdout.readline()
        assert line, process.stderr.read()
        assert json.loads(line)["event"] == "ready"
        return process


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, the JSON lines, standard error."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Waits for a condition that another process brings about."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.05)


def send(box: Box, *, rate: float, seconds: float, dscp: int) -> subprocess.Popen[str]:
    """UDP at a rate in bit/s, in packets of 1042 bytes, from the namespace of the device."""
    code = (
        "import socket,time,sys;"
        f"s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.setsockopt(0,1,{dscp << 2});"
        "b=time.monotonic();n=0\n"
        f"while time.monotonic()<b+{seconds}:\n"
        f"  s.sendto(n.to_bytes(8,'big')+bytes(992),('{box.pair.b_v4}',9));n+=1\n"
        f"  time.sleep(max(0,b+n*8336/{rate}-time.monotonic()))\n"
    )
    script = box.policy.with_name(f"send{dscp}.py")
    script.write_text(code)
    process: subprocess.Popen[str] = box.lab.start(f"{sys.executable} {script}")
    return process


def test_plan_apply_status_clear(box: Box) -> None:
    found = box.tc()
    code, out, _ = box.shaper(f"plan {box.policy}")
    assert code == 2
    assert "voice" in out
    assert box.tc() == found
    assert not box.state.exists()
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert box.tc() != found
    code, out, _ = box.shaper(f"apply {box.policy} --json")
    assert code == 0
    assert json.loads(out)["interfaces"][0]["steps"] == []
    assert box.shaper(f"plan {box.policy}")[0] == 0
    code, out, _ = box.shaper("status --json")
    assert code == 4
    assert {cls["path"] for cls in json.loads(out)["interfaces"][0]["classes"]} >= {"voice", "video", "bulk"}
    assert box.shaper("clear")[0] == 0
    assert box.tc() == found


def test_another_policy_and_back_leaves_the_same(box: Box) -> None:
    box.shaper(f"apply {box.policy}")
    first = box.tc()
    box.write(video="5mbit")
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert box.tc() != first
    box.write()
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert box.tc() == first


def test_somebody_elses_qdisc_is_refused_and_left_alone(box: Box) -> None:
    box.lab.run(f"tc qdisc add dev {box.pair.a} root handle 1: tbf rate 5mbit burst 10k latency 50ms")
    found = box.tc()
    code, _, err = box.shaper(f"apply {box.policy}")
    assert code == 69
    assert "policy.yaml:3:" in err
    assert "tc qdisc del" in err
    assert box.shaper("clear")[0] == 0
    assert box.tc() == found


def test_somebody_elses_filter_on_the_hook_stays(box: Box) -> None:
    box.shaper(f"apply {box.policy}")
    device = box.pair.a
    box.lab.run(f"tc filter add dev {device} egress protocol ip pref 5 u32 match ip dst 192.0.2.1/32 flowid 1:1")
    assert box.shaper("clear")[0] == 0
    assert "pref 5 u32" in box.lab.run(f"tc filter show dev {device} egress")


def test_a_device_that_is_not_there_names_the_line(box: Box) -> None:
    box.policy.write_text(POLICY.format(device="nowhere0", video="3mbit"))
    code, _, err = box.shaper(f"plan {box.policy}")
    assert code == 69
    assert "policy.yaml:3:" in err


def test_without_permission_it_is_said_and_nothing_is_left(box: Box) -> None:
    found = box.tc()
    powerless = "setpriv --bounding-set -net_admin,-net_raw --inh-caps -net_admin,-net_raw"
    code, out, err = box.shaper(f"apply {box.policy}", prefix=powerless)
    assert code == 77, (out, err)
    assert "policy.yaml:3:" in err
    assert box.tc() == found


def test_wrong_usage_and_wrong_policies(box: Box) -> None:
    assert box.shaper("apply")[0] == 64
    assert box.shaper("bogus")[0] == 64
    box.policy.write_text("version: 1\nbogus: 2\n")
    code, out, _ = box.shaper(f"check {box.policy} --json")
    assert code == 65
    assert any(one["line"] == 2 for one in json.loads(out)["problems"])


@pytest.mark.timing  # 33 Mbit/s offered in time are more than an emulated processor can keep up
def test_a_run_measures_controls_and_answers(box: Box) -> None:
    found = box.tc()
    assert box.shaper(f"apply {box.policy}")[0] == 0
    applied = box.shaping()
    process = box.start("--listen", "127.0.0.1:0")
    metrics = process.stderr.readline().split()[-1]
    flows = [send(box, rate=rate, seconds=6, dscp=dscp) for rate, dscp in ((4e5, 46), (8e6, 34), (25e6, 0))]
    process.stdout.readline()
    process.stdout.readline()
    process.stdout.readline()
    code, out, _ = box.ask("status --json")
    assert code in (0, 3)
    status = json.loads(out)["interfaces"][0]
    assert status["running"]
    code, out, _ = box.shaper(f"apply {box.policy} --json")
    assert code == 0
    assert json.loads(out)["interfaces"][0]["steps"] == []
    text = box.lab.inside(lambda: urllib.request.urlopen(metrics, timeout=60).read().decode())
    families = {family.name for family in text_string_to_metric_families(text)}
    assert "shaper_class_delay_seconds" in families
    for flow in flows:
        flow.wait(timeout=60)
    code, lines, _ = end(process)
    assert code == 0
    summary = lines[-1]["classes"]["video"]
    assert summary["samples"] > 1000
    assert summary["delay_p99_s"] > 0
    assert lines[-1]["changes"] >= 1, "8 mbit of video over a guarantee of 3 mbit must have been sized"
    assert box.shaping() == applied, "the static allocation is put back"
    assert box.shaper("clear")[0] == 0
    assert box.tc() == found
    history = DeviceState(box.state, box.pair.a, namespace=next(box.state.iterdir()).name).history
    with History(history) as kept:
        decisions = kept.decisions(device=box.pair.a, last=100)
        observed = kept.observations(device=box.pair.a, since=0.0)
    assert any(line.applied for line in decisions)
    replay = [*SHAPER.split(), "replay", str(history)]
    replayed = subprocess.run(replay, capture_output=True, text=True, timeout=180, check=False)
    assert (replayed.returncode, "0 differ" in replayed.stdout) == (0, True), replayed.stdout
    assert {row.path for row in observed} >= {"voice", "video", "bulk"}


def test_a_bad_file_keeps_the_policy_and_a_good_one_replaces_it(box: Box) -> None:
    process = box.start("--no-metrics")
    first = box.tc()
    box.policy.write_text("version: 1\nbogus: 2\n")
    process.send_signal(signal.SIGHUP)
    assert "stays" in process.stderr.readline()
    assert box.tc() == first
    box.write(video="5mbit")
    process.send_signal(signal.SIGHUP)
    until(lambda: box.tc() != first)
    code, _, err = end(process)
    assert code == 0
    assert "read again" in err


def test_clear_and_a_second_run_meet_the_running_one(box: Box) -> None:
    found = box.tc()
    process = box.start("--no-metrics")
    code, _, err = box.shaper(f"run {box.policy} --no-metrics")
    assert code == 75, err
    assert box.shaper("clear")[0] == 0
    assert box.tc() == found
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_killed_run_leaves_its_tree_and_the_next_begins_anew(box: Box) -> None:
    process = box.start("--no-metrics")
    applied = box.tc()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    process.communicate()
    assert box.tc() == applied
    assert box.shaper("status")[0] == 4
    again = box.start("--no-metrics")
    assert end(again)[0] == 0
    assert box.shaper("clear")[0] == 0


def test_a_hook_that_is_somebody_elses_means_no_data_for_delay(box: Box) -> None:
    box.lab.run(f"tc qdisc add dev {box.pair.a} clsact")
    process = box.start("--no-metrics")
    flow = send(box, rate=5e6, seconds=2, dscp=34)
    flow.wait(timeout=60)
    code, out, _ = box.ask("status --json")
    assert code == 4
    status = json.loads(out)["interfaces"][0]
    assert not status["capture"]["running"]
    code, lines, _ = end(process)
    assert lines[-1]["classes"]["video"]["delay_p99_s"] is None
    assert lines[-1]["classes"]["video"]["sent_bytes"] > 0
    assert box.shaper("clear")[0] == 0
    assert "clsact" in box.lab.run(f"tc qdisc show dev {box.pair.a}")


def test_tcp_flows_though_super_packets_do(box: Box) -> None:
    if shutil.which("iperf3") is None:
        pytest.skip("missing capability: iperf3")
    for device, peer in ((box.pair.a, False), (box.pair.b, True)):
        box.lab.run(f"ethtool -K {device} tso on gso on gro on", peer=peer)
        box.lab.run(f"ip link set dev {device} gso_max_segs 65535", peer=peer)
    code, _, err = box.shaper(f"apply {box.policy}")
    assert code == 0, err
    server = box.lab.start("iperf3 -s -1", peer=True)
    until(lambda: ":5201" in box.lab.run("ss -Htln", peer=True))
    report = json.loads(box.lab.run(f"iperf3 -J -t 3 -c {box.pair.b_v4}"))
    server.wait(timeout=10)
    assert report["end"]["sum_received"]["bits_per_second"] > 15e6


def test_an_idle_class_is_no_alarm(box: Box) -> None:
    process = box.start("--no-metrics")
    process.stdout.readline()
    assert box.ask("status")[0] == 0
    assert end(process)[0] == 0


def test_neighbours_are_found_while_the_link_is_flooded(box: Box) -> None:
    assert box.shaper(f"apply {box.policy}")[0] == 0
    device = box.pair.a
    flood = send(box, rate=60e6, seconds=300, dscp=0)
    until(lambda: "backlog" in box.lab.run(f"tc -s qdisc show dev {device}"))
    time.sleep(0.5)
    for address in (box.pair.b_v4, box.pair.b_v6):
        box.lab.run(f"ip neigh flush dev {device}")
        family = "AF_INET6" if ":" in address else "AF_INET"
        code = f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM).sendto(b'x', ('{address}', 9))"
        probe = box.policy.with_name("probe.py")
        probe.write_text(code)
        box.lab.run(f"{sys.executable} {probe}")
        until(lambda address=address: "lladdr" in box.lab.run(f"ip neigh show {address} dev {device}"), seconds=1.0)
    assert flood.poll() is None, "the flood must outlast the question"
    flood.kill()


def test_a_saved_plan_is_applied_as_it_was_read_or_not_at_all(box: Box, tmp_path: Path) -> None:
    plan, caps, tree = (tmp_path / name for name in ("change", "caps.json", "tree.json"))
    assert box.shaper(f"plan {box.policy} -o {plan}")[0] == 2
    code, out, err = box.shaper(f"apply {plan}")
    assert code == 0, err
    assert "disruptive" in out
    applied = box.tc()
    box.write(video="5mbit")
    assert box.shaper(f"plan {box.policy} -o {plan}")[0] == 2
    voice = box.lab.run(f"tc class show dev {box.pair.a} classid 5a00:11").split()
    assert voice[2] == "5a00:11"
    box.lab.run(
        f"tc class change dev {box.pair.a} parent 5a00:1 classid 5a00:11 htb rate 1mbit ceil 7mbit quantum 1514"
    )
    changed = box.tc()
    code, _, err = box.shaper(f"apply {plan}")
    assert code == 75
    assert "class voice 5a00:11: ceil 2mbit -> 7mbit" in err
    assert box.tc() == changed != applied
    code, out, _ = box.shaper("doctor --json")
    caps.write_text(out)
    code, out, _ = box.shaper(f"plan {box.policy} --json")
    assert code == 2
    tree.write_text(out)
    code, away, err = box.shaper(
        f"plan {box.policy} --capabilities {caps} --against {tree} --json", prefix="unshare -n"
    )
    assert code == 2, err
    assert json.loads(away)["interfaces"][0]["steps"] == json.loads(out)["interfaces"][0]["steps"]
    assert box.shaper(f"plan {box.policy} --capabilities {caps}")[0] == 64
