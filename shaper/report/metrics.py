"""Prometheus metrics of a running shaper: status to metric families, and the server of `/metrics`.

Base units throughout (seconds, bytes, bytes a second, ratios). What has no data has no sample: absent, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Generic, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from shaper.errors import ShaperError
from shaper.model.observation import Rung
from shaper.model.sla import SlaState, TargetResult
from shaper.model.status import ClassStatus, InterfaceStatus
from shaper.report.delay_metrics import delay_families
from shaper.report.http import MetricsServer
from shaper.report.link_rate import link_families
from shaper.report.probe_metrics import probe_families
from shaper.report.shape import burst_families
from shaper.report.tcp import tcp_families

T = TypeVar("T")
Read = Callable[[], Sequence[InterfaceStatus]]

_INTERFACE = ("interface", "device", "direction")
_CLASS = (*_INTERFACE, "class", "tier")


class _Series(NamedTuple, Generic[T]):
    """One metric: a counter when its name ends in `_total`, else a gauge. `value` gives None for no data."""

    name: str
    help: str
    value: Callable[[T], float | None]


_PER_CLASS: tuple[_Series[ClassStatus], ...] = (
    _Series("shaper_class_sent_bytes_total", "Layer-2 bytes sent.", lambda c: c.sent_bytes),
    _Series("shaper_class_sent_packets_total", "Packets sent.", lambda c: c.sent_packets),
    _Series(
        "shaper_class_dropped_packets_total",
        "Packets dropped, as the kernel counts them at the class's leaf.",
        lambda c: c.dropped_packets,
    ),
    _Series(
        "shaper_class_ecn_marked_packets_total",
        "Packets that the AQM of the class's leaf marked instead of dropping them.",
        lambda c: c.marked_packets,
    ),
    _Series(
        "shaper_class_measured_lost_packets_total",
        "Captured packets that came to the queue and never left it.",
        lambda c: c.measured_lost,
    ),
    *(
        _Series(
            f"shaper_class_policed_{colour}_packets_total",
            f"Packets that the class's policers made {colour}, since they were made.",
            lambda c, colour=colour: getattr(c.policed, colour, None),  # type: ignore[misc]
        )
        for colour in ("green", "yellow", "red")
    ),
    _Series(
        "shaper_class_own_rate_packets_total",
        "Packets that HTB sent by the class's own rate; a super-packet is one.",
        lambda c: c.borrowing.own if c.borrowing else None,
    ),
    _Series(
        "shaper_class_borrowed_packets_total",
        "Packets that HTB sent by a rate borrowed from above; a super-packet is one.",
        lambda c: c.borrowing.borrowed if c.borrowing else None,
    ),
    _Series("shaper_class_backlog_bytes", "Bytes that wait in the queue.", lambda c: c.backlog_bytes),
    _Series("shaper_class_queue_occupancy_ratio", "Share of the queue's limit that is full.", lambda c: c.occupancy),
    _Series("shaper_class_loss_ratio", "Share of the offered packets dropped, over the SLA window.", lambda c: c.loss),
    _Series(
        "shaper_class_granted_rate_bytes_per_second",
        "Rate that the class is sure of now.",
        lambda c: c.granted.rate / 8,
    ),
    _Series(
        "shaper_class_granted_ceil_bytes_per_second",
        "Rate that the class may borrow up to now.",
        lambda c: c.granted.ceil / 8,
    ),
    _Series("shaper_class_queue_limit_bytes", "Most bytes that may wait in the queue now.", lambda c: c.granted.queue),
    _Series(
        "shaper_class_aqm_target_seconds",
        "Delay that the AQM of the class's leaf aims at now, where it has one.",
        lambda c: c.granted.target / 1e6 if c.granted.target else None,
    ),
    _Series(
        "shaper_class_guarantee_bytes_per_second", "The guarantee that the policy gives.", lambda c: c.guarantee / 8
    ),
    _Series(
        "shaper_class_floor_bytes_per_second",
        "The rate that nothing takes from the class.",
        lambda c: c.bounds.rate[0] / 8,
    ),
    _Series("shaper_class_limit_bytes_per_second", "The limit that the policy sets.", lambda c: c.bounds.ceil[1] / 8),
)

_PER_RUNNING_CLASS: tuple[_Series[ClassStatus], ...] = (
    _Series("shaper_class_throughput_bytes_per_second", "Rate sent over the SLA window.", lambda c: c.throughput / 8),
    _Series("shaper_class_offered_bytes_per_second", "Rate that came to the queue.", lambda c: c.offered / 8),
    _Series(
        "shaper_class_availability_ratio",
        "Share of the seconds with packets in which the class was available (ITU-T Y.1540), since the start.",
        lambda c: c.availability.ratio if c.availability else None,
    ),
    *(
        _Series(
            f"shaper_class_{name}_seconds",
            text,
            lambda c, name=name: getattr(c.availability, name.rpartition("_")[2], None),  # type: ignore[misc]
        )
        for name, text in (
            ("available", "Seconds in which the class was available; ten bad ones in a row turn out not to be."),
            ("unavailable", "Seconds of rows of ten and more that lost more than half of their packets."),
            ("availability_unknown", "Seconds without packets, which say nothing of availability."),
        )
    ),
)

_PER_INTERFACE: tuple[_Series[InterfaceStatus], ...] = (
    _Series("shaper_interface_running", "1 while a run holds the interface.", lambda s: s.running),
    _Series("shaper_interface_bandwidth_bytes_per_second", "The link's declared bandwidth.", lambda s: s.bandwidth / 8),
    _Series(
        "shaper_interface_utilisation_ratio",
        "Share of the bandwidth used in the seconds with backlog.",
        lambda s: s.utilisation,
    ),
    _Series(
        "shaper_interface_unshaped_packets_total",
        "Packets that no class took and that went past the shaper.",
        lambda s: s.unshaped_packets,
    ),
    _Series("shaper_interface_alarms", "Alarms that stand; status says which.", lambda s: len(s.alarms)),
    _Series("shaper_frozen", "1 while somebody holds the controller still.", lambda s: s.frozen is not None),
    _Series("shaper_interface_drift", "Parts of our tree that somebody else changed.", lambda s: len(s.drift)),
)

_PER_RUN: tuple[_Series[InterfaceStatus], ...] = (
    _Series("shaper_run_seconds", "How long the run has held the interface.", lambda s: s.seconds),
    _Series("shaper_controller_ticks_total", "Ticks since the start.", lambda s: s.controller.ticks),
    _Series("shaper_controller_changes_total", "Rates changed by the controller.", lambda s: s.controller.changes),
    _Series(
        "shaper_controller_held", "1 while something holds the controller back.", lambda s: bool(s.controller.held)
    ),
    _Series(
        "shaper_shortages_total",
        "SLAs that could not hold, counted as each began.",
        lambda s: s.controller.shortages_begun,
    ),
    _Series(
        "shaper_interface_needed_bandwidth_bytes_per_second",
        "Bandwidth at which every SLA would hold, while one cannot.",
        lambda s: max((one.capacity / 8 for one in s.controller.shortfalls), default=None),
    ),
    _Series("shaper_controller_tick_seconds", "Time that the last tick took.", lambda s: s.controller.tick_seconds),
    _Series("shaper_interface_mends_total", "Times that the run put back what somebody changed.", lambda s: s.mends),
    _Series("shaper_capture_running", "1 while delay and loss of packets are measured.", lambda s: s.capture.running),
)

_PER_CAPTURE: tuple[_Series[InterfaceStatus], ...] = (
    _Series("shaper_capture_packets_total", "Packets captured.", lambda s: s.capture.captured),
    _Series("shaper_capture_sampling", "Of so many packets one is looked at.", lambda s: s.capture.sampling),
    _Series(
        "shaper_capture_listening_ratio",
        "Share of the time in which delays are looked for, in slices where it is less than 1.",
        lambda s: s.capture.listening,
    ),
    _Series(
        "shaper_capture_dropped_packets_total",
        "Packets that the capture itself lost.",
        lambda s: s.capture.capture_drops,
    ),
    _Series(
        "shaper_capture_matched_packets_total", "Packets seen before and after the queue.", lambda s: s.capture.matched
    ),
    _Series(
        "shaper_capture_ambiguous_packets_total", "Packets too alike to be told apart.", lambda s: s.capture.ambiguous
    ),
    _Series("shaper_capture_undecoded_packets_total", "Packets that could not be read.", lambda s: s.capture.undecoded),
    _Series(
        "shaper_capture_super_packets_total",
        "Frames too long to be matched one to one.",
        lambda s: s.capture.super_packets,
    ),
    _Series("shaper_capture_audited_packets_total", "Packets decoded a second time.", lambda s: s.capture.audited),
    _Series(
        "shaper_capture_misclassified_packets_total",
        "Audited packets that came out in another class.",
        lambda s: s.capture.misclassified,
    ),
    _Series(
        "shaper_capture_drop_ratio",
        "Share of the packets that the capture itself lost.",
        lambda s: s.capture.drop_ratio,
    ),
)

# By the kind of target: a stem, the unit's suffix, and what turns the model's unit into it.
_TARGETS = {
    "delay": ("shaper_class_sla_delay", "seconds", 1.0),
    "jitter": ("shaper_class_sla_jitter", "seconds", 1.0),
    "mos": ("shaper_class_sla_mos", "score", 1.0),
    "loss": ("shaper_class_sla_loss", "ratio", 1.0),
    "throughput": ("shaper_class_sla_throughput", "bytes_per_second", 1 / 8),
}


class StatusCollector(Collector):
    """Asks `read` at every scrape. If it fails, the scrape still answers, and `shaper_scrape_success` is 0."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing: `read` is not asked before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families of all interfaces."""
        statuses: Sequence[InterfaceStatus] = ()
        success = True
        try:
            statuses = self._read()
        except ShaperError:
            success = False
        yield GaugeMetricFamily("shaper_scrape_success", "1 when the shaper's status could be read.", value=success)
        yield InfoMetricFamily("shaper_build", "The shaper's version.", value={"version": version("sla-shaper")})
        yield from families(statuses)


