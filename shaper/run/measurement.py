"""One measurement of what is there, without controlling: by packets captured for it, or from a running shaper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from collectors.capture import Capture
from collectors.errors import CaptureError
from collectors.evidence import Evidence
from collectors.histogram import DelayHistogram
from collectors.sample import FlowKey
from shaper.compile.program import Program
from shaper.compile.tap import DETAILS, filters
from shaper.errors import ShaperError, TryAgainError, UnavailableError
from shaper.kernel.protocol import ClassCounters, DeviceCounters, Kernel, within
from shaper.model.match import Packet, classify
from shaper.model.measurement import ClassMeasure, Loss, Measurement
from shaper.model.observation import CaptureHealth
from shaper.model.policy import Interface
from shaper.model.status import ClassStatus, InterfaceStatus
from shaper.model.tcp import TcpView
from shaper.run.alarms import Alarms
from shaper.run.clock import Clock
from shaper.run.observe import SLA_WINDOW
from shaper.run.policed import counted
from shaper.run.recorder import COUNTS, Recorder, Wanted, call, histogram_view
from shaper.run.standing import interface_of, program_of
from shaper.run.state import DeviceState
from shaper.run.trips import Trips
from shaper.stats import Availability, availability

HORIZON = 3.0
"""Seconds after which a packet that never left its queue counts as lost."""

_EVERY = 0.2
_SETTLE = 0.15
_NOTHING = ClassCounters(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """`seconds` to measure, `flows` of each class to name; `evidence` says what to keep and where, None for nothing.

    With a `secret` addresses are told by a hash. At most one packet in `sampling`, a power of two, is looked at.
    """

    seconds: float
    flows: int = 5
    pcap: Path | None = None
    room: int = 0
    payload: bool = False
    secret: bytes = b""
    sampling: int = 1


@dataclass(slots=True)
class _Queue:
    """What the counters of a class said, time after time."""

    backlogs: list[int]
    seconds: list[tuple[int, int]]
    last: ClassCounters


def wanted_of(interface: Interface) -> dict[str, Wanted]:
    """What is asked of each class of an interface."""
    return {leaf.path: Wanted(leaf.sla, leaf.service) for leaf in interface.leaves()}


def measure(
    kernel: Kernel, state: DeviceState, asked: Asked, *, clock: Clock, sleep: Callable[[float], None]
) -> Measurement:
    """Captures for as long as is asked, and reads the counters meanwhile. Nothing is written to the kernel.

    Raises UnavailableError when nothing of ours is there.
    """
    kernel = within(kernel, state.netns)
    record = state.record()
    if record is None:
        raise UnavailableError(f"nothing of the shaper's is on {state.title}", hint="apply a policy first")
    interface = interface_of(record)
    program = program_of(record, interface, kernel.capabilities(), kernel.link(state.device))
    handles = {program.handles[leaf.path]: leaf.path for leaf in interface.leaves()}
    evidence = None
    if asked.pcap is not None:
        evidence = _refusable(lambda: Evidence(_named(asked, state), room=asked.room, **_kept(asked)))
    capture, why = _capture(program, evidence, asked.sampling)
    recorder = Recorder(handles, wanted_of(interface))
    trips = Trips(clock, Alarms())
    try:
        first = counted(kernel, program)
        queues = {handle: _Queue([], [], first.classes.get(handle, _NOTHING)) for handle in handles}
        begun = clock.boot()
        if capture is not None:
            trips.open(program)

        def count() -> DeviceCounters:
            trips.read(program, now=clock.boot())
            return counted(kernel, program)

        last = _watch(count, asked, capture, recorder, queues, clock=clock, sleep=sleep)
        seconds = clock.boot() - begun
        if capture is not None:
            sleep(_SETTLE)
            queued = {handle: one.queued_packets for handle, one in counted(kernel, program).classes.items()}
            recorder.add(capture.settle(now=clock.wall(), queued=queued))
        measures = recorder.measures(_hitters(capture, asked))
        tcp = trips.views(program, flows=asked.flows, secret=asked.secret)
    except CaptureError as error:
        raise ShaperError(f"the measurement broke off: {error}", hint=error.hint) from error
    finally:
        trips.release()
        if capture is not None:
            capture.close()
        files = evidence.close() if evidence is not None else ()
    allocation = program.allocation_in(program.tree)
    paths = {path: handle for handle, path in handles.items()}
    return Measurement(
        interface=interface.name,
        device=state.spot,
        direction=state.direction,
        source="capture" if capture is not None else "counters",
        seconds=seconds,
        sampling=recorder.sampling,
        classes=tuple(
            _counted(
                replace(one, tcp=tcp.get(one.path)),
                first.classes.get(paths[one.path], _NOTHING),
                last.classes.get(paths[one.path], _NOTHING),
                queues[paths[one.path]],
                seconds=seconds,
                limit=allocation[one.path].queue,
                wanted=wanted_of(interface)[one.path],
            )
            for one in measures
        ),
        capture=recorder.health if capture is not None else CaptureHealth(running=False, reason=why),
        files=tuple(str(file) for file in files),
    )


def _watch(
    count: Callable[[], DeviceCounters],
    asked: Asked,
    capture: Capture | None,
    recorder: Recorder,
    queues: Mapping[int, _Queue],
    *,
    clock: Clock,
    sleep: Callable[[float], None],
) -> DeviceCounters:
    """Drains the capture and reads the counters until the time is over; the last counters."""
    end = clock.boot() + asked.seconds
    second = clock.boot() + 1.0
    while True:
        sleep(max(0.0, min(_EVERY, end - clock.boot())))
        if capture is not None:
            recorder.add(capture.drain(now=clock.wall()))
        counters, now = count(), clock.boot()
        for handle, queue in queues.items():
            one = counters.classes.get(handle, _NOTHING)
            queue.backlogs.append(one.backlog_bytes)
            if now >= second:
                lost = one.drops - queue.last.drops
                queue.seconds.append((one.sent_packets - queue.last.sent_packets + lost, lost))
                queue.last = one
        if now >= second:
            second += 1.0
        if now >= end:
            return counters


def _capture(program: Program, evidence: Evidence | None, sampling: int) -> tuple[Capture | None, str]:
    """And why there is none."""
    if program.stamp:
        return None, "delay: no data: what counted it ended with the shaper that had loaded it; `shaper run` counts"
    if not program.measured:
        return None, next((note for note in program.notes if note.startswith("delay:")), "no tap")
    handles, rules = program.handles, program.rules
    sampling = max(program.sampling, sampling)
    after_filter, arriving_filter = filters(sampling, incoming=bool(program.arriving_filter))

    def classid(key: FlowKey) -> int:
        return handles[classify(rules, Packet(*key))]

    return _refusable(
        lambda: Capture(
            netns=program.interface.netns,
            device=program.interface.device,
            tap=program.tap,
            after_filter=after_filter,
            arriving_filter=arriving_filter,
            sampling=sampling,
            classify=classid,
            horizon=HORIZON,
            detailed=not rules.asked().keys().isdisjoint(DETAILS),
            size_of=program.size_of(),
            hitters=True,
            evidence=evidence,
            filters=partial(filters, incoming=bool(program.arriving_filter)),
        )
    ), ""


def _refusable(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except CaptureError as error:
        raise ShaperError(str(error), hint=error.hint) from error


def _named(asked: Asked, state: DeviceState) -> Path:
    assert asked.pcap is not None
    return asked.pcap if state.direction.value == "egress" else asked.pcap.with_stem(f"{asked.pcap.stem}.ingress")


def _kept(asked: Asked) -> dict[str, Any]:
    return {"payload": asked.payload, "secret": asked.secret}


def _hitters(capture: Capture | None, asked: Asked) -> Callable[[int], Sequence[Any]] | None:
    if capture is None or not asked.flows:
        return None
    return lambda classid: capture.hitters(classid, asked.flows, secret=asked.secret)


def _counted(
    one: ClassMeasure,
    first: ClassCounters,
    last: ClassCounters,
    queue: _Queue,
    *,
    seconds: float,
    limit: int,
    wanted: Wanted,
) -> ClassMeasure:
    """With the kernel's counters, which are the truth for loss and throughput: they count every packet."""
    sent, dropped = last.sent_packets - first.sent_packets, last.drops - first.drops
    if sent < 0 or dropped < 0:
        raise TryAgainError("the classes were made anew meanwhile", hint="measure again")
    loss = Loss(dropped, sent + dropped, "counters") if sent + dropped else None
    return replace(
        one,
        throughput=(last.sent_bytes - first.sent_bytes) * 8 / seconds if seconds > 0 else None,
        loss=loss,
        occupancy=sum(queue.backlogs) / len(queue.backlogs) / limit if limit and queue.backlogs else None,
        call=call(wanted, one.delay, loss),
        availability=availability(queue.seconds) if queue.seconds else None,
    )


