"""Round trips and retransmissions of TCP: of what goes out, beside the other measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from collectors.errors import CaptureError
from collectors.frames import flow_key
from collectors.sample import FlowKey
from collectors.tcp.tap import TcpTap
from shaper.compile.program import Program
from shaper.compile.tap import DETAILS, unseen
from shaper.model.match import Packet, classify
from shaper.model.policy import Direction
from shaper.model.tcp import TcpFlow, TcpView
from shaper.run.alarms import Alarms
from shaper.run.capturing import REOPEN
from shaper.run.clock import Clock

_NOBODY = 0
_RESTS = "round trips of TCP are not measured at such a rate: every packet would be copied for it"


class Trips:
    """Holds the tap's socket until `release`. `why` says why nothing is known of TCP, while that is so."""

    def __init__(self, clock: Clock, alarms: Alarms, *, aside: Callable[[FlowKey], bool] = lambda _: False) -> None:
        """`aside` are packets that count for no class: the shaper's own probes."""
        self.why = ""
        self._clock = clock
        self._alarms = alarms
        self._aside = aside
        self._tap: TcpTap | None = None
        self._again: float | None = None
        self._failed = self._rests = False

    def open(self, program: Program) -> None:
        """Begins anew; where that fails it is an alarm, tried again later, and stops nothing else."""
        self.release()
        self.why = _RESTS if self._rests else unknowable(program)
        if self.why:
            self._alarms.end("tcp")
            return
        handles, rules = program.handles, program.rules

        def classid(flow: bytes) -> int:
            key = flow_key(flow)
            return _NOBODY if self._aside(key) else handles[classify(rules, Packet(*key))]

        try:
            self._tap = TcpTap(device=program.interface.device, classify=classid, netns=program.interface.netns)
        except CaptureError as error:
            self._broke(error)
        else:
            self._alarms.end("tcp")

    def release(self) -> None:
        """Gives back the socket. Harmless when done twice."""
        self._again, self._failed = None, False
        if self._tap is not None:
            self._tap.close()
            self._tap = None

    def read(self, program: Program, *, now: float, rests: bool = False) -> None:
        """What came since the last call, at boot time `now`; a few times a second, or the tap runs over.

        While it `rests` there is no socket, for which the kernel would copy every packet; then it begins anew.
        """
        if rests != self._rests:
            self._rests = rests
            self.open(program)
        if self._failed and self._again is None:
            self._again = now + REOPEN
        elif self._again is not None and now >= self._again:
            self.open(program)
        if self._tap is None:
            return
        try:
            self._tap.read(now=now)
        except CaptureError as error:
            self.release()
            self._broke(error)

    def views(self, program: Program, *, flows: int = 0, secret: bytes = b"") -> Mapping[str, TcpView]:
        """By class path, with so many of its flows; no class where nothing is looked at."""
        tap = self._tap
        if tap is None:
            return {}
        found = tap.classes(wall=self._clock.wall())
        views = {}
        for leaf in program.interface.leaves():
            handle = program.handles[leaf.path]
            one = found.get(handle)
            if one is None:
                views[leaf.path] = TcpView(sampling=tap.sampling)
                continue
            views[leaf.path] = TcpView(
                flows=one.flows,
                segments=one.counts.segments,
                retransmitted=one.counts.retransmitted,
                samples=one.counts.timed,
                rtt=one.smoothed,
                least=one.counts.least,
                sampling=tap.sampling,
                largest=tuple(
                    TcpFlow(
                        each.flow,
                        each.counts.segments,
                        each.counts.retransmitted,
                        each.counts.timed,
                        each.smoothed,
                        each.counts.least,
                    )
                    for each in (tap.flows(handle, flows, secret=secret) if flows else ())
                ),
            )
        return views

    def _broke(self, error: CaptureError) -> None:
        self.why = f"round trips of TCP are not measured: {error}"
        self._alarms.sound("tcp", self.why)
        self._failed = True


def unknowable(program: Program) -> str:
    """Why nothing can be said of TCP's classes, "" where it can."""
    if program.interface.direction is not Direction.EGRESS:
        return "round trips of TCP are measured of what goes out"
    hidden = [*unseen(program.rules), *(f"`{name}`" for name in DETAILS if name in program.rules.asked())]
    if hidden or program.carried != program.rules:
        asked = f": the policy asks for {', '.join(hidden)}" if hidden else ""
        return f"a captured packet does not show to which class a flow of TCP belongs{asked}"
    return ""
