"""What TCP shows of a class: words for people, and metric families."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from rich.text import Text

from shaper.model.status import ClassStatus
from shaper.model.tcp import TcpView
from shaper.report.words import clean, decimals

_SERIES: tuple[tuple[str, str, Callable[[TcpView], float | None]], ...] = (
    ("segments_total", "TCP segments that left, of the flows looked at.", lambda v: v.segments),
    ("retransmitted_segments_total", "Of these, those that had left before.", lambda v: v.retransmitted),
    ("rtt_samples_total", "Round trips that were timed.", lambda v: v.samples),
    ("flows", "Flows of TCP that were heard of in the last 10 s.", lambda v: v.flows),
    ("rtt_seconds", "Mean of their smoothed round trips, from behind this queue.", lambda v: v.rtt),
    ("least_rtt_seconds", "The least round trip.", lambda v: v.least),
    ("sampling", "Of so many flows one is looked at.", lambda v: v.sampling),
)


def tcp_families(labels: Sequence[str], rows: Sequence[tuple[tuple[str, ...], ClassStatus]]) -> Iterator[Metric]:
    """Of the classes of which something is known; absent where there is no data."""
    known = [(values, one.tcp) for values, one in rows if one.tcp is not None]
    for name, text, value in _SERIES:
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(f"shaper_class_tcp_{name}", text, labels=labels)
        for values, view in known:
            if (number := value(view)) is not None:
                family.add_metric(values, float(number))
        yield family


def tcp_words(view: TcpView | None) -> str:
    """Of a class in a line, "" where no TCP was seen."""
    if view is None or not view.segments:
        return ""
    rtt = f"round trip {decimals(view.rtt * 1e3)} ms" if view.rtt is not None else "no round trip of late"
    least = "" if view.least is None else f" (least {decimals(view.least * 1e3)})"
    flows = f"{view.flows} flow{'s' * (view.flows != 1)}"
    flows += f" (of 1 in {view.sampling})" if view.sampling > 1 else ""
    again = f"{decimals((view.ratio or 0.0) * 100)}% of {view.segments} segments sent again"
    return f"TCP: {flows}, {rtt}{least}, {again}"


def tcp_sentences(classes: Iterable[ClassStatus]) -> Iterator[Text]:
    """For the classes that carried some."""
    for one in classes:
        if words := tcp_words(one.tcp):
            yield Text(clean(f"{one.path}: {words}"))
