"""Changes that wait for their confirmation, as people use them on a real kernel; and SIGKILL at random moments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import SHAPER, Box, end, send, until

from shaper.run.state import DeviceState

pytestmark = pytest.mark.kernel


class Change(Box):
    """A box whose first policy stands and whose second waits in the file."""

    def __init__(self, lab: Any, folder: Path) -> None:
        super().__init__(lab, folder)
        assert self.shaper(f"apply {self.policy} -m first")[0] == 0
        self.before, self.shaped = self.tc(), self.shaping()
        self.write(video="5mbit")

    def device_folder(self) -> Path:
        namespace = next(path.name for path in self.state.iterdir() if path.is_dir())
        return DeviceState(self.state, self.pair.a, namespace=namespace).folder

    def confirming(self, time: str = "3s", more: str = "") -> str:
        """Applies and gives the id."""
        code, out, err = self.shaper(f"apply {self.policy} --confirm {time} --json {more}")
        assert code == 0, (out, err)
        ident: str = json.loads(out)["confirmation"]["id"]
        return ident

    def changes(self) -> list[tuple[str, str]]:
        code, out, _ = self.shaper("history --json")
        assert code == 0
        return [(one["what"], one["result"]) for one in json.loads(out)["changes"]]

    def watchdogs(self) -> list[int]:
        """The watchdogs of this state folder, by /proc."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"watchdog" in words and str(self.state).encode() in words:
                found.append(int(path.parent.name))
        return found


@pytest.fixture
def change(netns: Any, tmp_path: Path) -> Iterator[Change]:
    made = Change(netns, tmp_path)
    yield made
    for pid in made.watchdogs():
        os.kill(pid, signal.SIGKILL)


def test_nobody_confirms_and_it_goes_back_by_itself(change: Change) -> None:
    change.confirming("3s")
    until(lambda: change.tc() == change.before, seconds=30)
    until(lambda: not change.watchdogs())
    assert change.changes() == [("apply", "done"), ("apply", "rolled back by 3"), ("expiry", "done")]


def test_confirmed_from_another_session_it_stays(change: Change) -> None:
    ident = change.confirming("60s", "-m ticket")
    after = change.tc()
    assert after != change.before
    code, _, err = change.shaper(f"apply {change.policy}")
    assert code == 75
    assert f"shaper confirm {ident}" in err
    assert change.shaper("clear")[0] == 75
    code, out, _ = change.shaper("status")
    assert f"shaper confirm {ident}" in out
    code, out, _ = change.shaper(f"extend {ident} 60s")
    assert code == 0
    assert change.shaper("confirm nobody")[0] == 69
    assert change.shaper(f"confirm {ident}")[0] == 0
    until(lambda: not change.watchdogs())
    assert change.tc() == after
    assert change.shaper("confirm")[0] == 69
    assert ("apply", "confirmed by 4") in change.changes()
    code, out, _ = change.shaper("history show 2")
    assert "ticket" in out
    assert "+      video: " in out
    assert change.shaper("rollback")[0] == 0
    assert change.tc() == change.before


def test_the_terminal_is_lost_and_the_command_killed(change: Change) -> None:
    """The command runs in a session of its own whose every process is then killed, as a lost terminal does it."""
    command = f"ip netns exec {change.lab.name} {SHAPER} apply {change.policy} --confirm 6s --state {change.state}"
    script = f"{command}; kill -HUP 0; kill -KILL $$"
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.DEVNULL)
    process.wait(timeout=60)
    assert change.tc() != change.before
    assert len(change.watchdogs()) == 1
    until(lambda: change.tc() == change.before, seconds=30)


@pytest.mark.parametrize("when", ["waiting", "pending"])
def test_the_command_is_killed_once_it_has_begun(change: Change, when: str) -> None:
    """SIGKILL as soon as the file stands: the watchdog was there before it, and puts everything right."""
    name = {"waiting": "confirm.json", "pending": "pending.json"}[when]
    path = change.device_folder() / name
    process = change.lab.start(f"{SHAPER} apply {change.policy} --confirm 3s --state {change.state}")
    until(lambda: path.exists() or process.poll() is not None, seconds=30)
    process.kill()
    process.wait()
    until(lambda: not change.watchdogs(), seconds=30)
    assert change.shaper("rollback --unconfirmed")[0] == 0
    assert change.tc() == change.before


