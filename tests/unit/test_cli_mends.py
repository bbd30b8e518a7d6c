"""Small things that a person meets first: a wrong option, a closed folder, Ctrl-C too early, a loopback device."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from change_samples import NEW, OLD, Desk
from test_run_directions import OUT, TEXT, World

from shaper.cli.plan import leaving_json, prepared_json
from shaper.errors import Exit
from shaper.history.failures import HistoryError, translated
from shaper.policy import parse_policy
from shaper.run import confirm
from shaper.run.confirm import KernelWay
from shaper.run.look import look
from shaper.run.prepare import prepare
from shaper.run.snapshot import SnapshotKernel, read_devices
from shaper.run.state import DeviceState, StateError


def shaper(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shaper", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background has none
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bogus", "--json"], "bogus"),
        (["plan", "--json"], "POLICY"),
        (["status", "--json", "--state", ""], "no folder"),
        (["clear", "-i", "wan", "--json"], "--interface names an interface of a POLICY"),
    ],
)
def test_a_misused_command_answers_in_json_when_asked_to(words: list[str], said: str) -> None:
    done = shaper(*words)
    assert done.returncode == 64
    answer = json.loads(done.stdout)
    assert answer["exit"] == 64
    assert said in answer["problems"][0]["message"]
    assert done.stderr == ""
    without = shaper(*[word for word in words if word != "--json"])
    assert without.returncode == 64
    assert without.stdout == ""
    assert said in without.stderr


def test_ctrl_c_while_it_is_imported_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = shaper("--version", PYTHONPATH=f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""


def denied(*_: Any, **__: Any) -> Any:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_state_folder_that_is_closed_to_us_is_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads everything, so the system's answer is put in its place."""
    state = DeviceState(tmp_path, "eth1")
    monkeypatch.setattr(Path, "lstat", denied)
    monkeypatch.setattr("shaper.run.state.read_regular", denied)
    for look_there in (lambda: state.has("record.json"), state.record):
        with pytest.raises(StateError) as caught:
            look_there()
        assert caught.value.exit is Exit.NOT_PERMITTED
        assert "--state" in caught.value.hint
    with pytest.raises(HistoryError) as failed, translated(tmp_path, "read"):
        denied()
    assert failed.value.exit is Exit.NOT_PERMITTED


def test_damage_is_no_lack_of_permission(tmp_path: Path) -> None:
    state = DeviceState(tmp_path, "eth1")
    state.folder.mkdir(parents=True)
    (state.folder / "record.json").write_text("{")
    with pytest.raises(StateError) as caught:
        state.record()
    assert caught.value.exit is Exit.FAILED


def test_the_loopback_device_is_warned_of(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.kernel.add_device("lo")
    policy = parse_policy(OLD.replace("eth1", "lo"), source="office.yaml")
    planned = prepare(desk.kernel, DeviceState(tmp_path, "lo"), policy, policy.interfaces[0])
    assert [note for note in planned.program.notes if note.startswith("warning: lo carries")]


def test_a_rollback_says_that_what_was_cleared_is_in_force_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.apply(OLD)
    desk.apply(NEW)
    back = lambda: confirm.rollback(  # noqa: E731
        desk.kernel, desk.state, None, now=desk.now, order=desk.order(), way=KernelWay(desk.kernel, desk.state)
    )
    assert back() == "rolled back to the policy of change 1"
    desk.clear()
    assert back() == (
        "rolled back to the policy of change 3: nothing of ours was there any more, and it is in force again"
    )


@pytest.mark.parametrize("ifb", ["shp-eth1", "shi-eth1"])
def test_an_ifb_that_somebody_set_down_is_named_and_raised_by_the_next_apply(tmp_path: Path, ifb: str) -> None:
    world = World(tmp_path)
    world.apply()
    held = world.held()
    world.kernel.set_link(ifb, up=False)
    drift = [words for side in world.sides() for words in look(world.kernel, side, now=0.0).drift]
    assert drift == [f"device {ifb} (ifb): link is down, ours is up"]
    assert world.apply() == 1
    assert world.held() == held


def test_a_plan_against_a_snapshot_shows_the_directions_that_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.apply()
    seen = tmp_path / "tree.json"
    policy = parse_policy(TEXT, source="office.yaml")
    plans = [
        prepared_json(prepare(world.kernel, side, policy, interface), 0.0)
        for side, interface in zip(world.sides(), policy.interfaces, strict=True)
    ]
    seen.write_text(json.dumps({"interfaces": plans}))
    there = SnapshotKernel(world.kernel.capabilities(), read_devices(seen))
    ((side, plan),) = there.leaving(parse_policy(OUT, source="office.yaml").interfaces)
    answer = leaving_json(side, plan)
    assert (answer["device"], answer["direction"]) == ("eth1", "ingress")
    assert answer["notes"] == ["the policy no longer shapes the ingress of eth1"]
    world.kernel.sent.clear()
    world.apply(OUT)
    assert tuple(world.kernel.sent) == plan.steps, "an apply there does the same"
    assert there.leaving(policy.interfaces) == []
