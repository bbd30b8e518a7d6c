"""`scripts/lab qemu` from the outside: the same command line as `scripts/lab run`, another kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from outside import LAB, ROOT, end_in_the_middle, lab

pytestmark = pytest.mark.lab

LINES = 20_000
"""More than any pipe on the way holds."""


@pytest.fixture(scope="module", autouse=True)
def fetched() -> None:
    """The first use fetches the kernel, and says so."""
    assert lab("qemu", "--", "true").returncode == 0


def test_output_errors_and_exit_code_come_out_apart() -> None:
    done = lab("qemu", "--", "sh", "-c", "echo said; echo complained >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "said\n", "complained\n")


def test_arguments_arrive_as_they_were_given() -> None:
    given = ["", "two words", "'quoted'", '"$HOME"', "a\nline", "*"]
    done = lab("qemu", "--", sys.executable, "-c", "import sys; print(sys.argv[1:])", *given)
    assert (done.returncode, done.stdout) == (0, f"{given}\n")


def test_the_virtual_environment_is_the_hosts_and_the_kernel_is_debians() -> None:
    script = "import os, shaper; print(os.uname().release, os.environ['LAB_KERNEL'], shaper.__file__)"
    done = lab("qemu", "--", sys.executable, "-c", script)
    release, tier, file = done.stdout.split()
    assert (done.returncode, tier, file) == (0, "qemu", str(ROOT / "shaper" / "__init__.py"))
    assert release.startswith("6.12.")
    assert release.endswith("-cloud-amd64")


def test_what_is_written_is_gone_but_for_the_results(tmp_path: Path) -> None:
    out = tmp_path / "results"
    script = f"echo 1 >{tmp_path}/inside && cat {tmp_path}/inside && echo 2 >$LAB_OUT/kept"
    done = lab("qemu", "--out", str(out), "--memory", "512M", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert list(tmp_path.iterdir()) == [out]
    assert {file.name: file.read_text() for file in out.iterdir()} == {"kept": "2\n"}


def test_there_is_no_network_card() -> None:
    done = lab("qemu", "--", "ls", "/sys/class/net")
    assert (done.returncode, done.stdout, done.stderr) == (0, "lo\n", "")


def test_a_slow_reader_gets_it_all() -> None:
    reading = subprocess.Popen(
        ["bash", "-c", f"'{LAB}' qemu -- seq {LINES} | (sleep 15; cat)"], stdout=subprocess.PIPE, text=True
    )
    said, _ = reading.communicate(timeout=300)
    assert said == "".join(f"{number}\n" for number in range(1, LINES + 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_nothing_left(tmp_path: Path, number: signal.Signals) -> None:
    end_in_the_middle("qemu", "qemu-system-x86_64", tmp_path, number)


def test_where_the_script_ignores_a_signal_the_machine_does_too() -> None:
    running = subprocess.Popen(
        ["bash", "-c", f"trap '' INT; exec '{LAB}' qemu -- sh -c 'echo ready; sleep 2; echo done; exit 7'"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert running.stdout is not None
    with running.stdout as said:
        assert said.readline() == b"ready\n"
        os.killpg(running.pid, signal.SIGINT)
        assert said.read() == b"done\n"
    assert running.wait(timeout=60) == 7


@pytest.mark.parametrize(
    "arguments",
    [
        ("qemu",),
        ("qemu", "--"),
        ("qemu", "true"),
        ("qemu", "--out"),
        ("qemu", "--memory", "much", "--", "true"),
        ("qemu", "--virtual-time", "--", "true"),
        ("qemu", "--seed", "1", "--", "true"),
    ],
)
def test_other_arguments_are_usage_errors(arguments: tuple[str, ...]) -> None:
    done = lab(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr


def test_another_processor_is_told_so(tmp_path: Path) -> None:
    uname = tmp_path / "uname"
    uname.write_text("#!/bin/sh\necho aarch64\n")
    uname.chmod(0o755)
    done = lab("qemu", "--", "true", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (69, "")
    assert "x86_64 only, this is aarch64" in done.stderr


def test_a_plain_user_is_told_to_take_the_other() -> None:
    if os.geteuid():
        pytest.skip("missing capability: root, to become a plain user")
    done = subprocess.run(
        [LAB, "qemu", "--", "true"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        user=65534,
        group=65534,
        extra_groups=[],
    )
    assert (done.returncode, done.stdout) == (77, "")
    assert "scripts/lab run" in done.stderr


def test_a_kernel_that_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    for name in ("apt-cache", "apt-get"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = lab("qemu", "--", "true", PATH=path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout) == (69, "")
    assert "linux-image-6.12" in done.stderr
    assert [file.name for file in (tmp_path / "cache" / "sla-shaper").iterdir()] == [".lock-cloud"]
