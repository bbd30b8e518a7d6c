"""`shaper top`: the classes live, from a running shaper or the kernel's counters."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from shaper.api.client import ask
from shaper.cli.asking import CLOCK
from shaper.cli.common import DURATION, device_name, folder_of, json_option, open_kernel, print_json, state_option
from shaper.cli.completion import device_names
from shaper.errors import ShaperError, UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.model.status import InterfaceStatus
from shaper.report.as_json import status_from_json, status_json
from shaper.report.glyphs import ASCII, BLOCKS, Glyphs
from shaper.report.render import console
from shaper.report.screen import screen
from shaper.report.top import Top
from shaper.run.look import look
from shaper.run.state import both_directions, known_devices

Read = Callable[[], Sequence[InterfaceStatus]]

_NAMED = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\r": "enter",
    b"\n": "enter",
    b"\t": "tab",
    b"\x7f": "escape",
    b"\x1b": "escape",
    b"\x03": "q",
}


@click.command()
@click.argument("devices", metavar="[DEVICE]...", nargs=-1, type=device_name, shell_complete=device_names)
@click.option("--every", type=DURATION, default="1s", show_default=True, help="How often to look.")
@click.option("--once", is_flag=True, help="Print one screen and end, as in a pipe.")
@state_option
@json_option
def top(devices: tuple[str, ...], every: float, once: bool, folder: Path | None, as_json: bool) -> int:
    """Watch the classes live: rates, delays, losses, queues and SLAs; ? lists the keys."""
    if every <= 0:
        raise click.UsageError("--every must be more than nothing")
    devices = devices or known_devices(folder_of(folder))
    if not devices:
        raise UnavailableError("nothing of the shaper's is here", hint="apply a policy first, or name the --state DIR")
    with open_kernel() as kernel:

        def read() -> list[InterfaceStatus]:
            return [one for device in devices for one in _statuses(kernel, folder, device)]

        if as_json:
            print_json({"schema": 1, "interfaces": [status_json(one) for one in read()]})
        elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            print_once(read, out=console(), every=every, sleep=time.sleep, now=CLOCK.boot)
        else:
            watch(Top(), read, out=console(), keys=sys.stdin.fileno(), every=every, now=CLOCK.boot)
    return 0


def _statuses(kernel: Kernel, folder: Path | None, device: str) -> list[InterfaceStatus]:
    sides = both_directions(folder_of(folder), device)
    answer = ask(sides[0], "status")
    if answer is not None:
        names = {side.spot for side in sides}
        return [status_from_json(one) for one in answer if one["device"] in names]
    shaped = [side for side in sides if side.has("record.json", "pending.json")] or sides[:1]
    return [look(kernel, side, now=CLOCK.boot(), at=CLOCK.wall()) for side in shaped]


def print_once(
    read: Read, *, out: Console, every: float, sleep: Callable[[float], None], now: Callable[[], float]
) -> None:
    """Every interface, in as many lines as it takes; counters alone are read twice, since a rate takes two readings."""
    view = Top()
    view.update(read(), now=now())
    if not all(status.running for status in view.statuses):
        sleep(every)
        view.update(read(), now=now())
    for place, status in enumerate(view.statuses):
        view.place = place
        room = len(status.classes) + 6 + bool(status.controller.moved)
        text = screen(view, width=out.width, height=room, glyphs=_glyphs(out))
        for line in text.split("\n")[:-2]:
            line.rstrip()
            out.print(line, soft_wrap=True)


def _glyphs(out: Console) -> Glyphs:
    return BLOCKS if "utf" in (out.encoding or "").lower() else ASCII


def watch(view: Top, read: Read, *, out: Console, keys: int, every: float, now: Callable[[], float]) -> None:
    """Looks, draws and listens to the keys of a terminal until one ends it. `now` and `every` in s."""
    due = now()
    with _listening(keys), Live(console=out, screen=True, auto_refresh=False, redirect_stderr=False) as live:
        while not view.over:
            if now() >= due:
                due = now() + every
                try:
                    view.update(read(), now=now())
                except ShaperError as error:
                    view.trouble = error.message
            live.update(screen(view, width=out.width, height=out.height, glyphs=_glyphs(out)), refresh=True)
            if select.select([keys], [], [], max(0.0, due - now()))[0]:
                pressed = os.read(keys, 64)
                if not pressed:  # the terminal is gone
                    return
                for key in _keys(pressed):
                    view.press(key)


def _keys(pressed: bytes) -> Iterator[str]:
    while pressed:
        name = next((one for one in _NAMED if len(one) > 1 and pressed.startswith(one)), pressed[:1])
        pressed = pressed[len(name) :]
        yield _NAMED.get(name, name.decode("latin-1"))


@contextmanager
def _listening(keys: int) -> Iterator[None]:
    """Keys come one by one and are not shown; afterwards the terminal is as it was."""
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
