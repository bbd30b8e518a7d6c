"""What a simulation showed, for people: one row a class, and what the controller did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from shaper.units import format_duration, format_percent, format_rate

_MOVES = 40


def simulation_table(result: Mapping[str, Any]) -> Table:
    """The classes that had traffic or are promised something."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for heading in ("sent", "p50", "p99", "lost", "SLA"):
        table.add_column(heading, justify="left" if heading == "SLA" else "right", no_wrap=True)
    for path, one in result["classes"].items():
        if one["sent"] or one["throughput_bit_s"] or one["judged_seconds"]:
            table.add_row(
                path,
                _rate(one["throughput_bit_s"]),
                _delay(one["delay_s"]["p50"]),
                _delay(one["delay_s"]["p99"]),
                format_percent(one["lost"] / one["sent"]) if one["sent"] else "-",
                _verdict(one),
            )
    return table


def simulation_lines(result: Mapping[str, Any]) -> list[str]:
    """What the table has no column for: how it was found, the link, the controller's moves with their reasons."""
    where = "on the virtual-time kernel's own queues" if result["exact"] else "in the model of HTB and FIFOs"
    used = result["utilisation"]
    lines = [
        f"{result['seconds']} s of traffic, seed {result['seed']}, {where}, {result['mode']}",
        *result["notes"],
        "the link was never busy" if used is None else f"link used to {format_percent(used)} while something waited",
        f"the controller made {result['changes']} changes",
    ]
    moves = [
        f"  {decision['at_s']:7.2f} s  {change['path']}: {format_rate(change['before']['rate_bit_s'])} -> "
        f"{format_rate(change['after']['rate_bit_s'])}, {change['reason']}"
        for decision in result["decisions"] or ()
        for change in decision["changes"]
    ]
    return [
        *lines,
        *moves[:_MOVES],
        *([f"  and {len(moves) - _MOVES} more (--json has them)"] if moves[_MOVES:] else []),
    ]


def _verdict(one: Mapping[str, Any]) -> str:
    if not one["targets"]:
        return "no targets"
    if not one["judged_seconds"]:
        return "no data"
    if not one["violation_seconds"]:
        return f"held for {one['judged_seconds']} s"
    return f"missed in {one['violation_seconds']} of {one['judged_seconds']} s"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else format_rate(round(rate))


def _delay(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)
