"""A running shaper under attack on a real kernel: the device, the tree, the clock, the state folder, the socket."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_kernel import Box, end, send, until

from shaper.model.observation import Rung
from shaper.model.status import InterfaceStatus
from shaper.policy import read_policy
from shaper.run.changes import Order
from shaper.run.drift import flapped
from shaper.run.interface import InterfaceRun
from shaper.run.settings import Settings
from shaper.run.state import DeviceState
from shaper.run.who import caller

pytestmark = pytest.mark.kernel


@pytest.fixture
def box(netns: Any, tmp_path: Path) -> Iterator[Box]:
    yield Box(netns, tmp_path)


def status(box: Box) -> dict[str, Any]:
    """The running shaper's status of the one interface; on a busy machine it may have to be asked again."""
    code = 75
    while code == 75:
        code, out, err = box.shaper("status --json")
    assert code in (0, 3, 4), err
    found: dict[str, Any] = json.loads(out)["interfaces"][0]
    assert found["running"]
    return found


def delays(box: Box, path: str) -> int:
    """How many packets of a class the present view of its delay rests on."""
    view = next(cls for cls in status(box)["classes"] if cls["path"] == path)["delay"]
    return view["count"] if view else 0


def alarmed(box: Box, word: str) -> bool:
    return any(word in alarm for alarm in status(box)["alarms"])


ROOT_GONE = "tc qdisc del dev {device} root"
CLASSIFIER_GONE = "tc filter del dev {device} parent 5a00: pref 10"
HOOK_GONE = "tc filter del dev {device} egress"
IFB_GONE = "ip link del shp-{device}"
CAPTURE = "--measure capture"
STAMPS = "--measure ebpf"


@pytest.mark.parametrize(
    ("command", "measure"),
    [(ROOT_GONE, ""), (HOOK_GONE, STAMPS), (HOOK_GONE, CAPTURE), (IFB_GONE, CAPTURE)],
    ids=["root", "stamp", "mirror", "ifb"],
)
def test_a_tree_that_somebody_removes_is_an_alarm_and_an_apply_mends_it(box: Box, command: str, measure: str) -> None:
    process = box.start(f"--no-metrics --drift report {measure}")
    box.lab.run(command.format(device=box.pair.a))
    until(lambda: alarmed(box, "somebody changed"))
    assert box.shaper(f"apply {box.policy}")[0] == 0
    until(lambda: not alarmed(box, "somebody changed"))
    code, _, err = end(process)
    assert code == 0, err


CEIL_CHANGED = "tc class change dev {device} classid {video} parent {top} htb rate 3mbit ceil 5mbit"
INSIDE_BOUNDS = "tc class change dev {device} classid {bulk} parent {top} htb rate 2500kbit ceil 19mbit"
CLASS_ADDED = "tc class add dev {device} classid 5a00:999 parent 5a00: htb rate 1mbit"
QUEUE_CHANGED = "tc qdisc replace dev {device} parent {video} handle 77: bfifo limit 3000b"
MENDED = {
    "root": (ROOT_GONE, "qdisc htb 5a00: at root is gone"),
    "classifier": (CLASSIFIER_GONE, "filter bpf at 5a00: preference 10 is gone"),
    "stamp": (HOOK_GONE, "filter bpf at egress preference 20"),
    "mirror": (HOOK_GONE, "filter bpf at egress preference 30"),
    "ifb": (IFB_GONE, "(ifb) is gone"),
    "ceil": (CEIL_CHANGED, "class video {video}: ceil is 5mbit, ours is 20mbit"),
    "inside-bounds": (INSIDE_BOUNDS, "class bulk {bulk}: rate is 2.5mbit, ours is "),
    "class": (CLASS_ADDED, "class 5a00:999 is not ours"),
    "queue": (QUEUE_CHANGED, "of class video {video}"),
}


