"""How a class's packets come and get through: bursts, differences of delay, availability; words and metric families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from rich.table import Table
from rich.text import Text

from shaper.model.status import Burst, ClassStatus, InterfaceStatus
from shaper.report.tables import plain_table
from shaper.report.words import clean, decimals
from shaper.units import format_duration, format_percent

_BURSTS: tuple[tuple[str, str, Callable[[Burst], Mapping[float, float]]], ...] = (
    (
        "burst_bytes",
        "Most bytes of what is not TCP that came in any window of so many seconds, over the SLA window.",
        lambda burst: burst.envelope,
    ),
    (
        "burst_peak_to_mean_ratio",
        "The same over what the mean rate brings in that time.",
        lambda burst: burst.peaks,
    ),
)


def burst_families(labels: Sequence[str], rows: Sequence[tuple[tuple[str, ...], ClassStatus]]) -> Iterator[Metric]:
    """Of the classes of which every arrival was seen; `labels` are the names of each row's values."""
    for name, text, values_of in _BURSTS:
        family = GaugeMetricFamily(f"shaper_class_{name}", text, labels=(*labels, "window"))
        for values, one in rows:
            for tau, number in sorted(values_of(one.burst).items()) if one.burst is not None else ():
                family.add_metric((*values, f"{tau:g}"), float(number))
        yield family


def shape_table(status: InterfaceStatus) -> Table | None:
    """A row by class of a running interface of which any of it is known; None without one."""
    numbers = ("borrowed", "peak/mean\n2ms, 1s", "IPDV p50/p95/p99\nms", "available", "of\ns")
    rows = plain_table("class", *numbers, numbers=numbers)
    for one in status.classes if status.running else ():
        lent = one.borrowing.ratio if one.borrowing is not None else None
        peaks = one.burst.peaks if one.burst is not None else {}
        ipdv = one.delay.ipdv if one.delay is not None else {}
        found = one.availability
        known = found.available + found.unavailable if found is not None else 0
        if lent is None and not peaks and not ipdv and not known:
            continue
        rows.add_row(
            Text(clean(one.path)),
            Text("-" if lent is None else _percent(lent)),
            Text(", ".join(decimals(peaks[tau]) for tau in (min(peaks), max(peaks))) if peaks else "-"),
            Text("/".join(decimals(ipdv[q] * 1e3) for q in (0.5, 0.95, 0.99) if q in ipdv) or "-"),
            Text("-" if found is None or found.ratio is None else _percent(found.ratio)),
            Text(str(known) if known else "-"),
        )
    return rows if rows.row_count else None


def _percent(ratio: float) -> str:
    return format_percent(round(ratio, 4))


def shape_words(one: ClassStatus) -> str:
    """Of a class in a line, "" where nothing of it is known."""
    return "; ".join(_words(one))


def _words(one: ClassStatus) -> Iterator[str]:
    if one.burst is not None and (peaks := one.burst.peaks):
        ends = (min(peaks), max(peaks))
        yield f"bursts {' and '.join(f'{decimals(peaks[tau])} x the mean in {format_duration(tau)}' for tau in ends)}"
    if one.delay is not None and one.delay.ipdv:
        percentile = max(one.delay.ipdv)
        yield f"IPDV p{percentile * 100:.6g} {decimals(one.delay.ipdv[percentile] * 1e3)} ms"
    found = one.availability
    if found is not None and found.ratio is not None:
        yield (f"available {_percent(found.ratio)} of {format_duration(found.available + found.unavailable)}")