def between(before: Mapping[str, Any], after: Mapping[str, Any], wanted: Mapping[str, Wanted]) -> Measurement:
    """What a running shaper measured between two answers to `measured`, whose statuses are decoded already.

    Raises TryAgainError where it began anew in between.
    """
    first: InterfaceStatus = before["status"]
    last: InterfaceStatus = after["status"]
    earlier = {one.path: one for one in first.classes}
    if last.seconds < first.seconds or any(one.path not in earlier for one in last.classes):
        raise TryAgainError(f"the shaper on {last.place} began anew meanwhile", hint="measure again")
    seconds = last.seconds - first.seconds
    begun = {path: DelayHistogram.from_json(data) for path, data in before["delays"].items()}
    sampling = max((one.delay.sampling for one in last.classes if one.delay is not None), default=1)
    health = last.capture
    return Measurement(
        interface=last.interface,
        device=last.device,
        direction=last.direction,
        source="run",
        seconds=seconds,
        sampling=sampling,
        classes=tuple(
            _difference(
                earlier[one.path],
                one,
                DelayHistogram.from_json(after["delays"][one.path]).since(begun[one.path]),
                wanted.get(one.path, Wanted()),
                sliced=after.get("sliced", {}).get(one.path, 0) > before.get("sliced", {}).get(one.path, 0),
                seconds=seconds,
                sampling=sampling,
            )
            for one in last.classes
        ),
        capture=replace(health, **{name: getattr(health, name) - getattr(first.capture, name) for name in COUNTS}),
    )