@pytest.mark.parametrize("attack", MENDED)
def test_what_somebody_changes_is_named_put_back_and_kept_in_the_history(box: Box, attack: str) -> None:
    process = box.start("--no-metrics --mode structured", STAMPS if attack == "stamp" else CAPTURE)
    applied = box.tc()
    (record,) = box.state.rglob("record.json")
    handles = json.loads(record.read_text())["handles"]
    names = {"device": box.pair.a, "video": minor(handles["video"]), "bulk": minor(handles["bulk"]), "top": "5a00:1"}
    command, words = MENDED[attack]
    box.lab.run(command.format(**names))
    until(lambda: status(box)["mends"] == 1)
    assert not alarmed(box, "somebody changed")
    until(lambda: status(box)["capture"]["running"])
    assert without_ids(box.tc()) == without_ids(applied)
    history = json.loads(box.shaper("history --json")[1])["changes"]
    mends = [change for change in history if change["what"] == "mend"]
    assert len(mends) == 1
    assert words.format(**names) in mends[0]["why"]
    code, _, err = end(process)
    assert code == 0, err
    assert "put back what somebody changed" in err
    assert box.shaper(f"plan {box.policy}")[0] == 0


def minor(handle: int) -> str:
    return f"{handle >> 16:x}:{handle & 0xFFFF:x}"


def without_ids(text: str) -> str:
    """As tc shows it, without what the kernel numbers by itself: BPF programs, interfaces, random MACs."""
    return re.sub(r"\bid \d+|#\d+|([0-9a-f]{2}:){5}[0-9a-f]{2}|@if\d+", "", text)


def test_with_somebody_who_does_not_give_up_there_is_no_fight(box: Box) -> None:
    process = box.start("--no-metrics")
    changed = CLASSIFIER_GONE.format(device=box.pair.a)
    for mends in (1, 2, 3):
        box.lab.run(changed)
        until(lambda mends=mends: status(box)["mends"] == mends)
    box.lab.run(changed)
    until(lambda: alarmed(box, "put back 3 times within a minute"))
    assert status(box)["mends"] == 3
    assert status(box)["drift"] == ["filter bpf at 5a00: preference 10 is gone"]
    assert box.shaper(f"apply {box.policy}")[0] == 0
    until(lambda: not alarmed(box, "somebody changed"))
    box.lab.run(changed)
    until(lambda: status(box)["mends"] == 4)
    assert end(process)[0] == 0


def test_somebody_else_s_queue_in_our_place_is_named_and_left_alone(box: Box) -> None:
    process = box.start("--no-metrics")
    box.lab.run(f"tc qdisc replace dev {box.pair.a} root handle 1: pfifo")
    until(lambda: alarmed(box, "somebody else's qdisc (pfifo 1:)"))
    assert "pfifo 1: root" in box.tc()
    box.lab.run(f"tc qdisc del dev {box.pair.a} root")
    until(lambda: status(box)["mends"] == 1)
    assert not alarmed(box, "somebody")
    assert end(process)[0] == 0


def test_a_tree_follows_the_mtu_of_its_device(box: Box) -> None:
    process = box.start("--no-metrics")
    box.lab.run(f"ip link set {box.pair.a} mtu 9000")
    until(lambda: status(box)["mends"] == 1)
    assert box.shaper(f"plan {box.policy}")[0] == 0
    _, _, err = end(process)
    assert f"fitted to the device: the MTU of {box.pair.a} is 9000, was 1500" in err


PRIO_CHANGED = "tc class change dev {device} classid {video} parent {top} htb rate 3mbit ceil 20mbit prio 6"


def test_status_names_the_field_without_a_run(box: Box) -> None:
    assert box.shaper(f"apply {box.policy}")[0] == 0
    (record,) = box.state.rglob("record.json")
    video = minor(json.loads(record.read_text())["handles"]["video"])
    box.lab.run(PRIO_CHANGED.format(device=box.pair.a, video=video, top="5a00:1"))
    code, out, _ = box.shaper("status --json")
    assert code == 4
    (found,) = json.loads(out)["interfaces"]
    (line,) = found["drift"]
    assert line.startswith(f"class video {video}: prio is 6, ours is 1")
    assert f"somebody changed what {box.pair.a} holds: {line}" in found["alarms"][0]
    assert box.shaper(f"apply {box.policy}")[0] == 0
    assert json.loads(box.shaper("status --json")[1])["interfaces"][0]["drift"] == []


