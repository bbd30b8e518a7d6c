"""Child processes that never outlive us: each in a process group of its own, ended by id."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from shaper.errors import ShaperError
from shaper.lab.signals import deferred

_POLL = 0.01
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended, leaving it unreaped so that its group's id cannot be given to anybody else yet."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does between fork and exec: it asks to be killed with its parent, unless that is gone already."""

    def ask() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask


class Processes:
    """Starts children and ends every one of them with its whole group, TERM first and then KILL.

    The kernel kills a child when we die without a word (PR_SET_PDEATHSIG). Start them from the main thread: the kernel
    watches the thread that forked, not the process.
    """

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        argv: Sequence[str],
        *,
        namespace: str | None = None,
        stdout: int | IO[Any] = subprocess.DEVNULL,
        stderr: int | IO[Any] = subprocess.DEVNULL,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Runs `argv`, in a network namespace where one is named. Raises ShaperError when it cannot be started."""
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        try:
            with deferred():
                process = subprocess.Popen(
                    [*inside, *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    process_group=0,
                    preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - one system call, and its library is loaded
                    env={**os.environ, **environment} if environment else None,
                )
                self._running.append(process)
        except OSError as error:
            raise ShaperError(f"cannot start {argv[0]}: {error}", hint="it must be in PATH, and so must ip") from error
        return process

    def stop(self, *processes: subprocess.Popen[bytes], grace: float = 3.0) -> None:
        """Ends these: TERM to all, then `grace` seconds, then KILL to every group, whose first process may be gone."""
        with deferred():
            for process in processes:
                _signal_group(process, signal.SIGTERM)
            end = time.monotonic() + grace
            while time.monotonic() < end and not all(_has_exited(process) for process in processes):
                time.sleep(_POLL)
            for process in processes:
                _signal_group(process, signal.SIGKILL)
            for process in processes:
                process.wait()
                if process in self._running:
                    self._running.remove(process)

    def close(self) -> None:
        """Ends whatever still runs."""
        self.stop(*self._running)


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs, whoever's it is; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