def families(statuses: Sequence[InterfaceStatus]) -> Iterator[Metric]:
    """Status as metric families, without those that have no sample."""
    running = [status for status in statuses if status.running]
    classes = [(_class_labels(status, one), one) for status in statuses for one in status.classes]
    measured = [(_class_labels(status, one), one) for status in running for one in status.classes]
    capturing = [status for status in running if status.capture.running]
    made: list[Metric] = [
        *_table(_PER_CLASS, _CLASS, classes),
        *_table(_PER_RUNNING_CLASS, _CLASS, measured),
        _delays(measured),
        *delay_families(_CLASS, measured),
        *burst_families(_CLASS, measured),
        _states(classes),
        *_targets(classes),
        *probe_families(_CLASS, measured),
        *tcp_families(_CLASS, measured),
        *_table(_PER_INTERFACE, _INTERFACE, [(_labels(status), status) for status in statuses]),
        *_table(_PER_RUN, _INTERFACE, [(_labels(status), status) for status in running]),
        *_table(_PER_CAPTURE, _INTERFACE, [(_labels(status), status) for status in capturing]),
        *link_families(_INTERFACE, [(_labels(status), status.link) for status in running if status.link]),
        _modes(running),
        _rungs(running),
        _shortfalls(running),
    ]
    return (family for family in made if family.samples)


