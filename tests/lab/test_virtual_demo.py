"""`scripts/demo --virtual-time`: the same bytes from another folder, on a busy machine, beside stale files; physics."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import marshal
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shaper.lab.scenario import lay_out, read_scenario
from shaper.lab.stage import folder_prefix
from shaper.policy import read_policy

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "policies" / "demo.yaml"
SECONDS = 12


def begin(checkout: Path, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [checkout / "scripts" / "demo", "--virtual-time", "--seconds", str(SECONDS), "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=checkout / "tests",
        env={**os.environ, **environment},
    )


def end(demo: subprocess.Popen[bytes]) -> bytes:
    said, complained = demo.communicate(timeout=560)
    assert demo.returncode == 0, complained.decode()
    return said


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """A copy of the checkout elsewhere, ready to run in an environment of its own, with the packages of this one."""
    with tempfile.TemporaryDirectory(prefix="a copy of the checkout ") as name:
        copy = Path(name) / "further" / "down" / "elsewhere"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", copy / ".venv"], check=True, timeout=60)
        (site,) = (copy / ".venv").glob("lib/python*/site-packages")
        subprocess.run(
            ["cp", "-a", "--no-target-directory", sysconfig.get_path("purelib"), site], check=True, timeout=120
        )
        script = '. "$1/scripts/lib.sh"; echo "$(stamp_of) run" >"$1/.venv/.installed"'
        subprocess.run(["bash", "-euc", script, "bash", copy], check=True, timeout=60)
        yield copy


def make_stale(source: Path) -> None:
    """Leaves a compiled file beside the source that says it is of this source, and is not."""
    stat = source.stat()
    compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    compiled.parent.mkdir(exist_ok=True)
    numbers = (0, int(stat.st_mtime), stat.st_size)
    header = importlib.util.MAGIC_NUMBER + b"".join(number.to_bytes(4, "little") for number in numbers)
    compiled.write_bytes(header + marshal.dumps(compile("raise SystemExit('stale')", str(source), "exec")))


@contextlib.contextmanager
def left_behind() -> Iterator[None]:
    """What a demo of this machine that was killed left, which the next one there would sweep."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    with tempfile.TemporaryDirectory(prefix=folder_prefix(gone.pid)) as folder:
        (Path(folder) / "receiver").touch()
        yield


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Something on every core that never rests."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, bytes]]:
    """What the demo printed: here, from a copy on a busy machine in another environment, and with another seed."""
    here, other = begin(ROOT), begin(ROOT, "--seed", "2")
    said = {"here": end(here), "other seed": end(other)}
    with copied() as copy, busy(), left_behind():
        for name in ("shaper/lab/criteria.py", "shaper/__init__.py", "collectors/netlink.py"):
            make_stale(copy / name)
        strange = {"TZ": "Asia/Tokyo", "COLUMNS": "40", "PYTHONHASHSEED": "7", "LC_ALL": "C", "LAB_KERNEL": "full"}
        said["copy"] = end(begin(copy, **strange))
    yield said


def kernel_after_imports(checkout: Path) -> str:
    """What the lab's kernel in virtual time says of its memory and its time when the demo has been imported."""
    asked = """import shaper.lab.demo, pathlib, time
print(time.time_ns(), *(pathlib.Path("/proc", name).read_text() for name in ("meminfo", "vmstat", "stat")))"""
    command = ("/run/checkout/scripts/uml/checkout", "-c", asked)
    lab = (checkout / "scripts" / "lab", "run", "--virtual-time", "--", *command)
    return subprocess.run(lab, cwd="/", check=True, capture_output=True, text=True, timeout=120).stdout


def test_a_machine_in_virtual_time_cannot_tell_where_the_checkout_is() -> None:
    with copied() as copy:
        (copy / "shaper" / "lab" / "__pycache__").mkdir()
        (copy / "notes").write_text("of mine")
        assert kernel_after_imports(copy).splitlines() == kernel_after_imports(ROOT).splitlines()