def test_a_link_that_went_down_is_measured_again_when_it_is_up(box: Box) -> None:
    process = box.start("--no-metrics")
    box.lab.run(f"ip link set {box.pair.a} down")
    until(lambda: not status(box)["capture"]["running"])
    assert alarmed(box, "delay")
    box.lab.run(f"ip link set {box.pair.a} up")
    until(lambda: status(box)["capture"]["running"])
    flow = send(box, rate=2e6, seconds=12, dscp=34)
    until(lambda: delays(box, "video") > 0)
    flow.wait(timeout=20)
    box.lab.run(f"ip link set {box.pair.a} mtu 1400")
    assert end(process)[0] == 0


def test_a_link_that_flaps_is_counted_even_between_two_looks(box: Box) -> None:
    kernel = box.lab.kernel()
    before = kernel.link(box.pair.a)
    for way in ("down", "up"):
        box.lab.run(f"ip link set {box.pair.b} {way}", peer=True)
    until(lambda: bool(flapped(before, kernel.link(box.pair.a))))
    assert flapped(before, kernel.link(box.pair.a)) == f"the link of {box.pair.a} went down and up"
    assert flapped(before, before) == ""


def test_a_device_that_goes_and_comes_back(box: Box) -> None:
    process = box.start("--no-metrics")
    device, peer = box.pair.a, box.pair.b
    for mends in (1, 2):
        box.lab.run(f"ip link del {device}")
        until(lambda: alarmed(box, device))
        box.lab.run(f"ip link add {device} type veth peer name {peer} netns {box.lab.peer}")
        box.lab.run(f"ip link set {device} up")
        box.lab.run(f"ip link set {peer} up", peer=True)
        until(lambda mends=mends: status(box)["mends"] == mends)
        until(lambda: status(box)["capture"]["running"])
        assert box.shaper(f"plan {box.policy}")[0] == 0
    assert end(process)[0] == 0


def test_a_device_that_is_gone_at_the_end_is_said(box: Box) -> None:
    process = box.start("--no-metrics")
    box.lab.run(f"ip link set {box.pair.a} down")
    box.lab.run(f"ip link set {box.pair.a} name other0")
    until(lambda: alarmed(box, box.pair.a))
    code, lines, err = end(process)
    assert code == lines[-1]["exit"] == 69
    assert box.pair.a in lines[-1]["problems"][0]["message"]
    assert "Traceback" not in err


