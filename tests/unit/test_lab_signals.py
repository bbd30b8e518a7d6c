"""Signals as exceptions, and children that are ended with their groups."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from shaper.lab.processes import Processes, is_alive
from shaper.lab.signals import Interrupted, deferred, interruptible


def test_a_signal_is_an_exception_once_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # while cleaning up: nothing
    assert caught.value.exit == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_deferred_signal_comes_after_the_step() -> None:
    steps = []
    with interruptible(), pytest.raises(Interrupted), deferred():
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("inner")
        steps.append("outer")
    assert steps == ["inner", "outer"]


def test_a_child_that_ignores_term_is_killed_with_its_own_children() -> None:
    processes = Processes()
    code = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
    )
    child = processes.start([sys.executable, "-c", code], stdout=-1)
    assert child.stdout is not None
    with child.stdout as pipe:
        grandchild = int(pipe.readline())
    processes.stop(child, grace=0.05)
    assert child.returncode == -signal.SIGKILL
    limit = time.monotonic() + 10
    while is_alive(grandchild):  # its killing is done, its dying is the kernel's
        assert time.monotonic() < limit
