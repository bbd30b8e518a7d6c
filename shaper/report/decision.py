"""One decision of the controller explained: what it saw, what each class wanted, what bound it, what it did and got."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaper.control import ClassSetup
from shaper.history.codec import encode
from shaper.history.records import JournalLine, ObservationRow
from shaper.model.decision import Change, Grant, Want
from shaper.model.observation import ClassObservation
from shaper.model.sla import SlaResult, SlaState
from shaper.report.link_rate import link_moved
from shaper.report.outcome import Outcome, outcome, outcome_lines
from shaper.report.render import whole_table
from shaper.report.tables import STATES, plain_table
from shaper.report.words import clean, decimals, moved_text, size_text, target_text
from shaper.sla import evaluate
from shaper.units import format_duration, format_percent, format_rate

BOUNDS = {
    "none": "nothing",
    "link": "the link is full",
    "parent": "its inner class is full",
    "tier": "higher tiers come first",
    "peers": "others of its tier cost less for their share, and not all SLAs fit",
    "limit": "its limit",
    "floor": "its floor",
}
"""The rules that set a rate, for people."""

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Part:
    """One class in a decision. `setup` and `want` are None in lines of a shaper that did not keep them."""

    path: str
    seen: ClassObservation | None
    setup: ClassSetup | None
    sla: SlaResult | None
    want: Want | None
    change: Change | None
    grant: Grant
    came: Outcome

    @property
    def told(self) -> bool:
        """Whether something is to be said of what came of it."""
        return self.change is not None or (self.sla is not None and self.sla.state is SlaState.MISSED)


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """A line of the journal with what it means. `later` are the numbers of the decisions in the `seconds` after it."""

    line: JournalLine
    place: str
    parts: tuple[Part, ...]
    seconds: float
    later: tuple[int, ...]


def explained(
    line: JournalLine, rows: Sequence[ObservationRow], *, place: str, seconds: float, later: Sequence[int]
) -> ExplainedDecision:
    """`rows` are the recorded seconds from just before the decision until `seconds` after it."""
    setups = {cls.path: cls for cls in line.premise.setup.classes} if line.premise else {}
    changes = {change.path: change for change in line.decision.changes}
    parts = []
    for path, grant in line.decision.allocation.items():
        seen, setup, want = line.inputs.classes.get(path), setups.get(path), line.decision.wants.get(path)
        sla = _judged(setup, seen) if setup is not None and seen is not None else None
        missed = bool(want and want.missed) or (sla is not None and sla.state is SlaState.MISSED)
        came = outcome(path, setup.sla if setup else None, rows, at=line.at, missed=missed)
        parts.append(Part(path, seen, setup, sla, want, changes.get(path), grant, came))
    return ExplainedDecision(line, place, tuple(parts), seconds, tuple(later))


def _judged(setup: ClassSetup, seen: ClassObservation) -> SlaResult:
    """The targets by what this tick saw: delay over its window, loss and throughput of the tick."""
    throughput = seen.sent_bytes * 8 / seen.seconds
    pressed = seen.backlog_bytes > 0 or seen.dropped_packets > 0
    return evaluate(
        setup.sla,
        path=setup.path,
        delay=seen.delay,
        offered_packets=seen.sent_packets + seen.dropped_packets,
        dropped_packets=seen.dropped_packets,
        throughput=throughput,
        waiting=throughput if pressed else None,
    )


def decision_json(found: ExplainedDecision) -> dict[str, Any]:
    """All of it."""
    line, premise = found.line, found.line.premise
    return {
        "number": line.number,
        "at_unix_s": line.at,
        "device": line.device,
        "applied": line.applied,
        "held": line.decision.held,
        "bandwidth_bit_s": premise.setup.link.bandwidth if premise else None,
        "tick_s": line.inputs.seconds,
        "capture": encode(line.inputs.capture),
        "link": encode(line.decision.link),
        "classes": [_part_json(part) for part in found.parts],
        "shortfalls": encode(line.decision.shortfalls),
        "given_up": encode(line.decision.given_up),
        "read_back": encode(line.read_back),
        "looked_ahead_s": found.seconds,
        "later": list(found.later),
    }


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "class": part.path,
        "tier": part.setup.tier.name.lower() if part.setup else None,
        "seen": encode(part.seen),
        "sla": encode(part.sla),
        "wanted": encode(part.want),
        "change": encode(part.change),
        "granted": encode(part.grant),
        "came": {
            "held_after_s": part.came.held_after,
            "missed_after_s": part.came.missed_after,
            "seconds": [
                {
                    "after_s": one.after,
                    "delay_s": {str(percentile): delay for percentile, delay in one.delays.items()},
                    "samples": one.count,
                    "loss_ratio": one.loss,
                    "sends_bit_s": one.sends,
                    "rate_bit_s": one.rate,
                    "sla": one.state.value,
                    "held": one.held,
                }
                for one in part.came.seconds
            ],
        },
    }


def decision_view(found: ExplainedDecision, *, now: float, out: Console) -> None:
    """For people; `now` is wall time."""
    line = found.line
    at = datetime.datetime.fromtimestamp(line.at).astimezone().isoformat(sep=" ", timespec="milliseconds")
    passed = max(0.0, now - line.at)
    ago = format_duration(round(passed)) if passed < _DAY else f"{passed / _DAY:.0f} days"
    _say(out, f"decision {line.number} of {found.place}, {at} ({ago} ago), {_fate(line)}", style="bold")
    for text in _seen_lines(line):
        _say(out, text)
    _say(out, "")
    whole_table(_seen_table(found.parts), out=out)
    for title, lines in (
        ("missed", list(_targets(found.parts))),
        ("wanted", list(_wanted(found.parts))),
        ("did", [*link_moved(line.decision.link), *_did(found.parts)]),
        ("cannot hold", [one.words for one in line.decision.shortfalls]),
        ("given up, in this order", line.decision.given_up),
        ("came of it", list(_came(found))),
    ):
        if lines:
            _say(out, f"\n{title}", style="bold")
        for text in lines:
            _say(out, f"  {text}")


def _say(out: Console, text: str, *, style: str = "default") -> None:
    out.print(Text(clean(text), style=style), soft_wrap=True)


def _fate(line: JournalLine) -> str:
    if line.applied:
        return "carried out"
    return "not carried out" if line.decision.changes or line.decision.link else "nothing to change"


def _seen_lines(line: JournalLine) -> Iterator[str]:
    classes = line.inputs.classes.values()
    offered = sum(one.offered for one in classes)
    sent = sum(one.sent_bytes * 8 / one.seconds for one in classes)
    link = f" of {format_rate(line.premise.setup.link.bandwidth)}" if line.premise else ""
    capture = line.inputs.capture
    how = capture.reason or "no delay is measured"
    if capture.running:
        lost = f"{format_percent(round(capture.drop_ratio, 5))} of them lost by the capture itself"
        how = f"{capture.captured} frames captured, {lost}" if capture.captured else "nothing captured"
    fresh = "" if line.inputs.fresh else "; the counters could not be read"
    yield (
        f"in {format_duration(line.inputs.seconds)} on a link{link}: {_rate(offered)} offered, {_rate(sent)} sent; "
        f"{how}{fresh}"
    )
    if line.decision.held:
        yield f"held back: {line.decision.held}"


def _seen_table(parts: Sequence[Part]) -> Table:
    numbers = ("offered", "sent", "backlog", "dropped", "p50/p95/p99\nms", "samples")
    rows = plain_table("class", "tier", *numbers, "SLA", numbers=numbers)
    for part in parts:
        seen, view = part.seen, part.seen.delay if part.seen else None
        if seen is None:
            continue
        quantiles = [view.quantiles.get(percentile) for percentile in (0.5, 0.95, 0.99)] if view else []
        rows.add_row(
            Text(clean(part.path)),
            Text(part.setup.tier.name.lower() if part.setup else "-"),
            Text(_rate(seen.offered)),
            Text(_rate(seen.sent_bytes * 8 / seen.seconds)),
            Text(size_text(seen.backlog_bytes)),
            Text(str(seen.dropped_packets)),
            Text("/".join("-" if one is None else decimals(one * 1e3) for one in quantiles) or "no data"),
            Text(str(view.count) if view else "0"),
            Text(*STATES[part.sla.state if part.sla else SlaState.NONE]),
        )
    return rows


def _targets(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        for one in part.sla.targets if part.sla else ():
            if one.state is SlaState.MISSED:
                measured = "no data" if one.measured is None else target_text(one.target, one.measured)
                bound = "at least" if one.at_least else "at most"
                wanted = f"{bound} {target_text(one.target, one.wanted)} wanted"
                late = not one.at_least and one.measured is not None and one.measured <= one.wanted
                lost = "; what was lost counts as late" if late else ""
                yield f"{part.path}: {one.target} {measured}, {wanted} ({one.samples} samples{lost})"


def _wanted(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        want = part.want
        if want is None or not (want.need or want.drain or part.change):
            continue
        drain = f" and {format_rate(want.drain)} to drain its backlog" if want.drain else ""
        missed = f"{want.missed}: " if want.missed else ""
        asked = f"{format_rate(want.need)}{drain} ({missed}{want.source})" if want.need else "nothing for its SLA"
        bound = f", bound by: {BOUNDS.get(want.bound, want.bound)}" if want.bound != "none" else ""
        kept = f"; stays at {format_rate(part.grant.rate)} by the {want.kept}" if want.kept else ""
        yield f"{part.path}: {asked}; given {format_rate(want.given)}{bound}{kept}"


def _did(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        if (change := part.change) is not None:
            yield f"{part.path}: {moved_text(change)}: {change.reason}"


def _came(found: ExplainedDecision) -> Iterator[str]:
    for part in found.parts:
        if part.told:
            yield from outcome_lines(part.came, seconds=found.seconds)
    if found.later:
        listed = ", ".join(map(str, found.later[:8])) + (" ..." if found.later[8:] else "")
        yield f"in the same {format_duration(found.seconds)} it decided again: {listed}"


def _rate(rate: float) -> str:
    return format_rate(float(f"{rate:.3g}"))
