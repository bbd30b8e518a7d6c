"""What came of a decision: each class in the seconds after it, and whether its targets held again, and how soon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shaper.history.records import ObservationRow
from shaper.model.sla import Sla, SlaState
from shaper.report.words import decimals
from shaper.units import format_duration, format_percent, format_rate


@dataclass(frozen=True, slots=True)
class Second:
    """One class `after` so many seconds. Delays in s reach back as the SLA's do; `loss` and `sends` (bit/s) a second.

    None where nothing was measured, or nothing was offered. `held` says whether the targets did: by the recorded
    verdict, or where that still looks back on an older loss, by this second's own figures.
    """

    after: float
    delays: dict[float, float]
    count: int | None
    loss: float | None
    sends: float | None
    rate: int
    state: SlaState
    held: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """`missed` is whether the class missed a target when it was decided; `seconds` are those after, oldest first."""

    path: str
    missed: bool
    seconds: tuple[Second, ...]

    @property
    def held_after(self) -> float | None:
        """In how many seconds its targets held, None where they never did."""
        return next((one.after for one in self.seconds if one.held), None)

    @property
    def missed_after(self) -> float | None:
        """In how many seconds a target was missed first, None where none was."""
        return next((one.after for one in self.seconds if one.state is SlaState.MISSED and not one.held), None)


def outcome(path: str, sla: Sla | None, rows: Sequence[ObservationRow], *, at: float, missed: bool) -> Outcome:
    """Of one class. `rows` begin with the one before the decision `at` (Unix s), if there is one."""
    mine = [row for row in rows if row.path == path]
    known = [None, *mine]
    seconds = tuple(_second(before, row, sla, at) for before, row in pairwise(known) if row is not None and row.at > at)
    return Outcome(path, missed, seconds)


def _second(before: ObservationRow | None, row: ObservationRow, sla: Sla | None, at: float) -> Second:
    quantiles = {0.5: row.delay_p50, 0.95: row.delay_p95, 0.99: row.delay_p99}
    delays = {percentile: delay for percentile, delay in quantiles.items() if delay is not None}
    loss, sends = _since(before, row)
    held = row.sla is SlaState.MET or (row.sla is SlaState.MISSED and sla is not None and _holds(sla, delays, loss))
    return Second(row.at - at, delays, row.delay_count, loss, sends, row.rate, row.sla, held)


def _since(before: ObservationRow | None, row: ObservationRow) -> tuple[float | None, float | None]:
    """Loss and rate between two rows; None where another run counted anew, the loss also of an idle class."""
    if before is None or row.at <= before.at:
        return None, None
    dropped, sent = row.dropped_packets - before.dropped_packets, row.sent_packets - before.sent_packets
    size = row.sent_bytes - before.sent_bytes
    if min(dropped, sent, size) < 0:
        return None, None
    return dropped / (sent + dropped) if sent + dropped else None, size * 8 / (row.at - before.at)


def _holds(sla: Sla, delays: dict[float, float], loss: float | None) -> bool:
    """Whether a second's own figures keep every target; only where they say something of each."""
    if loss is None or sla.throughput is not None or sla.jitters or sla.mos is not None:
        return False
    if sla.loss is not None and loss > sla.loss:
        return False
    return all(
        (delay := delays.get(target.percentile)) is not None
        and delay <= target.seconds
        and loss <= 1 - target.percentile
        for target in sla.delays
    )


def outcome_lines(found: Outcome, *, seconds: float) -> Iterator[str]:
    """In a sentence, with the figures second by second below it. `seconds` is how far was looked."""
    seen = found.seconds
    if not seen:
        yield f"{found.path}: nothing was recorded in the {format_duration(seconds)} after"
        return
    far = format_duration(round(seen[-1].after, 1))
    if any(one.state is not SlaState.NONE for one in seen):
        if found.missed and found.held_after is not None:
            yield f"{found.path}: its targets held again within {format_duration(round(found.held_after, 1))}"
        elif found.missed:
            yield f"{found.path}: its targets did not hold in {far}"
        elif found.missed_after is not None:
            yield f"{found.path}: missed a target after {format_duration(round(found.missed_after, 1))}"
        elif found.held_after is not None:
            yield f"{found.path}: its targets held for the {far} that were recorded"
        else:
            yield f"{found.path}: no data in {far}"
    else:
        yield f"{found.path}: no targets"
    yield "  sends   " + " ".join("-" if one.sends is None else format_rate(float(f"{one.sends:.3g}")) for one in seen)
    p99 = [one.delays.get(0.99) for one in seen]
    if any(delay is not None for delay in p99):
        yield "  p99 ms  " + " ".join("-" if delay is None else decimals(delay * 1e3) for delay in p99)
    if any(one.loss for one in seen):
        yield "  lost    " + " ".join("-" if one.loss is None else format_percent(round(one.loss, 4)) for one in seen)
