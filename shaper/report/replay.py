"""Decisions replayed: how many came out as they were recorded, and what the others would be now."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shaper.history.codec import encode
from shaper.history.records import JournalLine
from shaper.model.decision import Decision, Grant
from shaper.report.words import target_of
from shaper.units import format_rate, format_size


@dataclass(frozen=True, slots=True)
class Replayed:
    """A journal line and what the present code decides on the same inputs."""

    line: JournalLine
    now: Decision

    @property
    def differs(self) -> bool:
        """By what it would set, what it says cannot hold, or why it holds back."""
        return _compared(self.line.decision) != _compared(self.now)


def _compared(decision: Decision) -> tuple[object, ...]:
    return dict(decision.allocation), decision.shortfalls, decision.held, _rate(decision)


def _rate(decision: Decision) -> int | None:
    """What the link is given from now on, None where its rate stays."""
    return decision.link.after if decision.link is not None else None


def replay_json(found: Sequence[Replayed], *, without: int) -> dict[str, Any]:
    """Counts, and both decisions of each line in which they differ."""
    return {
        "replayed": len(found),
        "without_premise": without,
        "differ": [
            {
                "at": one.line.at,
                "device": one.line.device,
                "recorded": encode(one.line.decision),
                "replayed": encode(one.now),
            }
            for one in found
            if one.differs
        ],
    }


def replay_lines(found: Sequence[Replayed], *, without: int) -> Iterator[str]:
    """The same for people: each class that would be given something else."""
    for one in found:
        if one.differs:
            at = datetime.datetime.fromtimestamp(one.line.at, datetime.UTC).isoformat(sep=" ", timespec="milliseconds")
            yield f"{at} {one.line.device}:"
            yield from (f"  {words}" for words in _differences(one.line.decision, one.now))
    differ = sum(one.differs for one in found)
    yield f"{len(found)} decisions replayed, {differ} differ"
    if without:
        yield f"{without} lines are of a shaper that did not keep what they stood on: not replayed"


def _differences(then: Decision, now: Decision) -> Iterator[str]:
    why = {change.path: change.reason for change in now.changes}
    for path in sorted({*then.allocation, *now.allocation}):
        before, after = then.allocation.get(path), now.allocation.get(path)
        if before != after:
            yield f"{path}: recorded {_grant(before)}; now {_grant(after)}{f', {why[path]}' if path in why else ''}"
    if _rate(then) != _rate(now):
        words = [format_rate(rate) if (rate := _rate(each)) is not None else "stays" for each in (then, now)]
        yield f"link: recorded {words[0]}; now {words[1]}{f', {now.link.reason}' if now.link else ''}"
    if then.held != now.held:
        yield f"held: recorded {then.held or 'nothing'}; now {now.held or 'nothing'}"
    short: list[Mapping[str, int]] = [
        {one.path: one.need - one.granted for one in each.shortfalls} for each in (then, now)
    ]
    for path in sorted({*short[0], *short[1]}):
        if short[0].get(path) != short[1].get(path):
            words = [format_rate(each[path]) if path in each else "nothing" for each in short]
            yield f"{path} short of: recorded {words[0]}; now {words[1]}"


def _grant(grant: Grant | None) -> str:
    if grant is None:
        return "nothing"
    aqm = f", AQM target {target_of(grant)}" if grant.target else ""
    return f"{format_rate(grant.rate)}, queue {format_size(grant.queue)}{aqm}"