def test_the_watchdog_is_killed_and_the_next_command_rolls_back(change: Change) -> None:
    change.confirming("3s")
    (pid,) = change.watchdogs()
    os.kill(pid, signal.SIGKILL)
    until(lambda: "not rolled back yet" in change.shaper("status")[1], seconds=30)
    assert "watchdog is gone" in change.shaper("status")[1]
    assert change.tc() != change.before
    code, out, _ = change.shaper("rollback --unconfirmed")
    assert code == 0
    assert "rolled back to the policy of change 1" in out
    assert change.tc() == change.before


def test_after_another_boot_the_confirmed_policy_comes_up(change: Change) -> None:
    """A boot is told by its id, so another id in the files is another boot; the queues go with the device."""
    change.confirming("300s")
    for pid in change.watchdogs():
        os.kill(pid, signal.SIGKILL)
    folder = change.device_folder()
    for name in ("confirm.json", "record.json"):
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**data, "boot": "another"}))
    change.lab.run(f"tc qdisc del dev {change.pair.a} root")
    change.lab.run(f"tc qdisc del dev {change.pair.a} clsact")
    change.lab.run(f"ip link del shp-{change.pair.a}")
    process = change.start("--no-metrics")
    status = json.loads(change.shaper("status --json")[1])["interfaces"][0]
    end(process)
    assert any("never confirmed" in alarm for alarm in status["alarms"])
    assert sorted(change.shaping().splitlines()) == sorted(change.shaped.splitlines())


def test_a_running_shaper_freezes_and_goes_back(change: Change) -> None:
    change.write()
    process = change.start("--no-metrics", "--dry-run")  # so that only changes move anything
    change.write(video="5mbit")
    before = change.tc()
    change.confirming("4s")
    status = json.loads(change.shaper("status --json")[1])["interfaces"][0]
    if status["confirmation"] is not None:  # a slow machine has used it up
        assert "waits for its confirmation" in status["controller"]["held"]
    until(lambda: change.tc() == before, seconds=30)
    ident = change.confirming("60s")
    assert change.shaper("confirm")[0] == 0
    after = change.tc()
    assert after != before
    assert change.shaper("rollback")[0] == 0
    assert change.tc() == before
    assert change.shaper(f"confirm {ident}")[0] == 69
    code, _, err = end(process)
    assert code == 0, err


def test_without_a_run_nothing_measures(change: Change) -> None:
    code, _, err = change.shaper(f"apply {change.policy} --confirm-if-sla 5s")
    assert code == 69
    assert "start `shaper run`" in err
    assert change.tc() == change.before
    assert not change.watchdogs()


@pytest.mark.slow
@pytest.mark.parametrize("good", [True, False], ids=["good", "worse"])
def test_the_measurement_decides(change: Change, good: bool) -> None:
    """Video at 4 of 20 Mbit/s with bulk beside it; the worse change takes its guarantee and caps it below its load."""
    change.write()
    process = change.start("--no-metrics")
    flows = [send(change, rate=rate, seconds=40, dscp=dscp) for rate, dscp in ((4e5, 46), (4e6, 34), (2e6, 0))]
    for _ in range(8):
        process.stdout.readline()
    change.write(video="5mbit")
    if not good:
        text = change.policy.read_text().replace("guarantee: 5mbit", "guarantee: 1mbit, limit: 3mbit")
        change.policy.write_text(text)
    before = change.tc()
    code, out, err = change.shaper(f"apply {change.policy} --confirm-if-sla 6s")
    assert code == 0, err
    until(lambda: change.shaper("status --json")[1].find('"confirmation": null') > 0, seconds=30)
    code, out, _ = change.shaper("history --json")
    last = json.loads(out)["changes"][-1]
    assert last["what"] == ("confirm" if good else "expiry"), last
    assert ("got worse" in last["why"]) == good
    if not good:
        assert "video: its" in last["why"]
        assert {line for line in before.splitlines() if "5a00:12" in line and "class htb" in line}
    for flow in flows:
        flow.kill()
    assert end(process)[0] == 0


def test_killed_at_random_it_is_before_or_after(netns: Any, tmp_path: Path) -> None:
    ours, theirs = netns.link_pair().a, netns.link_pair().a
    netns.run(f"tc qdisc add dev {theirs} root handle 1: tbf rate 5mbit burst 10k latency 50ms")
    script = Path(__file__).with_name("kill_randomly.py")
    out = netns.run(f"{sys.executable} {script} {ours} {theirs} {tmp_path} 90 7", timeout=300)
    seen = json.loads(out.splitlines()[-1])
    assert seen["wrong"] == []
    assert seen["rounds"] == 90
    assert seen["mid-apply"] >= 1, seen
    assert seen["waiting"] >= 3, seen
    assert seen["old"] >= 3, seen
    assert seen["new"] >= 3, seen