class Settable:
    """The machine's clocks, the wall clock ahead by what it was set by."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()

    def processor(self) -> float:
        return time.thread_time()


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_wall_clock_that_is_set_begins_the_capture_anew(box: Box, step: float) -> None:
    policy = read_policy(box.policy)
    state = DeviceState(box.state, box.pair.a)
    kernel = box.lab.kernel()
    clock = Settable()
    flow = send(box, rate=30e6, seconds=5, dscp=0)

    def drive() -> None:
        order, settings = Order(caller(), clock.wall()), Settings(measure=Rung.CAPTURE)
        run = InterfaceRun(kernel, state, policy, policy.interfaces[0], settings, clock, order)

        def tick() -> InterfaceStatus:
            run.tick()
            return run.status()

        try:
            ticked(lambda: tick().capture.running and any(cls.in_flight for cls in tick().classes))
            clock.ahead = step
            after = tick()
            assert not after.capture.running
            assert "wall clock was set" in after.capture.reason
            assert all(cls.delay is None for cls in after.classes)
            assert all(cls.measured_lost is None for cls in after.classes)
            ticked(lambda: tick().capture.running)
            assert not any(cls.measured_lost for cls in tick().classes if cls.path != "bulk")
        finally:
            run.close()

    box.lab.inside(drive)
    flow.wait(timeout=20)


def ticked(condition: Callable[[], bool]) -> None:
    until(lambda: (time.sleep(0.05), condition())[1])


def test_a_full_state_folder_does_not_stop_the_shaping(box: Box) -> None:
    box.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(box.state)], check=True, timeout=10)
    try:
        process = box.start("--no-metrics")
        with (box.state / "filler").open("wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(4096))
            except OSError:
                pass
        until(lambda: alarmed(box, "history"))
        box.write(video="4mbit")
        code, _, err = box.shaper(f"apply {box.policy}")
        assert code == 1, err
        assert "make room" in err
        (box.state / "filler").unlink()
        until(lambda: not alarmed(box, "history"))
        assert box.shaper(f"apply {box.policy}")[0] == 0
        assert end(process)[0] == 0
    finally:
        subprocess.run(["umount", "-l", str(box.state)], check=True, timeout=10)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "nested": lambda path: path.write_text("[" * 100_000),
    "types": lambda path: path.write_text(
        json.dumps({**json.loads(path.read_text()), "handles": {"voice": "x"}})
        if path.suffix == ".json"
        else "x" * 9000
    ),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "loop": lambda path: (path.unlink(), path.symlink_to(path)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_the_state_folder_is_named_and_touches_nothing(box: Box, damage: str) -> None:
    assert box.shaper(f"apply {box.policy}")[0] == 0
    (record,) = box.state.rglob("record.json")
    DAMAGE[damage](record)
    applied = box.tc()
    for command in (f"plan {box.policy}", f"apply {box.policy}", "status", "clear"):
        code, out, err = box.shaper(f"{command} --json")
        assert code == 1, (command, out, err)
        assert json.loads(out)["problems"][0]["hint"]
        assert "Traceback" not in err
    assert box.tc() == applied


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_history_is_an_alarm(box: Box, damage: str) -> None:
    process = box.start("--no-metrics")
    until(lambda: any(box.state.rglob("history.db")))  # a second's line at the latest
    assert end(process)[0] == 0
    (history,) = box.state.rglob("history.db")
    DAMAGE[damage](history)
    process = box.start("--no-metrics")
    if damage not in ("empty",):
        until(lambda: alarmed(box, "history"))
    assert end(process)[0] == 0


def test_hostile_clients_do_not_stop_the_loop(box: Box) -> None:
    process = box.start("--no-metrics")
    (path,) = box.state.rglob("socket")
    held = []
    folder = os.open(path.parent, os.O_PATH)
    try:
        for number in range(300):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(0.2)
            held.append(one)
            try:
                one.connect(f"/proc/self/fd/{folder}/socket")
                one.send(b"[" * 60_000 + (b"\n" if number % 2 else b""))
            except OSError:
                continue
        first = json.loads(process.stdout.readline())
        for _ in range(3):
            process.stdout.readline()
        later = json.loads(process.stdout.readline())
        assert 3.5 <= later["at"] - first["at"] <= 5.5
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 100
    finally:
        for one in held:
            one.close()
        os.close(folder)
    until(lambda: box.shaper("status")[0] != 1)
    code, _, err = end(process)
    assert code == 0
    assert "Traceback" not in err


def test_two_applies_at_once_are_one_after_the_other(box: Box) -> None:
    commands = [box.lab.start(f"{sys.executable} -m shaper apply {box.policy} --state {box.state}") for _ in range(4)]
    codes = []
    for process in commands:
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        codes.append(process.returncode)
    assert set(codes) <= {0, 75}
    assert 0 in codes
    assert box.shaper(f"plan {box.policy}")[0] == 0


@pytest.mark.parametrize("storm", [1, 20])
def test_signals_find_an_apply_before_or_after(box: Box, storm: int) -> None:
    empty = box.tc()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process = box.lab.start(f"{sys.executable} -m shaper apply {box.policy} --state {box.state}")
        until(lambda process=process: locked_by(box, process) or process.poll() is not None)
        for _ in range(storm):
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode in (0, 128 + number, -number)
        assert "Traceback" not in err
        assert not [*box.state.rglob("pending.json")]
        assert box.tc() == empty or box.shaper(f"plan {box.policy}")[0] == 0
        assert box.shaper("clear")[0] == 0
        assert box.tc() == empty


def locked_by(box: Box, process: subprocess.Popen[str]) -> bool:
    return any(path.read_text() == f"process {process.pid}" for path in box.state.rglob("lock"))


def test_a_reader_that_goes_away_ends_the_run_in_order(box: Box) -> None:
    assert box.shaper(f"apply {box.policy}")[0] == 0
    applied = box.shaping()
    process = box.start("--no-metrics")
    process.stdout.close()
    process.wait(timeout=20)
    assert "Traceback" not in process.stderr.read()
    assert box.shaping() == applied
    assert not [*box.state.rglob("socket")]
