"""`scripts/lab` as its callers see it: how the tests of both its machines run it, and end it in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAB = ROOT / "scripts" / "lab"


def lab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAB, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def end_in_the_middle(verb: str, program: str, folder: Path, number: signal.Signals) -> None:
    """Sends the signal as a terminal does while a command runs, and looks for what is left: processes and files.

    `program` is part of the command line of the machine, `folder` an empty one for its temporary files.
    """
    mark = f"sleep {3600 + os.getpid() / 1e6}"
    running = subprocess.Popen(
        [LAB, verb, "--", "sh", "-c", f"echo ready; {mark}"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 # which nohup or a background leaves ignored
    )
    assert running.stdout is not None
    try:
        with running.stdout as said:
            assert said.readline() == b"ready\n"
            machines = descendants(running.pid)
            assert any(program in line for line in machines.values())
            os.killpg(running.pid, number)
            assert running.wait(timeout=30) == 128 + number
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    limit = time.monotonic() + 10  # the kernel ends a machine's processes after its first one has gone
    while left := {pid for pid, line in machines.items() if command_line(pid) == line}:
        assert time.monotonic() < limit, [machines[pid] for pid in left]
        time.sleep(0.01)
    assert list(folder.iterdir()) == []


def descendants(pid: int) -> dict[int, str]:
    """The command lines of all processes below one, by their ids."""
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                found[child] = command_line(child)
                waiting.append(child)
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
