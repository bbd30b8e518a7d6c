"""Waits in a queue as the kernel's tracepoints have them: `net_dev_queue` to `net_dev_start_xmit` of the same packet.

A packet is told by the address of its buffer, which it keeps while it waits; its class by what is sent at that moment,
which is nothing else. What the programs of the eBPF rung count of the same packets must be the same.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from side_by_side import counting
from test_capture_matching import BULK, VOICE, Shaped, shape

from collectors.bpf.counts import FINE_CUTS, ClassCounts

if TYPE_CHECKING:
    from conftest import Lab

PERCENTILES = (0.5, 0.95, 0.99)
ABSOLUTE, RELATIVE = 20e-6, 0.01
"""How far a percentile may be off: the larger of so many seconds and this share of it."""

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CREATE = 6
_EVENTS = ("net_dev_queue", "net_dev_start_xmit")
_LINE = re.compile(r"\s(\d+)\.(\d+): (net_dev_queue|net_dev_start_xmit): .*?skbaddr=(\w+) .*?\blen=(\d+)")
_ROOM_KB = 8192
_HEADERS = 42  # Ethernet, IPv4, UDP


class UntraceableError(Exception):
    """The kernel has no such tracepoints, or this process may not use them."""


@contextmanager
def tracefs() -> Iterator[Path]:
    """The kernel's tracing files, mounted nowhere: gone with the descriptor. Raises UntraceableError."""
    libc = ctypes.CDLL(None, use_errno=True)
    context = libc.syscall(_FSOPEN, b"tracefs", 0)
    if context < 0:
        raise UntraceableError(f"tracefs: {os.strerror(ctypes.get_errno())}")
    try:
        made = libc.syscall(_FSCONFIG, context, _CREATE, None, None, 0)
        mount = libc.syscall(_FSMOUNT, context, 0, 0) if made == 0 else -1
        if mount < 0:
            raise UntraceableError(f"tracefs: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(context)
    try:
        yield Path(f"/proc/self/fd/{mount}")
    finally:
        os.close(mount)


@dataclass(frozen=True, slots=True)
class Traced:
    """Waits in seconds, ascending, and packets that entered the queue and never left it."""

    waits: Sequence[float]
    lost: int

    def quantile(self, q: float) -> float:
        """The upper order statistic."""
        return self.waits[max(1, math.ceil(q * len(self.waits) - 1e-9)) - 1]


class Tracer:
    """A buffer of our own that takes both events of one device."""

    def __init__(self, files: Path, device: str) -> None:
        """Raises UntraceableError where the kernel lacks the events."""
        self._folder = files / "instances" / f"sla-shaper-{os.getpid()}-{device}"
        try:
            self._folder.mkdir()
        except OSError as error:
            raise UntraceableError(f"tracefs: {error.strerror}") from error
        try:
            self._write("trace_clock", "mono")
            self._write("buffer_size_kb", str(_ROOM_KB))
            for event in _EVENTS:
                self._write(f"events/net/{event}/filter", f'name == "{device}"')
                self._write(f"events/net/{event}/enable", "1")
        except FileNotFoundError as error:
            self.close()
            raise UntraceableError(f"no tracepoint {error.filename}") from error

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def close(self) -> None:
        """Gives the buffer back."""
        self._folder.rmdir()

    def take(self, size: int) -> Traced:
        """What has been seen of frames of `size` bytes since the last time: what comes by itself, such as neighbour
        discovery, is shorter. Fails where the buffer ran over.
        """
        for statistics in sorted((self._folder / "per_cpu").glob("cpu*/stats")):
            lost = re.findall(r"(?:overrun|dropped events): (\d+)", statistics.read_text())
            assert set(lost) == {"0"}, f"events were lost: {lost}"
        waits: list[float] = []
        inside: dict[str, float] = {}
        lost = 0
        for seconds, fraction, event, address, length in _LINE.findall((self._folder / "trace").read_text()):
            if int(length) != size:
                continue
            at = int(seconds) + int(fraction) / 10 ** len(fraction)
            if event == _EVENTS[0]:
                lost += address in inside  # freed and used again: it was dropped
                inside[address] = at
            elif address in inside:
                waits.append(at - inside.pop(address))
        self._write("trace", "")
        return Traced(sorted(waits), lost + len(inside))


@dataclass(frozen=True, slots=True)
class Compared:
    """One class of traffic by both accounts."""

    name: str
    sent: int
    traced: Traced
    counted: ClassCounts
    dropped: int

    def off(self, q: float) -> float:
        """How far the programs' percentile is from the tracepoints', in seconds."""
        return self.counted.quantile(q) - self.traced.quantile(q)

    def problems(self) -> Iterator[str]:
        """What of the two does not agree."""
        yield from self.miscounted()
        yield from self.apart()

    def miscounted(self) -> Iterator[str]:
        """Packets whose fate the two do not agree on."""
        if not self.counted.matched == len(self.traced.waits) == self.sent - self.dropped:
            yield f"{self.name}: {self.counted.matched} and {len(self.traced.waits)} of {self.sent} came out"
        if self.traced.lost != self.dropped:
            yield f"{self.name}: {self.dropped} were dropped, {self.traced.lost} never left"

    def apart(self) -> Iterator[str]:
        """Percentiles that differ. The programs' stamps are not of the tracepoints' moments: what interrupts a
        processor between them is in one account alone."""
        for q in PERCENTILES:
            if abs(self.off(q)) > max(ABSOLUTE, RELATIVE * self.traced.quantile(q)):
                yield f"{self.name}: p{q * 100:g} is {self.off(q) * 1e6:+.0f} us off {self.traced.quantile(q) * 1e3} ms"


def compare(lab: Lab, *, seconds: float, seed: int) -> list[Compared]:
    """One class after the other: voice without a queue, bulk in bursts, bulk at twice its rate; nothing is left.

    Raises UntraceableError.
    """
    pair = lab.link_pair()
    device = f"t{os.getpid()}"  # filters know names, and no network namespaces
    lab.run(f"ip link set {pair.a} down")
    lab.run(f"ip link set {pair.a} name {device} up")
    shaped = shape(lab, replace(pair, a=device))
    shaped.tc(f"filter del dev {device} egress pref 30")  # where the programs count nothing is copied
    random = Random(seed)
    found = []
    with tracefs() as files, counting(shaped, cuts=FINE_CUTS) as delays:
        tracer = Tracer(files, device)
        try:
            for name, handle, minor, port, size, pace in (
                ("voice", VOICE, 10, 5010, 160, lambda: (1, random.expovariate(500))),
                ("bursts", BULK, 20, 5020, 1200, lambda: (random.randint(1, 60), random.expovariate(50))),
                ("full", BULK, 20, 5020, 1200, lambda: (4, 0.001)),
            ):
                before, dropped = delays.read()[0][handle], shaped.leaf(minor)[0]
                tracer.take(0)
                sent = _send(shaped, port=port, size=size, seconds=seconds, pace=pace)
                time.sleep(0.4)  # the queue is 178 ms long
                after = delays.read()[0][handle]
                traced, dropped = tracer.take(size + _HEADERS), shaped.leaf(minor)[0] - dropped
                found.append(Compared(name, sent, traced, _since(before, after), dropped))
        finally:
            tracer.close()
    for name in (device, "copies"):
        lab.run(f"ip link del {name}")
    return found


def _send(shaped: Shaped, *, port: int, size: int, seconds: float, pace: Callable[[], tuple[int, float]]) -> int:
    """Bursts of so many packets, so many seconds apart, as `pace` says; how many they were."""
    sent = 0
    with shaped.socket() as sock:
        began = at = time.monotonic()
        while at - began < seconds:
            count, gap = pace()
            for _ in range(count):
                sock.sendto(sent.to_bytes(4, "big").ljust(size, b"x"), (shaped.pair.b_v4, port))
                sent += 1
            at += gap
            time.sleep(max(0.0, at - time.monotonic()))
    return sent


def _since(before: ClassCounts, after: ClassCounts) -> ClassCounts:
    return replace(
        after,
        matched=after.matched - before.matched,
        delays=[now - then for then, now in zip(before.delays, after.delays, strict=True)],
    )


def traceable() -> str:
    """Why no tracepoints can be read, "" where they can."""
    if shutil.which("ip") is None:
        return "ip"
    try:
        with tracefs() as files:
            Tracer(files, "none").close()
    except UntraceableError as error:
        return str(error)
    return ""
