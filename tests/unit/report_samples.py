"""One interface in its states, shared by the tests of history and report."""

from __future__ import annotations

from dataclasses import replace

from shaper.model.decision import Bounds, Change, Decision, Grant, Shortfall
from shaper.model.observation import CaptureHealth, ClassObservation, DelayView, Observation, Rung
from shaper.model.policy import Tier
from shaper.model.probe import ProbeKind
from shaper.model.sla import SlaResult, SlaState, TargetResult
from shaper.model.status import Borrowing, Burst, ClassStatus, ControllerStatus, Histogram, InterfaceStatus, ProbeStatus
from shaper.model.tcp import TcpView
from shaper.stats import Availability

M = 1_000_000


def _bounds(floor: int, limit: int) -> Bounds:
    return Bounds((floor, limit), (floor, limit), (3000, 1_000_000))


VOICE = ClassStatus(
    path="voice",
    tier=Tier.SPECIAL,
    granted=Grant(2 * M, 5 * M, 20_000),
    bounds=_bounds(2 * M, 5 * M),
    guarantee=2 * M,
    sent_bytes=125_000,
    sent_packets=625,
    throughput=0.1 * M,
    offered=0.1 * M,
    loss=0.0,
    delay=DelayView(
        250,
        5.0,
        {0.5: 0.00011, 0.95: 0.0004, 0.99: 0.0009},
        {0.01: 0.0},
        0.0012,
        0.00004,
        coverage=1.0,
        ipdv={0.5: 0.00002, 0.95: 0.0003, 0.99: 0.0008},
    ),
    histogram=Histogram((0.001, 0.01, 0.1), (600, 625, 625), 625, 0.09),
    measured_lost=0,
    sla=SlaResult(
        "voice",
        SlaState.MET,
        (
            TargetResult("delay-p99", 0.01, 0.0009, 250, SlaState.MET),
            TargetResult("jitter-p99", 0.005, 0.00086, 250, SlaState.MET),
            TargetResult("loss", 0.001, 0.0, 250, SlaState.MET),
            TargetResult("mos", 4.2, 4.39, 250, SlaState.MET),
        ),
    ),
)
VIDEO = ClassStatus(
    path="video",
    tier=Tier.PRIORITY,
    granted=Grant(6_500_000, 20 * M, 60_000),
    bounds=_bounds(3 * M, 20 * M),
    guarantee=3 * M,
    sent_bytes=9_000_000,
    sent_packets=7_500,
    dropped_packets=75,
    marked_packets=42,
    backlog_bytes=58_200,
    throughput=6.48 * M,
    offered=7.1 * M,
    loss=0.0099,
    delay=DelayView(2_700, 5.0, {0.5: 0.041, 0.95: 0.0712, 0.99: 0.08}, {0.05: 0.21}, 0.0834),
    histogram=Histogram((0.01, 0.05, 0.1), (3000, 5400, 7500), 7500, 201.5),
    measured_lost=74,
    in_flight=48,
    borrowing=Borrowing(2_500, 5_000),
    availability=Availability(27, 12, 3),
    burst=Burst({0.002: 3_028, 0.25: 218_750, 1.0: 850_000}, 6.4 * M),
    tcp=TcpView(3, 5_000, 110, 840, 0.0312, 0.0209, 2),
    sla=SlaResult(
        "video",
        SlaState.MISSED,
        (
            TargetResult("delay-p95", 0.05, 0.0712, 2_700, SlaState.MISSED),
            TargetResult("loss", 0.005, 0.0099, 2_727, SlaState.MISSED),
            TargetResult("throughput", 2e6, 6.48e6, 2_700, SlaState.MET),
        ),
    ),
)
BUSINESS = ClassStatus(
    path="office/business",
    tier=Tier.PRIORITY,
    granted=Grant(1 * M, 20 * M, 30_000),
    bounds=_bounds(1 * M, 20 * M),
    guarantee=1 * M,
    histogram=Histogram((0.02, 0.1), (0, 0), 0, 0.0),
    measured_lost=0,
    sla=SlaResult("office/business", SlaState.NO_DATA, (TargetResult("delay-p99", 0.02, None, 0, SlaState.NO_DATA),)),
)
BULK = ClassStatus(
    path="bulk",
    tier=Tier.STANDARD,
    granted=Grant(4 * M, 20 * M, 100_000),
    bounds=_bounds(500_000, 20 * M),
    guarantee=14 * M,
    sent_bytes=80_000_000,
    sent_packets=54_000,
    dropped_packets=812,
    backlog_bytes=98_000,
    throughput=12.7 * M,
    offered=12.9 * M,
    loss=0.0148,
    delay=DelayView(
        5_200,
        5.0,
        {0.5: 0.061, 0.95: 0.064, 0.99: 0.065},
        {},
        0.07,
        0.02,
        sampling=8,
        coverage=0.124,
        low={0.5: 0.0609, 0.95: 0.0638, 0.99: 0.0647},
        high={0.5: 0.0612, 0.95: 0.0642},
    ),
    histogram=Histogram((0.01, 0.05, 0.1), (10, 100, 53_900), 53_990, 3000.5),
    measured_lost=812,
    in_flight=66,
)