def _difference(
    before: ClassStatus,
    after: ClassStatus,
    delays: DelayHistogram,
    wanted: Wanted,
    *,
    sliced: bool,
    seconds: float,
    sampling: int,
) -> ClassMeasure:
    sent = after.sent_packets - before.sent_packets
    dropped = after.dropped_packets - before.dropped_packets
    if sent < 0 or dropped < 0 or delays.count < 0:
        raise TryAgainError(f"the class {after.path} began anew meanwhile", hint="measure again")
    loss = Loss(dropped, sent + dropped, "counters") if sent + dropped else None
    source = after.delay.source if after.delay is not None else "run"
    delay = histogram_view(
        delays,
        wanted.sla,
        window=seconds,
        sampling=sampling,
        source=source,
        coverage=delays.count / sent if sent else None,
        ends={} if sliced else None,  # which delays are of which slice is not told
    )
    whole = seconds >= SLA_WINDOW  # the run keeps what came in those, and no more of it
    return ClassMeasure(
        path=after.path,
        throughput=(after.sent_bytes - before.sent_bytes) * 8 / seconds if seconds > 0 else None,
        loss=loss,
        delay=delay,
        mean=delays.sum / delays.count if delays.count else None,
        ipdv=after.delay.ipdv if after.delay is not None and whole else {},
        peaks=after.burst.peaks if after.burst is not None and whole else {},
        occupancy=after.occupancy,
        in_flight=after.in_flight,
        call=call(wanted, delay, loss),
        availability=_seconds_between(before.availability, after.availability),
        tcp=_tcp_between(before.tcp, after.tcp),
    )


def _seconds_between(before: Availability | None, after: Availability | None) -> Availability | None:
    """Of the seconds that ended in between. The tenth bad one in a row makes those before it unavailable, too: of these
    only so many are told as there were."""
    if before is None or after is None:
        return None
    ended = after.available + after.unavailable - before.available - before.unavailable
    unavailable = min(ended, max(0, after.unavailable - before.unavailable))
    return Availability(ended - unavailable, unavailable, after.unknown - before.unknown)


def _tcp_between(before: TcpView | None, after: TcpView | None) -> TcpView | None:
    """Counts of the time in between; round trips as they are smoothed at its end. Flows are told since their start."""
    if before is None or after is None or after.segments < before.segments:
        return after
    return replace(
        after,
        segments=after.segments - before.segments,
        retransmitted=after.retransmitted - before.retransmitted,
        samples=after.samples - before.samples,
    )
