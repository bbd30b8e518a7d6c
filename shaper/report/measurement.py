"""A measurement as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from shaper.history.codec import encode
from shaper.model.measurement import ClassMeasure, Loss, Measurement
from shaper.model.observation import DelayView
from shaper.model.tcp import TcpFlow, TcpView
from shaper.report.tables import capture_sentences, plain_table
from shaper.report.words import clean, decimals
from shaper.units import format_duration, format_percent, format_rate

_PERCENTILES = (0.5, 0.95, 0.99)
_SOURCES = {
    "capture": "packets captured for this",
    "run": "the running shaper",
    "counters": "the kernel's counters alone",
    "file": "recorded packets",
}


def measurement_json(found: Measurement) -> dict[str, Any]:
    """With what follows from it: ratios, and each percentile over the least delay."""
    data: dict[str, Any] = encode(found)
    data["capture"]["drop_ratio"] = found.capture.drop_ratio
    data["trusted"] = found.capture.trusted
    for one, of in zip(data["classes"], found.classes, strict=True):
        if of.loss is not None:
            one["loss"]["ratio"] = of.loss.ratio
        if of.delay is not None:
            one["delay"]["pdv_s"] = {str(q): seconds for q, seconds in of.delay.variation.items()}
        if of.tcp is not None:
            one["tcp"]["retransmitted_ratio"] = of.tcp.ratio
        if of.availability is not None:
            one["availability"] |= {"ratio": of.availability.ratio, "coverage_ratio": of.availability.coverage}
    return data


def title(found: Measurement) -> Text:
    """What was measured, for how long, and by what."""
    text = Text(clean(found.place), style="bold")
    sampled = f", one packet in {found.sampling}" if found.sampling > 1 else ""
    text.append(f": {format_duration(round(found.seconds, 2))}, by {_SOURCES[found.source]}{sampled}", style="not bold")
    return text


def classes_table(found: Measurement) -> Table:
    """A row by class."""
    numbers = ("rate", "p50/p95/p99\nms", "jitter\np99 ms", "packets", "measured", "loss", "queue\nfull", "MOS")
    rows = plain_table("class", *numbers, numbers=numbers)
    for one in found.classes:
        delay = one.delay
        rows.add_row(
            Text(clean(one.path)),
            Text("-" if one.throughput is None else format_rate(float(f"{one.throughput:.3g}"))),
            Text("no data" if delay is None else "/".join(decimals(delay.quantiles[q] * 1e3) for q in _PERCENTILES)),
            Text("-" if delay is None or 0.99 not in delay.variation else decimals(delay.variation[0.99] * 1e3)),
            Text("0" if delay is None else str(delay.count)),
            Text("-" if delay is None or delay.coverage is None else format_percent(round(delay.coverage, 3))),
            Text("no data" if one.loss is None else f"{decimals(one.loss.ratio * 100)}%"),
            Text("-" if one.occupancy is None else f"{one.occupancy:.0%}"),
            Text("-" if one.call is None else f"{one.call.mos:.2f}"),
        )
    return rows


def flows_table(found: Measurement) -> Table | None:
    """The flows of each class that sent the most, None without any."""
    numbers = ("bytes", "packets")
    rows = plain_table("class", "largest flows", *numbers, numbers=numbers)
    for one in found.classes:
        for number, flow in enumerate(one.flows):
            more = f"+{flow.error}" if flow.error else ""
            rows.add_row(
                Text(clean(one.path) if not number else ""),
                Text(clean(flow.flow)),
                Text(f"{flow.bytes}{more}"),
                Text(str(flow.packets)),
            )
    return rows if rows.row_count else None


def tcp_table(found: Measurement) -> Table | None:
    """A row by class, and one for each flow that was asked for; None where no TCP was seen."""
    numbers = ("flows", "round trip\nms", "least\nms", "segments", "sent\nagain")
    rows = plain_table("class", "TCP", *numbers, numbers=numbers)
    for one in found.classes:
        view = one.tcp
        if view is None or not view.segments:
            continue
        sampled = f"1 flow in {view.sampling}" if view.sampling > 1 else "all flows"
        rows.add_row(Text(clean(one.path)), Text(sampled), Text(str(view.flows)), *_figures(view))
        for flow in view.largest:
            rows.add_row(Text(""), Text(clean(flow.flow)), Text(""), *_figures(flow))
    return rows if rows.row_count else None


def _figures(of: TcpView | TcpFlow) -> Iterator[Text]:
    for seconds in (of.rtt, of.least):
        yield Text("-" if seconds is None else decimals(seconds * 1e3))
    yield Text(str(of.segments))
    yield Text(f"{decimals(of.retransmitted / of.segments * 100)}%" if of.segments else "-")


def sentences(found: Measurement) -> Iterator[Text]:
    """What a sample is worth, what the call was, when it was unavailable, and how far the capture can be trusted."""
    for one in found.classes:
        yield from (Text(clean(f"{one.path}: {words}")) for words in _about(one))
    yield from capture_sentences(found.capture)
    health = found.capture
    if health.running:
        odd = [
            f"{count} {what}"
            for count, what in (
                (health.ambiguous, "too alike to be told apart"),
                (health.undecoded, "not decoded"),
                (health.super_packets, "super-packets"),
            )
            if count
        ]
        if odd:
            yield Text(f"Attributed to no class: {', '.join(odd)} of {health.captured} frames")
        if health.audited:
            yield Text(f"scapy decoded {health.audited} frames: {health.misclassified} belong to another class")
    if found.files:
        yield Text(clean(f"Kept: {', '.join(found.files)}"))


def _about(one: ClassMeasure) -> Iterator[str]:
    if one.delay is not None and one.delay.sampling > 1:
        yield f"of a sample, 95 % confidence: {', '.join(_ends(one.delay))}"
    if one.loss is not None and one.loss.low is not None and one.loss.high is not None:
        yield f"loss from {format_percent(one.loss.low)} to {format_percent(one.loss.high)}, {_basis(one.loss)}"
    if one.call is not None:
        yield (
            f"a call ({one.call.codec}) scores {one.call.mos:.2f}, R {one.call.rating:.1f}: its buffer waits "
            f"{format_duration(one.call.playout)} and misses {format_percent(one.call.lost)}"
        )
    if one.availability is not None and one.availability.unavailable:
        yield f"unavailable for {one.availability.unavailable} s, available for {one.availability.available} s"


def _ends(delay: DelayView) -> Iterator[str]:
    for q in _PERCENTILES:
        low, high = ("?" if end is None else decimals(end * 1e3) for end in (delay.low.get(q), delay.high.get(q)))
        yield f"p{q * 100:.6g} {low} to {high} ms"


def _basis(loss: Loss) -> str:
    return f"{loss.lost} of {loss.offered} sampled packets"
