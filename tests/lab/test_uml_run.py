"""`scripts/lab run` from the outside: what a command inside says and leaves behind comes out, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from outside import ROOT, end_in_the_middle, lab

pytestmark = pytest.mark.lab


def shell(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return lab("run", *options, "--", "sh", "-c", script)


@pytest.mark.parametrize("option", [(), ("--virtual-time",)])
def test_output_errors_and_exit_code_come_out_apart(option: tuple[str, ...]) -> None:
    done = shell("echo said; echo complained >&2; exit 7", *option)
    assert (done.returncode, done.stdout, done.stderr) == (7, "said\n", "complained\n")


def test_arguments_arrive_as_they_were_given() -> None:
    given = ["", "two words", "'quoted'", '"$HOME"', "a\nline", "*"]
    done = lab("run", "--", sys.executable, "-c", "import sys; print(sys.argv[1:])", *given)
    assert (done.returncode, done.stdout) == (0, f"{given}\n")


def test_the_virtual_environment_is_the_hosts_and_the_kernel_is_not() -> None:
    done = lab("run", "--", sys.executable, "-c", "import os, shaper; print(os.uname().release, shaper.__file__)")
    release, file = done.stdout.split()
    assert (done.returncode, file) == (0, str(ROOT / "shaper" / "__init__.py"))
    assert release.endswith("-shaper")
    assert release != os.uname().release


def test_what_is_written_is_gone_but_for_the_results(tmp_path: Path) -> None:
    out = tmp_path / "results"
    done = shell(f"echo 1 >{tmp_path}/inside && cat {tmp_path}/inside && echo 2 >$LAB_OUT/kept", "--out", str(out))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert list(tmp_path.iterdir()) == [out]
    assert {file.name: file.read_text() for file in out.iterdir()} == {"kept": "2\n"}


def test_a_day_of_virtual_time_passes_at_once() -> None:
    began = time.monotonic()
    done = shell("date +%s; sleep 86400; date +%s", "--virtual-time")
    first, last = map(int, done.stdout.split())
    assert last - first in (86400, 86401)
    assert time.monotonic() - began < 120


def test_the_seed_decides_the_randomness() -> None:
    first, again, other = (shell("od -An -N8 -tx8 /dev/urandom", "--virtual-time", "--seed", s).stdout for s in "112")
    assert first == again != other


def test_the_machine_has_the_same_memory_each_time() -> None:
    """At the host's random addresses it had some megabytes more or less, and the kernel other sizes of its buffers."""
    assert len({shell("cat /proc/meminfo /proc/sys/net/ipv4/tcp_mem", "--virtual-time").stdout for _ in range(4)}) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_nothing_left(tmp_path: Path, number: signal.Signals) -> None:
    end_in_the_middle("run", "/linux", tmp_path, number)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("runn",),
        ("run",),
        ("run", "--"),
        ("run", "true"),
        ("run", "--sed", "1", "--", "true"),
        ("run", "--seed", "x", "--", "true"),
        ("run", "--seed"),
        ("run", "--memory", "much", "--", "true"),
        ("kernel", "now"),
        ("check-repeatable", "twice"),
    ],
)
def test_other_arguments_are_usage_errors(arguments: tuple[str, ...]) -> None:
    done = lab(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr


def test_an_empty_cache_holds_no_kernel(tmp_path: Path) -> None:
    script = f'. {ROOT}/scripts/lib.sh; lab={ROOT}/scripts/uml; . "$lab/kernel.sh"; echo "<$(kernel_built)>"'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "<>\n", "")


def test_a_plain_user_may_run_it() -> None:
    """Who is not root has a kernel of their own, in which they are."""
    if os.geteuid():
        pytest.skip("missing capability: root, to become a plain user")
    with tempfile.TemporaryDirectory(prefix="shaper-lab-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        kernel = Path(lab("kernel").stdout.strip())
        shutil.copytree(kernel, folder / "sla-shaper" / kernel.name)
        done = subprocess.run(
            [folder / "scripts" / "lab", "run", "--", "sh", "-c", "id -u; ip netns add one && ip netns list"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "XDG_CACHE_HOME": name},
            user=65534,
            group=65534,
            extra_groups=[],
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\none\n", "")
