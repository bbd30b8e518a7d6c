"""Delay by captured packets: opened for a program, drained at every tick, opened again when it broke off."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from collectors.capture import Capture
from collectors.duty import Duty
from collectors.errors import CaptureError
from collectors.sample import CaptureWindow, FlowKey
from shaper.compile.program import Program
from shaper.compile.tap import DETAILS, filters
from shaper.model.match import Packet, classify
from shaper.run.alarms import Alarms
from shaper.run.clock import Clock

HORIZON = 3.0
"""Seconds after which a packet that never left the queue counts as lost."""

REOPEN = 5.0
"""Seconds between attempts to measure delay again after the capture broke off."""

_ASIDE = 0
"""The class of packets that are nobody's: no class has this handle."""

_STEP = 0.05
"""Seconds by which the wall clock must run from the boot clock between two ticks to have been set."""


class Capturing:
    """Holds the capture's sockets until `release`. `why` says why there is no capture, while there is none."""

    def __init__(self, clock: Clock, alarms: Alarms, *, aside: Callable[[FlowKey], bool] = lambda _: False) -> None:
        """`aside` are packets that count for no class."""
        self.why = ""
        self._aside = aside
        self._clock = clock
        self._alarms = alarms
        self._capture: Capture | None = None
        self._again = 0.0
        self._offset = clock.wall() - clock.boot()

    def open(self, program: Program) -> None:
        """Begins anew; where that fails it is an alarm, and `window` tries again later."""
        self.release()
        if not program.measured:
            self.why = next((note for note in program.notes if note.startswith("delay:")), "no tap")
            return
        handles, rules = program.handles, program.rules

        def classid(key: FlowKey) -> int:
            return _ASIDE if self._aside(key) else handles[classify(rules, Packet(*key))]

        try:
            self._capture = Capture(
                netns=program.interface.netns,
                device=program.interface.device,
                tap=program.tap,
                after_filter=program.tap_filter,
                arriving_filter=program.arriving_filter,
                sampling=program.sampling,
                classify=classid,
                horizon=HORIZON,
                detailed=not rules.asked().keys().isdisjoint(DETAILS),
                size_of=program.size_of(),
                filters=partial(filters, incoming=bool(program.arriving_filter)),
                duty=Duty(),
            )
        except CaptureError as error:
            self.why = f"{error}"
            self._alarms.sound("capture", f"delay is not measured: {error}")
            self._again = self._clock.boot() + REOPEN
        else:
            self.why = ""
            self._alarms.end("capture")

    def release(self) -> None:
        """Gives back the sockets. Harmless when done twice."""
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    @property
    def wait(self) -> float:
        """Seconds until it wants to be tended, infinite where a tick does."""
        return math.inf if self._capture is None else max(0.0, self._capture.due - self._clock.wall())

    def tend(self) -> None:
        """Goes on between two ticks; what fails is an alarm, and `window` tries again later."""
        if self._capture is not None and not self.wait:
            try:
                self._capture.tend(now=self._clock.wall())
            except (CaptureError, OSError) as error:
                self._broke(error)

    def _broke(self, error: Exception) -> None:
        self.why = f"the capture broke off: {error}"
        self._alarms.sound("capture", f"delay is no longer measured: {error}")
        self.release()
        self._again = self._clock.boot() + REOPEN

    def window(self, program: Program, *, now: float, queued: Mapping[int, int] | None) -> CaptureWindow | None:
        """What was seen since the last call, None without a capture.

        `queued` packets by classid end the account: what neither left nor is queued was lost.
        """
        if self._capture is None and program.measured and now >= self._again:
            self.open(program)
        return None if self._capture is None else self._drain(self._capture, program, queued)

    def _drain(self, capture: Capture, program: Program, queued: Mapping[int, int] | None) -> CaptureWindow | None:
        try:
            if queued is not None:
                return capture.settle(now=self._clock.wall(), queued=queued)
            window = capture.drain(now=self._clock.wall())
        except (CaptureError, OSError) as error:
            self._broke(error)
            return None
        finally:
            before, self._offset = self._offset, self._clock.wall() - self._clock.boot()
        if abs(self._offset - before) <= _STEP:
            return window
        # Stamps from before and after cannot be compared: what is in the queue is let go, and counting begins anew.
        self.open(program)
        self.why = f"the wall clock was set by {self._offset - before:+.2f} s: the capture began anew"
        return None
