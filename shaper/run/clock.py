"""The only clocks of the program: boot time for control and timers, wall time for records and capture stamps."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """All in seconds."""

    def boot(self) -> float:
        """Time since boot, suspended time included; never steps."""

    def wall(self) -> float:
        """Unix time, the clock of the kernel's packet stamps."""

    def monotonic(self) -> float:
        """The clock of the kernel's own programs; stands still while the machine is suspended."""

    def processor(self) -> float:
        """What the calling thread has had of a processor."""


class SystemClock:
    """The machine's clocks."""

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def processor(self) -> float:
        return time.thread_time()