RUNNING = InterfaceStatus(
    interface="wan",
    device="eth1",
    bandwidth=20 * M,
    policy="branch-office",
    source="policies/branch-office.yaml",
    running=True,
    seconds=42.25,
    classes=(VOICE, VIDEO, BUSINESS, BULK),
    controller=ControllerStatus(
        "controlled",
        ticks=169,
        changes=7,
        shortfalls=(Shortfall("video", 7_800_000, 6_500_000, 21_300_000),),
        tick_seconds=0.0031,
    ),
    capture=CaptureHealth(True, 70_000, 0, 62_000, 3, 1, rung=Rung.EBPF, sampling=16),
    utilisation=0.964,
)

PROBED = replace(
    RUNNING,
    classes=(
        VOICE,
        VIDEO,
        replace(
            BUSINESS,
            probe=ProbeStatus(
                ProbeKind.STAMP,
                "192.0.2.10",
                862,
                18,
                judges=True,
                sent=210,
                lost=2,
                duplicates=1,
                loss=0.04,
                round_trip=DelayView(
                    24, 5.0, {0.5: 0.0211, 0.95: 0.0305, 0.99: 0.031}, {}, 0.031, ipdv={0.5: 0.002, 0.99: 0.009}
                ),
                waited=DelayView(15, 5.0, {0.5: 0.0002, 0.95: 0.0011, 0.99: 0.0012}, {0.02: 0.0}, 0.0012),
                round_trips=Histogram((0.025, 0.05), (100, 208), 208, 4.9),
                waits=Histogram((0.02, 0.1), (208, 208), 208, 0.06),
                available=42,
            ),
        ),
        BULK,
    ),
)

HELD = replace(
    RUNNING,
    controller=replace(RUNNING.controller, held="the capture lost 0.57 % of the packets itself", shortfalls=()),
    capture=CaptureHealth(
        True,
        70_000,
        400,
        60_000,
        3,
        1,
        reason="the capture lost 0.57 % of the packets itself",
        rung=Rung.CAPTURE,
        lacking="loading measure.bpf.o: Operation not permitted",
    ),
    unshaped_packets=12,
    alarms=("12 packets passed the shaper unshaped", "history: disk full (4 records wait)"),
)


def _counters_only(status: ClassStatus) -> ClassStatus:
    sla = status.sla and SlaResult(
        status.path,
        SlaState.NO_DATA,
        tuple(replace(each, measured=None, samples=0, state=SlaState.NO_DATA) for each in status.sla.targets),
    )
    return replace(
        status,
        throughput=0.0,
        offered=0.0,
        loss=None,
        delay=None,
        availability=None,
        burst=None,
        histogram=Histogram(),
        measured_lost=None,
        in_flight=0,
        sla=sla,
    )


READ_ONCE = replace(
    RUNNING,
    running=False,
    seconds=0.0,
    classes=tuple(_counters_only(each) for each in RUNNING.classes),
    controller=ControllerStatus("static"),
    capture=CaptureHealth(False, reason="no `shaper run` is up"),
    utilisation=None,
)

OBSERVATION = Observation(
    seconds=0.25,
    classes={
        each.path: ClassObservation(
            path=each.path,
            seconds=0.25,
            sent_bytes=30_000,
            sent_packets=25,
            dropped_packets=3,
            backlog_bytes=each.backlog_bytes,
            offered=each.offered,
            inelastic=each.offered / 2,
            envelope={0.002: 1514, 0.25: 31_000, 1.0: 120_000},
            delay=each.delay,
        )
        for each in RUNNING.classes
    },
    capture=RUNNING.capture,
)

DECISION = Decision(
    allocation={each.path: each.granted for each in RUNNING.classes},
    changes=(
        Change(
            "video",
            Grant(3 * M, 20 * M, 40_000),
            Grant(6_500_000, 20 * M, 60_000),
            "delay-p95 is 71 ms, wanted 50 ms",
            "tier",
            7_800_000,
        ),
    ),
    shortfalls=RUNNING.controller.shortfalls,
    needs={"voice": 200_000, "video": 7_800_000},
)
