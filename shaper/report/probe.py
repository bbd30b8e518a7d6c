"""What a probe found, for people and for programs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from collectors.histogram import SlidingDelays
from collectors.probe.ntp import ErrorEstimate
from collectors.probe.summary import OneWay, Summary
from shaper.model.probe import Probe
from shaper.policy.names import dscp_text
from shaper.report.words import clean
from shaper.stats.availability import IN_A_ROW, availability
from shaper.units import format_duration, format_percent

_PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe that is over: what was asked, under which `target` name, and what came of it.

    `refusals` are what ICMP or this machine said, by who and what; `ignored` packets that were no answers, by reason.
    """

    target: str
    probe: Probe
    summary: Summary
    own: ErrorEstimate
    peer: ErrorEstimate | None = None
    refusals: Mapping[tuple[str, str], int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=Counter)
    late: int = 0
    skewed: int = 0
    names_seconds: float | None = None


def verdict(probed: Probed) -> str:
    """Why nothing came, "" where something did."""
    if probed.summary.received:
        return ""
    if probed.refusals:
        (by, text), _ = max(probed.refusals.items(), key=lambda item: item[1])
        return f"{by} says: {text}" if by else text
    if probed.ignored:
        reason, count = max(probed.ignored.items(), key=lambda item: item[1])
        return f"no answer that holds: {count} came, {_IGNORED.get(reason, reason)}"
    return "no answer, and no ICMP that says why: filtered on the way, no route back, or nobody there"


_IGNORED = {
    "hmac": "with a digest of another key",
    "short": "too short",
    "error-estimate": "corrupt",
    "unknown-sequence": "to packets that were never sent",
    "not-ours": "to somebody else",
}


def probe_json(probed: Probed) -> dict[str, Any]:
    """Everything, raw samples included; delays in seconds."""
    summary, probe = probed.summary, probed.probe
    way, available = summary.one_way, availability(summary.seconds)
    return {
        "to": probe.to,
        "kind": probe.kind.value,
        "port": probe.port or None,
        "dscp": probe.dscp,
        "interval_s": probe.interval,
        "sent_packets": summary.sent,
        "received_packets": summary.received,
        "lost_packets": summary.lost,
        "loss_ratio": summary.loss,
        "lost_there_packets": summary.ways.there if summary.ways else None,
        "lost_back_packets": summary.ways.back if summary.ways else None,
        "lost_untold_packets": summary.ways.untold if summary.ways else None,
        "duplicates": summary.duplicates,
        "reordered": summary.reordered,
        "late": probed.late,
        "clock_was_set": probed.skewed,
        "why_nothing_came": verdict(probed) or None,
        "refusals": [{"by": by, "says": text, "count": count} for (by, text), count in probed.refusals.items()],
        "ignored": dict(probed.ignored),
        "round_trip": _series(summary.round_trips),
        "waited_here": _series(summary.waits),
        "names_s": probed.names_seconds,
        "phases": {name: _series(values) for name, values in summary.phases.items()},
        "one_way": None
        if way is None
        else {
            "there": _series(way.there),
            "back": _series(way.back),
            "error_s": way.error,
            "error_by": way.basis,
            "clocks_contradicted": way.contradicted,
            "meaningful": way.meaningful,
        },
        "clocks": {"own": _clock(probed.own), "peer": _clock(probed.peer)},
        "ipdv_s": {"there": summary.ipdv_there, "back": summary.ipdv_back, "round_trip": summary.ipdv},
        "pdv_s": {"there": summary.pdv_there, "back": summary.pdv_back, "round_trip": summary.pdv},
        "available_s": available.available,
        "unavailable_s": available.unavailable,
        "hops_left_there": list(summary.hops),
    }


def probe_view(probed: Probed, *, out: Console) -> None:
    """A screen for three in the morning: what arrived, how late, and what the figures are worth."""
    for line in _lines(probed):
        out.print(line, soft_wrap=True)


