"""The probes of classes as metric families, beside those of the classes' own packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from shaper.model.status import ClassStatus, Histogram, ProbeStatus

_COUNTS = (
    ("sent_packets", "Probes sent, those still on their way left out.", "sent"),
    ("lost_packets", "Probes that nobody answered in time.", "lost"),
    ("dropped_packets", "Probes that entered the queue of this hop and never left it.", "dropped"),
    ("duplicates", "Answers beyond the first.", "duplicates"),
    ("reordered_packets", "Probes that a later one overtook (RFC 4737).", "reordered"),
    ("available_seconds", "Seconds that count as available, of the newest hour.", "available"),
    ("unavailable_seconds", "Seconds that count as unavailable, of the newest hour.", "unavailable"),
)
_GAUGES = ("available_seconds", "unavailable_seconds")


def probe_families(labels: Sequence[str], rows: Sequence[tuple[tuple[str, ...], ClassStatus]]) -> Iterator[Metric]:
    """Of the classes that have a probe; the labels are the classes', and the probe's kind and other end."""
    labels = (*labels, "kind", "to")
    probed = [((*values, one.probe.kind.value, one.probe.to), one.probe) for values, one in rows if one.probe]
    for name, text, field in _COUNTS:
        gauge = name in _GAUGES
        made = GaugeMetricFamily if gauge else CounterMetricFamily
        family = made(f"shaper_class_probe_{name}{'' if gauge else '_total'}", text, labels=labels)
        for values, probe in probed:
            family.add_metric(values, float(getattr(probe, field)))
        yield family
    yield _gauge("loss_ratio", "Share of the probes lost over the window.", labels, probed)
    yield _ipdv(labels, probed)
    yield _histogram("round_trip", "Round trips of probes.", labels, [(one, two.round_trips) for one, two in probed])
    yield _histogram("wait", "Waits of probes in the queue of this hop.", labels, [(o, t.waits) for o, t in probed])


def _gauge(
    name: str, text: str, labels: Sequence[str], probed: Sequence[tuple[tuple[str, ...], ProbeStatus]]
) -> Metric:
    family = GaugeMetricFamily(f"shaper_class_probe_{name}", text, labels=labels)
    for values, probe in probed:
        if probe.loss is not None:
            family.add_metric(values, probe.loss)
    return family


def _ipdv(labels: Sequence[str], probed: Sequence[tuple[tuple[str, ...], ProbeStatus]]) -> Metric:
    family = GaugeMetricFamily(
        "shaper_class_probe_ipdv_seconds",
        "Quantile of the difference of consecutive probes' round trips.",
        labels=(*labels, "percentile"),
    )
    for values, probe in probed:
        for quantile, seconds in sorted(probe.round_trip.ipdv.items()) if probe.round_trip is not None else ():
            family.add_metric((*values, f"{quantile * 100:.6g}"), seconds)
    return family


def _histogram(
    name: str, text: str, labels: Sequence[str], rows: Sequence[tuple[tuple[str, ...], Histogram]]
) -> Metric:
    family = HistogramMetricFamily(f"shaper_class_probe_{name}_seconds", text, labels=labels)
    for values, one in rows:
        if one.count:
            pairs = zip(one.bounds, one.counts, strict=True)
            buckets = [(floatToGoString(bound), float(count)) for bound, count in pairs]  # type: ignore[no-untyped-call]
            family.add_metric(values, [*buckets, ("+Inf", float(one.count))], one.sum)
    return family
