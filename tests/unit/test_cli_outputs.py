"""The command where its files and outputs are not what they should be: an exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

POLICY = next((Path(__file__).parents[2] / "policies").glob("*.yaml"))


def shaper(*arguments: str, stdout: int = subprocess.PIPE, **more: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "shaper", *arguments]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", **more}
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert b"Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(("name", "code"), [(str(POLICY), 1), ("nowhere.yaml", 65)])
def test_a_reader_that_has_gone(name: str, code: int) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        assert shaper("check", "--json", name, stdout=theirs).returncode == code
    finally:
        os.close(theirs)


def test_no_room_for_the_output_is_a_failure() -> None:
    with Path("/dev/full").open("wb") as full:
        assert shaper("check", "--json", str(POLICY), stdout=full.fileno()).returncode == 1


def test_what_is_no_policy_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path in (pipe, loop, tmp_path, Path("/dev/zero")):
        done = shaper("check", "--json", str(path))
        assert done.returncode == 65
        assert json.loads(done.stdout)["problems"][0]["kind"] == "unreadable"


def test_a_failing_run_is_one_line_of_json(tmp_path: Path) -> None:
    (line,) = shaper("run", str(tmp_path / "nowhere.yaml"), "--json").stdout.splitlines()
    assert json.loads(line)["exit"] == 65
