"""The only clocks of the program: boot time for control and timers, wall time for records and capture stamps."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Both in seconds."""

    def boot(self) -> float:
        """Time since boot, suspended time included; never steps."""

    def wall(self) -> float:
        """Unix time, the clock of the kernel's packet stamps."""


class SystemClock:
    """The machine's clocks."""

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()
