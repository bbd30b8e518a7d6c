"""The watchdog of one confirmation: a process of its own that rolls a change back when its time is over.

It is started before the change is made, by the command that makes it, and lives in a session or a unit of its own: the
loss of the terminal and a SIGKILL of the command leave it alone. All that it needs to know is in the state folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shaper.errors import ShaperError, TryAgainError
from shaper.kernel.protocol import Kernel
from shaper.run import confirm
from shaper.run.changes import Order
from shaper.run.clock import Clock
from shaper.run.state import DeviceState, StateError, both_directions, namespace_key
from shaper.run.waiting import read_waiting
from shaper.run.who import caller

Ask = Callable[..., Any | None]
"""`api.client.ask`: what a running shaper answers, None where none runs."""

_LOOK = 0.5
"""Seconds between looks: someone may confirm, or extend."""
_AGAIN = 3.0
"""Seconds after which a rolling back that failed is tried again."""
_PATIENCE = 120.0
"""Seconds in which the change must have begun to wait; else there is none to guard."""
_STARTING = 120.0
"""Seconds in which it must be alive: a machine that is busy, or emulated, takes its time to start a program."""
_GLANCE = 0.02


class Watchdog:
    """Guards the devices on which a change waits by the id `ident`. The caller calls `look` until it gives None."""

    def __init__(
        self, kernel: Kernel, folder: Path, ident: str, devices: Sequence[str], *, clock: Clock, ask: Ask
    ) -> None:
        self._kernel = kernel
        self._ident = ident
        self._devices = {device: both_directions(folder, device) for device in devices}
        self._clock = clock
        self._ask = ask
        self._seen: set[str] = set()
        self._until = clock.boot() + _PATIENCE

    def look(self) -> float | None:
        """Rolls back what is due. Seconds until the next look, None when nothing is left to guard."""
        pause = _LOOK
        for device, sides in list(self._devices.items()):
            try:
                pause = min(pause, self._guard(device, sides))
            except TryAgainError:  # somebody is changing it this very moment
                continue
            except ShaperError as error:
                self._complain(sides, error)
                pause = _AGAIN
        return pause if self._devices else None

    def _guard(self, device: str, sides: Sequence[DeviceState]) -> float:
        now = self._clock.boot()
        left = [waiting.left(now) for waiting in map(read_waiting, sides) if waiting and waiting.id == self._ident]
        if not left:
            if device in self._seen or now > self._until:
                del self._devices[device]
            return _LOOK
        self._seen.add(device)
        if min(left) > 0:
            return min(left)
        if self._ask(sides[0], "lapse", id=self._ident) is None:
            with sides[0].lock():
                for side in sides:
                    confirm.tidy(self._kernel, side, now=now, order=self._order())
        return 0.0

    def _complain(self, sides: Sequence[DeviceState], error: ShaperError) -> None:
        with contextlib.suppress(ShaperError), sides[0].lock():
            for side in sides:
                waiting = read_waiting(side)
                if waiting is not None and waiting.id == self._ident:
                    confirm.remember_trouble(side, waiting, confirm.told(error))

    def _order(self) -> Order:
        return Order(caller(), self._clock.wall())


@contextlib.contextmanager
def guarding(folder: Path, ident: str) -> Iterator[Callable[[], bool]]:
    """While in here the watchdog counts as alive; gives whether it is still wanted. Raises StateError."""
    path = _sign(folder, ident)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StateError(f"the watchdog can't hold {path}: {error.strerror}", hint="see --state DIR") from error
    try:
        yield path.exists
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def is_guarded(folder: Path, ident: str) -> bool:
    """Whether the watchdog of this id is alive."""
    try:
        file = os.open(_sign(folder, ident), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(file)


def dismiss(folder: Path, ident: str) -> None:
    """Tells a watchdog that the change it was started for was not made."""
    with contextlib.suppress(OSError):
        _sign(folder, ident).unlink()


def start(folder: Path, ident: str, devices: Sequence[str], *, clock: Clock, pause: Callable[[float], None]) -> None:
    """Starts the watchdog of a confirmation and waits until it is alive. Raises ShaperError when it never is."""
    argv = [sys.executable, "-m", "shaper", "watchdog", ident, "--state", str(folder)]
    argv += [word for device in devices for word in ("--device", device)]
    if not _by_systemd(argv, ident):
        _spawn(argv)
    limit = clock.boot() + _STARTING
    while not is_guarded(folder, ident):
        if clock.boot() > limit:
            raise ShaperError(
                "the watchdog that would roll the change back did not start, so nothing was changed",
                hint=f"try it by hand: {' '.join(argv)}",
            )
        pause(_GLANCE)


def _by_systemd(argv: Sequence[str], ident: str) -> bool:
    """As a unit of the system's: no session's end reaches it. Only there it would be in another network namespace."""
    if os.geteuid() != 0 or not Path("/run/systemd/system").is_dir() or namespace_key() != "host":
        return False
    unit = ["systemd-run", "--quiet", "--collect", f"--unit=shaper-confirm-{ident}"]
    unit += ["--description", f"rolls back what is not confirmed by {ident}"]
    unit += [f"--setenv={name}={os.environ[name]}" for name in ("PYTHONPATH", "XDG_STATE_HOME") if name in os.environ]
    try:
        done = subprocess.run([*unit, "--", *argv], capture_output=True, timeout=_STARTING, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _spawn(argv: Sequence[str]) -> None:
    """In a session of its own, holding nothing of ours; whoever outlives us adopts it."""
    nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    os.posix_spawn(argv[0], list(argv), dict(os.environ), file_actions=nowhere, setsid=True)


def _sign(folder: Path, ident: str) -> Path:
    return folder / namespace_key() / f"watchdog-{ident}"
