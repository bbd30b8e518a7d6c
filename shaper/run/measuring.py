"""The ladder of measurement: programs in the kernel where they may be loaded, else captured packets, else counters.

The rung is chosen when a policy is compiled, since it decides what stands on the hook. A rung that fails later says so
and is given up at the next mending, where the one below takes over; counters need nothing and always go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from collectors.sample import CaptureWindow, FlowKey
from shaper.compile.program import Program
from shaper.kernel.protocol import Kernel
from shaper.model.observation import Rung
from shaper.run.alarms import Alarms
from shaper.run.capturing import Capturing
from shaper.run.clock import Clock
from shaper.run.stamping import Stamping
from shaper.tree import Handle


class Measuring:
    """Of one interface, until `release`. With `only` one rung it takes no other but the counters.

    With `fine` delays are counted in the kernel by 0.4 % instead of 3 %.
    """

    def __init__(
        self,
        kernel: Kernel,
        clock: Clock,
        alarms: Alarms,
        *,
        only: Rung | None = None,
        fine: bool = False,
        aside: Callable[[FlowKey], bool] = lambda _: False,
    ) -> None:
        """`aside` are packets that count for no class: the shaper's own probes."""
        self._stamping = Stamping(kernel, clock, alarms, fine=fine)
        self._capturing = Capturing(clock, alarms, aside=aside)
        self._only = only
        self._program: Program | None = None
        if only not in (None, Rung.EBPF):
            self._stamping.refuse(f"`--measure {only}` asks for no other")

    # what an apply asks

    @property
    def instance(self) -> str:
        """What tells our programs from those of another process; "" where there are none to lend."""
        return self._stamping.instance

    @property
    def copies(self) -> bool:
        """Whether packets may be copied to be captured."""
        return self._only in (None, Rung.CAPTURE)

    def lend(self, program: Program) -> bool:
        """Whether the program's stamp is loaded now."""
        return self._stamping.lend(program)

    # what a run asks

    @property
    def rung(self) -> Rung:
        """What measures now."""
        if self._program is None or not self._program.measured:
            return Rung.COUNTERS
        if self._program.stamp:
            return Rung.EBPF
        return Rung.CAPTURE if self.copies else Rung.COUNTERS

    @property
    def why(self) -> str:
        """Why nothing but counters is read, "" where more is."""
        if self.rung is Rung.EBPF:
            return self._stamping.why
        if self.rung is Rung.CAPTURE:
            return self._capturing.why
        if not self.copies and self._only is Rung.COUNTERS:
            return f"`--measure {self._only}` asks for no more"
        noted = next((note for note in self._program.notes if note.startswith("delay:")), "") if self._program else ""
        return noted or self.lacking or "no tap"

    @property
    def lacking(self) -> str:
        """Why no higher rung is taken."""
        if self.rung is Rung.EBPF:
            return ""
        unstamped = self._program.unstamped if self._program else ""
        return self._stamping.refused or unstamped

    @property
    def fallen(self) -> bool:
        """Whether what stands on the hook measures no more, and another rung should take over."""
        return self.rung is Rung.EBPF and bool(self._stamping.refused)

    def open(self, program: Program) -> None:
        """Begins anew with what was applied; where that fails it is an alarm, and `window` tries again later."""
        self._program = program
        if program.stamp:
            self._capturing.release()
            self._stamping.open(program)
            return
        self._stamping.release()
        if self.copies:
            self._capturing.open(program)

    def release(self) -> None:
        """Gives everything back. Harmless when done twice."""
        self._stamping.release()
        self._capturing.release()

    @property
    def wait(self) -> float:
        """Seconds until it wants to be tended, infinite where a tick does."""
        return self._capturing.wait

    def tend(self) -> None:
        """Goes on between two ticks, where that is time."""
        self._capturing.tend()

    def window(self, program: Program, *, now: float, queued: Mapping[Handle, int] | None) -> CaptureWindow | None:
        """What was seen since the last call, None where nothing measures.

        `queued` packets by classid end the account: what neither left nor is queued was lost.
        """
        if self.rung is Rung.COUNTERS or self.fallen:
            return None
        rung = self._stamping if program.stamp else self._capturing
        return rung.window(program, now=now, queued=queued)