def _labels(status: InterfaceStatus) -> tuple[str, ...]:
    return (status.interface, status.device, status.direction.value)


def _class_labels(status: InterfaceStatus, one: ClassStatus) -> tuple[str, ...]:
    return (*_labels(status), one.path, one.tier.name.lower())


def _table(
    series: Iterable[_Series[T]], labels: Sequence[str], rows: Sequence[tuple[tuple[str, ...], T]]
) -> Iterator[Metric]:
    for each in series:
        kind = CounterMetricFamily if each.name.endswith("_total") else GaugeMetricFamily
        family = kind(each.name, each.help, labels=labels)
        for values, subject in rows:
            number = each.value(subject)
            if number is not None and math.isfinite(number):
                family.add_metric(values, float(number))
        yield family


def _delays(rows: Sequence[tuple[tuple[str, ...], ClassStatus]]) -> Metric:
    family = HistogramMetricFamily("shaper_class_delay_seconds", "Queueing delay of captured packets.", labels=_CLASS)
    for values, one in rows:
        histogram = one.histogram
        if one.measured_lost is None and not histogram.count:
            continue  # no capture: nothing was measured
        buckets = [
            (floatToGoString(bound), float(count))  # type: ignore[no-untyped-call]
            for bound, count in zip(histogram.bounds, histogram.counts, strict=True)
        ]
        family.add_metric(values, [*buckets, ("+Inf", float(histogram.count))], histogram.sum)
    return family


