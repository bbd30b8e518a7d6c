"""A device in a named network namespace, shaped from another one: every command, the capture, and what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shaper.run.state import namespace_key

pytestmark = pytest.mark.kernel

SHAPER = f"{Path(sys.executable).parent / 'shaper'}"
POLICY = """\
version: 1
interfaces:
  wan: {{device: {device}, netns: {netns}, bandwidth: {{egress: 20mbit, ingress: 50mbit}}, policy: office}}
policies:
  office:
    classes:
      voice: {{tier: special, guarantee: 1mbit, limit: 2mbit, match: [{{dscp: ef}}], sla: {{delay-p99: 20ms}}}}
      rest: {{guarantee: 12mbit, adapt: {{min: 2mbit}}, default: true}}
"""


class Outside:
    """The command in the peer's namespace, and the device in the lab's."""

    def __init__(self, lab: Any, folder: Path) -> None:
        self.lab = lab
        self.pair = lab.link_pair()
        self.spot = f"{lab.name}/{self.pair.a}"
        self.policy, self.state = folder / "policy.yaml", folder / "state"
        self.write(lab.name)

    def write(self, netns: str, limit: str = "2mbit") -> None:
        text = POLICY.format(device=self.pair.a, netns=netns)
        self.policy.write_text(text.replace("limit: 2mbit", f"limit: {limit}"))

    def argv(self, command: str, *, inside: bool = False) -> list[str]:
        name = self.lab.name if inside else self.lab.peer
        state = "" if command.startswith("explain") else f"--state {self.state}"
        return f"ip netns exec {name} {SHAPER} {command} {state}".split()

    def shaper(self, command: str, *, code: int = 0, inside: bool = False) -> str:
        argv = self.argv(command, inside=inside)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def roots(self) -> list[str]:
        """The kinds of the qdiscs in the lab's namespace that somebody set."""
        shown = self.lab.run("tc qdisc show").splitlines()
        return sorted(line.split()[1] for line in shown if " 5a00: " in line or "clsact" in line)

    def devices(self) -> str:
        return self.lab.run("ip -br link")


@pytest.fixture
def outside(netns: Any, tmp_path: Path) -> Outside:
    return Outside(netns, tmp_path)


def test_every_command_from_outside(outside: Outside) -> None:
    before = outside.devices()
    assert f"{outside.spot}: " in outside.shaper(f"plan {outside.policy}", code=2)
    assert outside.roots() == []
    outside.shaper(f"apply {outside.policy} -m first")
    assert outside.roots() == ["clsact", "htb", "htb"]
    # The record belongs to the namespace, by whatever way it was reached.
    assert (outside.state / namespace_key(outside.lab.name) / outside.pair.a / "record.json").exists()
    assert "nothing to do" in outside.shaper(f"plan {outside.policy}", inside=True)
    outside.write(outside.lab.name, limit="3mbit")
    outside.shaper(f"apply {outside.policy} --confirm 60s -m second")
    assert "rolled back" in outside.shaper("rollback")
    outside.lab.run(f"tc class change dev {outside.pair.a} classid 5a00:11 htb rate 1mbit ceil 5mbit")
    status = json.loads(outside.shaper("status --json", code=4))["interfaces"]
    assert [one["device"] for one in status] == [outside.spot] * 2
    assert any("ceil is 5mbit, ours is 2mbit" in line for line in status[0]["drift"])
    assert f"on {outside.spot}" in outside.shaper(f"explain packet {outside.policy} --dscp ef")
    outside.shaper("clear")
    assert outside.roots() == []
    assert outside.devices() == before


def test_a_run_measures_from_outside_and_answers_inside(outside: Outside) -> None:
    argv = [*outside.argv(f"run {outside.policy} --json --no-metrics")]
    run = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        assert json.loads(run.stdout.readline())["event"] == "ready"
        ping = f"ping -c 20 -i 0.02 -Q 184 {outside.pair.b_v4}"
        assert " 0% packet loss" in outside.lab.run(ping)
        seconds = [json.loads(run.stdout.readline()) for _ in range(6)]
        assert any(cls["delay_p50_s"] is not None for one in seconds for cls in one["classes"].values())
        status = json.loads(outside.shaper("status --json", inside=True))["interfaces"]  # the same socket
        assert {one["device"] for one in status} == {outside.spot}
        outside.write(outside.lab.name, limit="3mbit")
        assert "the running shaper took it" in outside.shaper(f"apply {outside.policy}")
    finally:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=30)
    assert run.returncode == 0
    outside.shaper(f"clear {outside.policy}")
    assert outside.roots() == []


def test_a_missing_namespace_names_those_that_are_there(outside: Outside) -> None:
    outside.write("nowhere")
    said = outside.shaper(f"apply {outside.policy}", code=69)
    assert f"{outside.policy.name}:3:" in said
    assert "there is no network namespace 'nowhere'" in said
    assert outside.lab.name in said
    assert "nowhere" in outside.shaper("clear --device nowhere/eth0", code=69)


def test_without_the_right_to_enter_it_says_so(outside: Outside) -> None:
    if os.geteuid() != 0:
        pytest.skip("missing capability: root, to give up CAP_SYS_ADMIN")
    argv = [*f"setpriv --bounding-set=-sys_admin {SHAPER} plan {outside.policy} --state {outside.state}".split()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 77, done.stderr
    assert "CAP_SYS_ADMIN" in done.stderr
