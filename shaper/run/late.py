"""Waiting for devices that come later than we do: at boot, a modem, a PPPoE session."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from shaper.errors import UnavailableError
from shaper.kernel.protocol import Kernel
from shaper.run.clock import Clock
from shaper.units import format_duration

_EVERY = 0.2


def wait_for(
    kernel: Kernel,
    devices: Sequence[str],
    *,
    seconds: float,
    clock: Clock,
    told: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when all devices are there, or after `seconds`; an apply names what it then lacks, and its line."""
    until = clock.boot() + seconds
    missing = _missing(kernel, devices)
    if missing:
        told(f"waiting up to {format_duration(seconds)} for {', '.join(missing)}, not there yet")
    while missing:
        left = until - clock.boot()
        if left <= 0:
            told(f"{', '.join(missing)} did not come within {format_duration(seconds)}; --wait-device waits longer")
            return
        sleep(min(_EVERY, left))
        missing = _missing(kernel, missing)


def _missing(kernel: Kernel, devices: Sequence[str]) -> list[str]:
    missing = []
    for device in devices:
        try:
            kernel.link(device)
        except UnavailableError:
            missing.append(device)
    return missing
