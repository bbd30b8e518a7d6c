"""One run of the demo: a fresh network, the real `shaper run` on its router, the scenario's traffic, both accounts."""

from __future__ import annotations

import errno
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from shaper.errors import ShaperError
from shaper.lab.account import Account, read_log, settle
from shaper.lab.counters import RunLines
from shaper.lab.namespaces import Topology
from shaper.lab.processes import Processes
from shaper.lab.scenario import UDP_PORT, Traffic
from shaper.lab.traffic import plan_of

SHAPER = (sys.executable, "-m", "shaper")
"""The command under trial."""
_READY = 120.0
_LEAD = 1.0
_DRAIN = 1.0
_PATIENCE = 30.0
_LOOK = 0.1

Watch = Callable[[float, RunLines], None]
"""Told now and then how many seconds of traffic have passed, and what the shaper has said."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one run: `start` is the Unix time of the traffic's second 0.

    `carried` are the bits that came out of the narrow link at each of its rates; of a run without one there are none.
    """

    mode: str
    start: float
    seconds: int
    lines: RunLines
    account: Account
    carried: tuple[int, ...] = ()


@dataclass(slots=True)
class _Stage:
    """What is set up for one run, in one place."""

    net: Topology
    processes: Processes
    folder: Path
    traffic: Traffic
    command: Sequence[str]
    policy: Path

    def log(self, name: str) -> Path:
        return self.folder / name

    def complain(self, what: str, name: str) -> ShaperError:
        """An error with what a child's own was, else with the last words that it wrote to its log."""
        words = self.log(name).read_text(errors="replace").strip().splitlines()
        last = next((line for line in reversed(words) if line.startswith("error: ")), words[-1] if words else "")
        return ShaperError(f"{what}: {last or 'it said nothing'}", hint="the demo cannot go on")

    def start(
        self, name: str, argv: Sequence[str], namespace: str, *, stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a child whose words go to a log of its name."""
        with self.log(name).open("wb") as log:
            return self.processes.start(argv, namespace=namespace, stdout=log if stdout is None else stdout, stderr=log)


def run_trial(
    mode: str,
    *,
    policy: Path,
    device: str,
    traffic: Traffic,
    folder: Path,
    incoming: bool = False,
    options: Sequence[str] = (),
    command: Sequence[str] = SHAPER,
    watch: Watch = lambda _passed, _lines: None,
) -> Trial:
    """Runs the traffic once under `shaper run --mode MODE`. Raises ShaperError when anything goes wrong on the way.

    `folder` is an empty folder of this run's own. The router's device towards the server is called `device`, with
    `incoming` the one by which the traffic comes in to it.
    """
    net = Topology(wan=device, path=traffic.wan, narrow=traffic.narrow, incoming=incoming)
    with net, _closing(Processes()) as processes:
        stage = _Stage(net, processes, folder, traffic, command, policy)
        receiver = _start_receiver(stage)
        for run in traffic.tcp:
            stage.start(f"server-{run.port}", run.server(), net.server)
        listen = ["--json", "--listen", "127.0.0.1:0", "--state", str(folder / "state")]
        shaper = stage.start(
            "shaper",
            [*command, "run", str(policy), "--mode", mode, *listen, *options],
            net.router,
            stdout=subprocess.PIPE,
        )
        lines = RunLines()
        reader = _Reader(shaper, lines)
        try:
            _await_ready(stage, shaper, reader)
            start, carried = _send(stage, shaper, reader, watch)
            reader.until(time.time() + _DRAIN + (traffic.wan.delay + traffic.wan.jitter if traffic.wan else 0.0))
            processes.stop(shaper, grace=10.0)
            reader.drain()
        finally:
            reader.close()
        if shaper.returncode or lines.summary is None:
            raise stage.complain(f"`shaper run` ended with {shaper.returncode} and no summary", "shaper")
        _clear(stage)
        processes.stop(receiver)
        account = settle(
            read_log(stage.log("sent")),
            read_log(stage.log("received")),
            start=round(start * 1e9),
            seconds=int(traffic.seconds),
            classes=traffic.classes,
            ports={run.port: run.name for run in traffic.tcp},
            path=traffic.wan.delay if traffic.wan else 0.0,
        )
    return Trial(mode, start, int(traffic.seconds), lines, account, carried)


@contextmanager
def _closing(processes: Processes) -> Iterator[Processes]:
    try:
        yield processes
    finally:
        processes.close()


class _Reader:
    """Reads a child's standard output without waiting for it."""

    def __init__(self, process: subprocess.Popen[bytes], lines: RunLines) -> None:
        assert process.stdout is not None
        self.process = process
        self.lines = lines
        self._pipe = process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self.ended = False

    def until(self, when: float) -> None:
        """Reads what comes before that Unix time."""
        while (left := when - time.time()) > 0:
            if self.ended:
                time.sleep(left)
            elif self._selector.select(left):
                self._read()

    def drain(self) -> None:
        """Reads the rest of an ended child."""
        while not self.ended:
            self._read()

    def _read(self) -> None:
        data = os.read(self._pipe.fileno(), 1 << 16)
        self.ended = not data
        self.lines.feed(data)

    def close(self) -> None:
        self._selector.close()
        self._pipe.close()


def _start_receiver(stage: _Stage) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "shaper.lab.receiver", str(UDP_PORT), str(stage.log("received")), "eth0"]
    receiver = stage.start("receiver", argv, stage.net.server, stdout=subprocess.PIPE)
    assert receiver.stdout is not None
    with receiver.stdout as pipe:
        if pipe.readline() != b"ready\n":
            raise stage.complain("the receiver did not start", "receiver")
    return receiver


