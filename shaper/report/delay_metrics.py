"""Metrics of what a delay figure is worth: jitter, samples, window, source, coverage, and the interval of a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

from shaper.model.observation import DelayView
from shaper.model.status import ClassStatus

Row = tuple[tuple[str, ...], ClassStatus]


class _Gauge(NamedTuple):
    """One number a class."""

    name: str
    help: str
    value: Callable[[DelayView], float | None]


class _Quantiles(NamedTuple):
    """One number a quantile."""

    name: str
    help: str
    values: Callable[[DelayView], Mapping[float, float]]


_SAMPLES = _Gauge("shaper_class_delay_samples", "Packets that the class's delay is of.", lambda v: v.count)
_GAUGES = (
    _Gauge("shaper_class_delay_window_seconds", "Time in which these packets left.", lambda v: v.window),
    _Gauge("shaper_class_delay_sampling", "One packet in so many was looked at.", lambda v: v.sampling),
    _Gauge(
        "shaper_class_delay_coverage_ratio",
        "Share of the class's packets that was measured, since the start.",
        lambda v: v.coverage,
    ),
)
_QUANTILES = (
    _Quantiles(
        "shaper_class_jitter_seconds", "Quantile of the delay over the least delay (PDV).", lambda v: v.variation
    ),
    _Quantiles(
        "shaper_class_ipdv_seconds", "Quantile of the difference of consecutive packets' delays.", lambda v: v.ipdv
    ),
    _Quantiles("shaper_class_delay_low_seconds", "Low end of a sampled quantile's 95 % interval.", lambda v: v.low),
    _Quantiles("shaper_class_delay_high_seconds", "High end of a sampled quantile's 95 % interval.", lambda v: v.high),
)


def delay_families(labels: Sequence[str], rows: Sequence[Row]) -> Iterator[Metric]:
    """Of the classes whose packets were measured; `labels` are the names of each row's values."""
    views = [(values, one.delay) for values, one in rows if one.delay is not None and one.delay.count]
    samples = GaugeMetricFamily(_SAMPLES.name, _SAMPLES.help, labels=(*labels, "source"))
    for values, view in views:
        samples.add_metric((*values, view.source), view.count)
    yield samples
    for gauge in _GAUGES:
        family = GaugeMetricFamily(gauge.name, gauge.help, labels=labels)
        for values, view in views:
            if (number := gauge.value(view)) is not None:
                family.add_metric(values, float(number))
        yield family
    for each in _QUANTILES:
        family = GaugeMetricFamily(each.name, each.help, labels=(*labels, "percentile"))
        for values, view in views:
            for quantile, seconds in sorted(each.values(view).items()):
                family.add_metric((*values, f"{quantile * 100:.6g}"), seconds)
        yield family
