"""Numbers and strangers' text, made fit for a line of a terminal."""

from __future__ import annotations

import math
from datetime import datetime

from shaper.model.decision import Change, Grant
from shaper.model.freeze import Freeze
from shaper.model.status import ScheduleStatus
from shaper.units import format_duration, format_percent, format_rate, format_size


def clean(text: str) -> str:
    r"""Text without control characters: `\x1b` is shown, not obeyed, so that no name in a policy moves the cursor."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def decimals(value: float) -> str:
    """Three significant digits below 100, whole numbers above: `0.11`, `71.2`, `1234`."""
    if not math.isfinite(value):
        return "inf"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def size_text(size: int) -> str:
    """Bytes to three digits: `58.2kb`."""
    return format_size(float(f"{size:.3g}"))


def when(at: float) -> str:
    """Wall time (Unix, s) in the machine's own zone."""
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")


def frozen_text(freeze: Freeze) -> str:
    """Who froze it, why, since when and until when."""
    until = "until `shaper thaw`" if freeze.until is None else f"until {when(freeze.until)}"
    since = f"since {when(freeze.at)}, " if freeze.at else ""
    return f"{freeze.words} ({since}{until})"


def schedule_text(schedule: ScheduleStatus) -> str:
    """What holds of a schedule, until when, and what then."""
    if schedule.next_at is None:
        return f"schedule: {schedule.holds} holds, and nothing ever changes"
    return f"schedule: {schedule.holds}, until {schedule.next_local}; then {schedule.next_holds}"


def target_text(target: str, value: float) -> str:
    """A value in the unit of its target: `delay-p99` in time, `loss` in percent, `throughput` as a rate."""
    if not math.isfinite(value):
        return "endless"
    if target.startswith(("delay-", "jitter-")):
        return format_duration(value)
    if target == "mos":
        return f"{value:.2f}"
    return format_percent(value) if target == "loss" else format_rate(float(f"{value:.4g}"))


def target_of(grant: Grant) -> str:
    """The target of its AQM, `none` where it has none."""
    return format_duration(grant.target / 1e6) if grant.target else "none"


def moved_text(change: Change) -> str:
    """From what to what: `rate 3mbit -> 8.747mbit, queue 25kb -> 63.7kb`."""
    before, after = change.before, change.after
    parts = (
        ("rate", format_rate(before.rate), format_rate(after.rate)),
        ("ceil", format_rate(before.ceil), format_rate(after.ceil)),
        ("queue", size_text(before.queue), size_text(after.queue)),
        ("AQM target", target_of(before), target_of(after)),
    )
    return ", ".join(f"{name} {old} -> {new}" for name, old, new in parts if old != new)