def _await_ready(stage: _Stage, shaper: subprocess.Popen[bytes], reader: _Reader) -> None:
    end = time.time() + _READY
    while not reader.lines.ready:
        reader.until(min(end, time.time() + _LOOK))
        if reader.ended or shaper.poll() is not None:
            raise stage.complain("`shaper run` did not start", "shaper")
        if time.time() >= end:
            raise stage.complain(f"`shaper run` was not ready within {_READY:g} s", "shaper")


def _start_sender(stage: _Stage, reader: _Reader) -> tuple[subprocess.Popen[bytes], float]:
    """The generator, and the Unix time of the traffic's second 0, which is told it when it reads its plan."""
    plan = stage.log("plan")
    os.mkfifo(plan)
    argv = [sys.executable, "-m", "shaper.lab.traffic", str(plan), str(stage.log("sent"))]
    sender = stage.start("sender", argv, stage.net.client)
    end = time.time() + _READY
    while (pipe := _open_to_write(plan)) is None:
        reader.until(time.time() + _LOOK)
        if sender.poll() is not None or time.time() >= end:
            raise stage.complain("the generator did not start", "sender")
    os.set_blocking(pipe, True)
    start = time.time() + _LEAD
    try:
        with os.fdopen(pipe, "w") as out:
            out.write(plan_of(stage.traffic.udp, start=start))
    except BrokenPipeError as error:
        raise stage.complain("the generator did not read its plan", "sender") from error
    return sender, start


def _open_to_write(pipe: Path) -> int | None:
    """The named pipe, None while nobody reads it."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def _send(
    stage: _Stage, shaper: subprocess.Popen[bytes], reader: _Reader, watch: Watch
) -> tuple[float, tuple[int, ...]]:
    """Runs the traffic to its end: the Unix time of its second 0, and `Trial.carried`."""
    traffic, net = stage.traffic, stage.net
    sender, start = _start_sender(stage, reader)
    waiting = list(traffic.tcp)
    changes = list(traffic.narrow.rates[1:]) if traffic.narrow else []
    clients: list[tuple[str, subprocess.Popen[bytes]]] = []
    end = start + traffic.seconds
    carried = [net.carried()] if traffic.narrow else []
    while (now := time.time()) < end:
        while waiting and now >= start + waiting[0].start:
            run = waiting.pop(0)
            clients.append((f"client-{run.port}", stage.start(f"client-{run.port}", run.client(), net.client)))
        while changes and now >= start + changes[0][0]:
            carried.append(net.carried())
            net.carry(changes.pop(0)[1])
        following = start + min([end - start, *(run.start for run in waiting[:1]), *(at for at, _ in changes[:1])])
        reader.until(min(following, now + _LOOK))
        watch(max(0.0, now - start), reader.lines)
        _check(stage, shaper, sender, clients)
    carried += [net.carried()] if traffic.narrow else []
    stage.processes.stop(*(client for _, client in clients), grace=0.5)
    try:
        sender.wait(timeout=_PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise stage.complain("the generator could not keep to its schedule", "sender") from error
    if sender.returncode:
        raise stage.complain("the generator failed", "sender")
    return start, tuple((after - before) * 8 for before, after in pairwise(carried))


def _check(
    stage: _Stage,
    shaper: subprocess.Popen[bytes],
    sender: subprocess.Popen[bytes],
    clients: Sequence[tuple[str, subprocess.Popen[bytes]]],
) -> None:
    if shaper.poll() is not None:
        raise stage.complain(f"`shaper run` ended by itself with {shaper.returncode}", "shaper")
    if sender.poll():
        raise stage.complain("the generator failed", "sender")
    for name, client in clients:
        if client.poll():
            raise stage.complain("iperf3 failed", name)


def _clear(stage: _Stage) -> None:
    """`shaper clear`, and a look whether the router is as it was before. Raises ShaperError where it is not."""
    argv = [*stage.command, "clear", str(stage.policy), "--state", str(stage.folder / "state")]
    clear = stage.start("clear", argv, stage.net.router)
    try:
        code = clear.wait(timeout=_READY)
    except subprocess.TimeoutExpired as error:
        raise stage.complain("`shaper clear` did not end", "clear") from error
    if code:
        raise stage.complain(f"`shaper clear` ended with {code}", "clear")
    if left := stage.net.left_on_router():
        raise ShaperError(f"`shaper clear` left behind: {'; '.join(left)}", hint="this is a defect; please report it")
