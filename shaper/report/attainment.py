"""How much of a period every agreement held, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaper.report.words import clean, when
from shaper.sla.attainment import Attainment
from shaper.units import format_duration, format_percent


@dataclass(frozen=True, slots=True)
class Account:
    """One direction of a device, as `title` names it, from `since` until `until` (wall time in seconds)."""

    title: str
    since: float
    until: float
    classes: Mapping[str, Attainment]


def account_json(account: Account) -> dict[str, Any]:
    """Seconds of each kind, ratios, and the interval with 95 % confidence."""
    return {
        "place": account.title,
        "since": account.since,
        "until": account.until,
        "classes": {
            path: {
                "attainment_ratio": one.ratio,
                "interval_95": list(one.interval) if one.interval is not None else None,
                "coverage_ratio": one.coverage,
                "met_s": one.met,
                "missed_s": one.missed,
                "missed_for_capacity_s": one.capacity,
                "no_data_s": one.no_data,
                "idle_s": one.idle,
                "longest_miss_s": one.longest,
            }
            for path, one in account.classes.items()
        },
    }


def account_view(account: Account, *, out: Console) -> None:
    """A row by class that promises something, and what the columns mean where it isn't plain."""
    span = format_duration(account.until - account.since)
    out.print(Text(clean(f"{account.title}: {when(account.since)} to {when(account.until)} ({span})"), style="bold"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in ("class", "SLA held", "95 % interval", "missed", "capacity", "at a time", "no data", "idle", "known"):
        table.add_column(Text(name), justify="left" if name == "class" else "right", no_wrap=True)
    for path, one in account.classes.items():
        held, missed = ("-", "default") if one.ratio is None else (format_percent(one.ratio), _style(one))
        between = "-" if one.interval is None else f"{one.interval.low:.3%} to {one.interval.high:.3%}"
        cells = (
            between,
            f"{one.missed} s",
            f"{one.capacity} s",
            f"{one.longest} s",
            f"{one.no_data} s",
            f"{one.idle} s",
        )
        table.add_row(
            Text(clean(path)), Text(held, style=missed), *map(Text, cells), Text(format_percent(one.coverage))
        )
    out.print(table)


def _style(one: Attainment) -> str:
    return "bold red" if one.missed else "green"