def _lines(probed: Probed) -> Iterator[Text]:
    summary, probe = probed.summary, probed.probe
    port = f" port {probe.port}" if probe.port else ""
    named = probed.target if probed.target == probe.to else f"{probed.target} ({probe.to})"
    yield Text(clean(f"{probe.kind} to {named}{port}, DSCP {dscp_text(probe.dscp)}"), style="bold")
    loss = "" if not summary.lost else f" ({format_percent(summary.loss or 0)})"
    yield Text(
        f"{summary.sent} sent, {summary.received} answered, {summary.lost} lost{loss}, "
        f"{summary.duplicates} duplicates, {summary.reordered} out of order",
        style="red" if summary.lost else "green",
    )
    if summary.lost and summary.ways is not None:
        untold = f", on either {summary.ways.untold}" if summary.ways.untold else ""
        yield Text(f"Lost on the way there {summary.ways.there}, on the way back {summary.ways.back}{untold}")
    why = verdict(probed)
    if why:
        yield Text(clean(f"Nothing came back: {why}"), style="bold red")
    rows = list(_rows(probed))
    if rows:
        yield Text()
        yield Text(f"{'ms':22}{'least':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'most':>9}{'samples':>9}", style="bold")
        for name, values in rows:
            view = _view(values)
            cells = (min(values), *(view[percentile] for percentile in _PERCENTILES), max(values))
            yield Text(f"{name:22}" + "".join(f"{cell * 1e3:>9.3f}" for cell in cells) + f"{len(values):>9}")
        yield Text()
    if probed.names_seconds is not None:
        yield Text(f"The name was looked up in {format_duration(probed.names_seconds)}")
    if summary.one_way is not None:
        yield Text(_worth(summary.one_way, probed), style="default" if summary.one_way.meaningful else "yellow")
    available = availability(summary.seconds)
    known = available.available + available.unavailable
    if available.ratio is not None and known >= IN_A_ROW:
        yield Text(f"Available {format_percent(available.ratio)} of {known} s")
    if not why:
        for (by, text), count in probed.refusals.items():
            yield Text(clean(f"{by + ' says: ' if by else ''}{text} ({count} times)"), style="yellow")
        for reason, count in probed.ignored.items():
            yield Text(f"{count} packets were no answers: {_IGNORED.get(reason, reason)}", style="yellow")
    if probed.skewed:
        yield Text(f"The clock was set over the way of {probed.skewed} packets: they have no delay", style="yellow")


def _rows(probed: Probed) -> Iterator[tuple[str, Sequence[float]]]:
    """The series that there are."""
    summary = probed.summary
    way = summary.one_way
    rows: tuple[tuple[str, Sequence[float]], ...] = (
        ("round trip", summary.round_trips),
        ("there", way.there if way else ()),
        ("back", way.back if way else ()),
        ("waited here", summary.waits),
        ("PDV there", summary.pdv_there),
        ("PDV back", summary.pdv_back),
        ("PDV", () if way else summary.pdv),
        *((f"  {name}", values) for name, values in summary.phases.items()),
    )
    return (row for row in rows if row[1])


def _worth(way: OneWay, probed: Probed) -> str:
    """How far the one-way figures can be trusted, in a sentence."""
    bound = format_duration(way.error)
    if way.basis == "clocks":
        return f"There and back are within {bound} by the clocks of both ends" + (
            "" if way.meaningful else ": that exceeds the delay, so only PDV says anything"
        )
    if way.contradicted:
        why = "the clocks claim more than the packets bear out"
    elif not probed.own.synchronised:
        why = "this machine's clock is not synchronised"
    elif probed.peer is None or not probed.peer.synchronised:
        why = "the reflector's clock is not synchronised"
    else:
        why = "the clocks are kept no better than that"
    return f"There and back are half the least round trip, within {bound}: {why}, so only PDV says anything"


def _view(values: Sequence[float]) -> Mapping[float, float]:
    """Exact quantiles."""
    delays = SlidingDelays(least=len(values), seconds=math.inf)
    delays.add(0.0, values)
    view = delays.view(_PERCENTILES, ())
    return view.quantiles if view else {}


def _series(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    quantiles = {str(percentile): value for percentile, value in _view(values).items()}
    return {
        "count": len(values),
        "least_s": min(values),
        "largest_s": max(values),
        "mean_s": math.fsum(values) / len(values),
        "quantiles_s": quantiles,
        "samples_s": list(values),
    }


def _clock(estimate: ErrorEstimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {"synchronised": estimate.synchronised, "error_s": estimate.error, "ptp": estimate.ptp}
