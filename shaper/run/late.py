"""Waiting for devices that come later than we do: at boot, a modem, a PPPoE session."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from shaper.errors import UnavailableError
from shaper.kernel.protocol import Kernel, within
from shaper.model.policy import Interface, Policy
from shaper.run.clock import Clock
from shaper.run.place import placed
from shaper.units import format_duration

_EVERY = 0.2


def wait_for(
    kernel: Kernel,
    policy: Policy,
    interfaces: Sequence[Interface],
    *,
    seconds: float,
    clock: Clock,
    told: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when the devices of all these interfaces are there, or after `seconds`.

    An apply names what it then lacks, and its line.
    """
    until = clock.boot() + seconds
    missing = _missing(kernel, policy, interfaces)
    if missing:
        told(f"waiting up to {format_duration(seconds)} for {', '.join(missing)}, not there yet")
    while missing:
        left = until - clock.boot()
        if left <= 0:
            told(f"{', '.join(missing)} did not come within {format_duration(seconds)}; --wait-device waits longer")
            return
        sleep(min(_EVERY, left))
        missing = _missing(kernel, policy, interfaces)


def _missing(kernel: Kernel, policy: Policy, interfaces: Sequence[Interface]) -> list[str]:
    missing = []
    for interface in interfaces:
        try:
            (there,) = placed(replace(policy, interfaces=(interface,)), kernel).interfaces
            within(kernel, there.netns).link(there.device)
        except UnavailableError:
            wanted = interface.wanted
            missing.append(f"the {wanted}" if wanted and not wanted.name else interface.spot)
    return list(dict.fromkeys(missing))  # both directions of one device wait for the same