def _states(rows: Sequence[tuple[tuple[str, ...], ClassStatus]]) -> Metric:
    family = GaugeMetricFamily(
        "shaper_class_sla_state", "1 for the state that the class's SLA is in.", labels=(*_CLASS, "state")
    )
    for values, one in rows:
        now = one.sla.state if one.sla else SlaState.NONE
        for state in SlaState:
            family.add_metric((*values, state.value.replace(" ", "_")), float(state is now))
    return family


def _targets(rows: Sequence[tuple[tuple[str, ...], ClassStatus]]) -> Iterator[Metric]:
    """The bound and the measured value of every target, and on how many samples; each kind in its own unit."""
    results = [(values, result) for values, one in rows if one.sla for result in one.sla.targets]
    labels = (*_CLASS, "target")
    for kind, (stem, unit, factor) in _TARGETS.items():
        bound = GaugeMetricFamily(f"{stem}_target_{unit}", f"The bound on {kind}.", labels=labels)
        measured = GaugeMetricFamily(f"{stem}_measured_{unit}", f"The {kind} over the SLA window.", labels=labels)
        for values, result in results:
            if result.target.split("-")[0] == kind:
                bound.add_metric((*values, result.target), result.wanted * factor)
                if result.measured is not None:
                    measured.add_metric((*values, result.target), result.measured * factor)
        yield from (bound, measured)
    yield from _table(
        (
            _Series[TargetResult](
                "shaper_class_sla_samples", "Samples that the target was judged on.", lambda r: r.samples
            ),
        ),
        labels,
        [((*values, result.target), result) for values, result in results],
    )


def _rungs(running: Sequence[InterfaceStatus]) -> Metric:
    """By what delay and loss are measured now; counters are read in any case."""
    family = GaugeMetricFamily(
        "shaper_measurement_rung", "1 for what measures delay and loss.", labels=(*_INTERFACE, "rung")
    )
    for status in running:
        for rung in Rung:
            now = status.capture.rung if status.capture.running else Rung.COUNTERS
            family.add_metric((*_labels(status), rung.value), rung is now)
    return family


def _modes(statuses: Iterable[InterfaceStatus]) -> Metric:
    family = InfoMetricFamily("shaper_controller", "How the interface is run.", labels=_INTERFACE)
    for status in statuses:
        family.add_metric(_labels(status), {"mode": status.controller.mode, "policy": status.policy})
    return family


def _shortfalls(statuses: Iterable[InterfaceStatus]) -> Metric:
    """Present, and mostly 0, where the controller runs: then it knows what every class needs."""
    family = GaugeMetricFamily(
        "shaper_class_shortfall_bytes_per_second", "Rate that the class needs and cannot be granted.", labels=_CLASS
    )
    for status in statuses:
        if status.controller.mode.startswith("controlled"):
            short = {each.path: each.need - each.granted for each in status.controller.shortfalls}
            for one in status.classes:
                family.add_metric(_class_labels(status, one), short.get(one.path, 0) / 8)
    return family


def serve(read: Read, *, host: str = "127.0.0.1", port: int) -> MetricsServer:
    """Serves `/metrics` in a thread of its own until closed; port 0 takes a free one. Raises OSError.

    `read` is called from that server's threads.
    """
    registry = CollectorRegistry()
    registry.register(StatusCollector(read))
    return MetricsServer(registry, host=host, port=port)