@pytest.fixture(params=["here", "other seed"])
def result(request: pytest.FixtureRequest, runs: dict[str, bytes]) -> dict[str, Any]:
    found = json.loads(runs[request.param])
    assert isinstance(found, dict)
    return found


def classes(result: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, modes in result["classes"].items():
        for mode, one in modes.items():
            yield path, mode, one


def differing(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """What stands in both and is not the same, and where."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name in one:
            yield from differing(one[name], other[name], f"{path}/{name}")
    elif one != other:
        yield f"{path}: {one!r} and {other!r}"


def test_the_same_bytes_wherever_and_whenever_it_runs(runs: dict[str, bytes]) -> None:
    differences = list(differing(json.loads(runs["here"]), json.loads(runs["copy"])))
    assert not differences, "\n".join(differences)
    assert runs["copy"] == runs["here"]


def test_another_seed_is_another_sample(runs: dict[str, bytes]) -> None:
    here, other = json.loads(runs["here"]), json.loads(runs["other seed"])
    assert here["fingerprint"] == other["fingerprint"]
    static = [[one for _, mode, one in classes(run) if mode == "static"] for run in (here, other)]
    assert static[0] != static[1]  # not in each figure: a percentile is a bucket's


def test_every_drop_that_the_kernel_counts_is_seen_in_the_packets(result: dict[str, Any]) -> None:
    assert result["drops"]["measured"] == result["drops"]["kernel"] > 1000


def test_nothing_is_faster_than_the_link_and_the_link_is_used(result: dict[str, Any]) -> None:
    (interface,) = read_policy(POLICY).interfaces
    for mode, used in result["utilisation"].items():
        sent = sum(one["throughput_bit_s"] for _, run, one in classes(result) if run == mode)
        assert 0.95 < used <= 1
        assert 0.95 * interface.bandwidth < sent <= interface.bandwidth


def test_delays_are_none_before_the_packet_and_none_beyond_the_longest_queue(result: dict[str, Any]) -> None:
    for path, mode, one in classes(result):
        measured = [one["delay_p50_s"], one["delay_p99_s"], one["receiver"]["delay_p99_s"]]
        assert all(0 <= delay < 1 for delay in measured), (path, mode)
        assert one["delay_p50_s"] <= one["delay_p99_s"]


def test_what_the_generator_sent_came_out_or_was_lost(result: dict[str, Any]) -> None:
    """Voice and video are UDP alone: their samples and their losses are the schedule, to the packet."""
    traffic = lay_out(read_scenario(ROOT / "policies" / "scenarios" / "demo.yaml"), seconds=SECONDS)
    for path in ("voice", "video"):
        (flow,) = (flow for flow in traffic.udp if traffic.classes[flow.flow] == path)
        ends = (*(step.at for step in flow.steps[1:]), flow.until)
        sent = sum(step.rate * (until - step.at) / 8 / step.size for step, until in zip(flow.steps, ends, strict=True))
        for one in result["classes"][path].values():
            assert one["samples"] / (1 - one["loss_ratio"]) == pytest.approx(sent, abs=4)
            assert one["loss_ratio"] == pytest.approx(one["receiver"]["loss_ratio"], abs=0.001)


def test_the_controlled_run_holds_every_sla(result: dict[str, Any]) -> None:
    (interface,) = read_policy(POLICY).interfaces
    video = next(leaf for leaf in interface.leaves() if leaf.path == "video")
    (target,) = video.sla.delays
    assert result["classes"]["video"]["controlled"]["receiver"]["delay_p99_s"] <= target.seconds
    assert {path: modes["controlled"]["violation_seconds"] for path, modes in result["classes"].items()} == {
        "voice": 0,
        "video": 0,
        "business": 0,
        "bulk": 0,
    }
    assert result["classes"]["video"]["static"]["violation_seconds"] > SECONDS / 2
