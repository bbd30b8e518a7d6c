"""Delay by programs in the kernel: loaded and lent for an apply, started behind it, read at every tick."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping

from collectors.bpf.counts import CUTS, FINE_CUTS, Counting
from collectors.bpf.delays import KernelDelays
from collectors.bpf.library import BpfError
from collectors.bpf.windows import KernelWindows
from collectors.capture import TAUS
from collectors.errors import CaptureError
from collectors.sample import CaptureWindow
from shaper.compile.program import Program
from shaper.kernel.protocol import Kernel
from shaper.run.alarms import Alarms
from shaper.run.capturing import HORIZON, REOPEN
from shaper.run.clock import Clock
from shaper.tree import ATM, Handle

_MOST_CLASSES = 2048
"""So many classes take 48 MB of the kernel's memory; with fine buckets an eighth of them do about the same."""

_serial = itertools.count()


class Stamping:
    """Holds the programs and maps until `release`. `why` says why nothing is measured, while that is so.

    `refused` says why the kernel has no such program, "" while it takes them: then there is nothing to `lend`.
    """

    def __init__(self, kernel: Kernel, clock: Clock, alarms: Alarms, *, fine: bool = False) -> None:
        self.refused = self.why = ""
        self.instance = self._another()
        self._kernel = kernel
        self._clock = clock
        self._alarms = alarms
        self._cuts = FINE_CUTS if fine else CUTS
        self._loaded: dict[str, KernelDelays] = {}
        self._windows: KernelWindows | None = None
        self._again = 0.0

    def lend(self, program: Program) -> bool:
        """Whether the kernel has the program's stamp; it does nothing yet but classify."""
        if program.stamp in self._loaded:
            return True
        try:
            made = KernelDelays(
                classifier=program.stamping,
                handles=(handles := measured(program, most=_MOST_CLASSES * CUTS // self._cuts)),
                classify=program.sorting,
                cuts=self._cuts,
                limits={handle: limits for handle, limits in program.limits.items() if handle in handles},
                counting=_counting(program),
            )
        except BpfError as error:
            self.refuse(f"{error.message}: {error.hint}")
            return False
        self._loaded[program.stamp] = made
        self._kernel.programs[program.stamp] = made.entry
        return True

    def refuse(self, reason: str) -> None:
        """Lends no more."""
        self.refused, self.instance = reason, ""

    def open(self, program: Program) -> None:
        """Counts from now on, after the program was put on its hook; where that fails it is an alarm, tried again."""
        self._windows = None
        for name in [name for name in self._loaded if name != program.stamp]:
            self._let_go(name)
        delays = self._loaded[program.stamp]
        try:
            delays.start(program.interface.shaped, netns=program.interface.netns)
        except CaptureError as error:
            self._broke(f"delay is not measured: {error}")
        else:
            self.why = ""
            self._alarms.end("capture")
            self._windows = KernelWindows(delays, horizon=HORIZON, taus=TAUS, now=self._clock.monotonic())

    def window(self, program: Program, *, now: float, queued: Mapping[Handle, int] | None) -> CaptureWindow | None:
        """What was counted since the last call, None where nothing is.

        `queued` packets by classid end the account: what neither left nor is queued was lost.
        """
        if self._windows is None and now >= self._again:
            self.open(program)
        if self._windows is None:
            return None
        try:
            return self._windows.window(now=self._clock.monotonic(), queued=queued)
        except BpfError as error:
            self.refuse(f"the kernel's counts cannot be read: {error.message}")
            self._broke(self.refused)
        except CaptureError as error:
            self._broke(f"delay is no longer measured: {error}")
        return None

    def release(self) -> None:
        """Gives back programs, maps and the socket: what is left on a hook counts nothing. Harmless when done twice."""
        self._windows = None
        for name in list(self._loaded):
            self._let_go(name)
        if self.instance:
            self.instance = self._another()

    def _broke(self, why: str) -> None:
        self.why = why
        self._windows = None
        self._again = self._clock.boot() + REOPEN
        self._alarms.sound("capture", why)

    def _let_go(self, name: str) -> None:
        self._kernel.programs.pop(name, None)
        self._loaded.pop(name).close()

    @staticmethod
    def _another() -> str:
        """No program of another process that may still stand on a hook has it in its name."""
        return f"{os.getpid()}.{next(_serial)}"


def _counting(program: Program) -> Counting | None:
    root = program.tree.root()
    if root is None or root.stab is None:
        return None
    table = root.stab
    cells = table.linklayer == ATM
    return Counting(table.overhead, table.mpu, cells, bool(table.slots), table.cell_log, table.cell_align)


def measured(program: Program, *, most: int) -> tuple[Handle, ...]:
    """The handles of the leaves that are measured: all, or of more than `most` those with targets, and the first."""
    leaves = sorted(program.interface.leaves(), key=lambda leaf: not leaf.sla)
    return tuple(sorted(program.handles[leaf.path] for leaf in leaves[:most]))
