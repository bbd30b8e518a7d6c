"""How the demo looks to a person: live progress on a terminal, a line a run in a pipe, one table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shaper.lab.counters import RunLines
from shaper.lab.fingerprint import Fingerprint
from shaper.units import format_duration, format_percent, format_rate

_BLANK = "-"


class Progress(Protocol):
    """Told what goes on."""

    def begin(self, mode: str, number: int, of: int) -> None: ...

    def watch(self, passed: float, lines: RunLines) -> None: ...


class Quiet:
    """A line a run."""

    def __init__(self, console: Console, seconds: int) -> None:
        self._console = console
        self._seconds = seconds

    def begin(self, mode: str, number: int, of: int) -> None:
        self._console.print(f"run {number} of {of}: {mode}, {self._seconds} s", soft_wrap=True)

    def watch(self, passed: float, lines: RunLines) -> None:
        """Says nothing."""


class Shown:
    """A table that follows the run."""

    def __init__(self, live: Live, seconds: int, paths: Sequence[str]) -> None:
        self._live = live
        self._seconds = seconds
        self._paths = paths
        self._title = ""

    def begin(self, mode: str, number: int, of: int) -> None:
        self._title = f"run {number} of {of}: {mode}"
        self.watch(0.0, RunLines())

    def watch(self, passed: float, lines: RunLines) -> None:
        table = Table(title=f"{self._title}, second {int(passed)} of {self._seconds}", title_justify="left")
        table.add_column("class")
        for heading in ("throughput", "granted", "p99 delay", "dropped"):
            table.add_column(heading, justify="right", min_width=11)
        table.add_column("SLA", min_width=7)
        classes = lines.latest.get("classes", {})
        for path in self._paths:
            one = classes.get(path, {})
            sla = one.get("sla", _BLANK)
            table.add_row(
                path,
                _rate(lines.rate_of(path)),
                _rate(one.get("rate_bit_s")),
                _duration(one.get("delay_p99_s")),
                str(one.get("dropped_packets", _BLANK)),
                Text(sla, style="red" if sla == "missed" else ""),
            )
        self._live.update(table)


@contextmanager
def progress(console: Console, *, seconds: int, paths: Sequence[str]) -> Iterator[Progress]:
    """Live on a terminal, a line a run elsewhere and on one that cannot draw."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield Quiet(console, seconds)
        return
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        yield Shown(live, seconds, paths)


def opening_lines(result: Mapping[str, Any]) -> list[str]:
    """In virtual time, what the figures depend on; nothing in real time, where it is the moment."""
    found = result["fingerprint"]
    return [str(Fingerprint(**found))] if found else []


def final_table(result: Mapping[str, Any]) -> Table:
    """Every class in every run: the shaper's account, and the receiver's beside it."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0))
    table.add_column("class", no_wrap=True)
    table.add_column("run", no_wrap=True)
    for heading in (
        "violation\nseconds",
        "p50\nms",
        "p99\nms",
        "receiver\np99 ms",
        "loss\n%",
        "receiver\nloss %",
        "\nMbit/s",
        "\nsamples",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for path, modes in result["classes"].items():
        for index, (mode, one) in enumerate(modes.items()):
            table.add_row(
                "" if index else path,
                mode,
                _number(one["violation_seconds"], digits=0),
                _number(one["delay_p50_s"], 1e3),
                _number(one["delay_p99_s"], 1e3),
                _number(one["receiver"]["delay_p99_s"], 1e3),
                _number(one["loss_ratio"], 100),
                _number(one["receiver"]["loss_ratio"], 100),
                _number(one["throughput_bit_s"], 1e-6),
                _number(one["samples"], digits=0),
                end_section=index == len(modes) - 1,
            )
    return table


def closing_lines(result: Mapping[str, Any]) -> list[str]:
    """What the table has no column for."""
    totals = {
        mode: sum(modes[mode]["violation_seconds"] or 0 for modes in result["classes"].values())
        for mode in result["utilisation"]
    }
    drops = result["drops"]
    return [
        "",
        f"The same {result['seconds']} s of traffic, once in each run.",
        "violation-seconds in all: " + ", ".join(f"{mode} {total}" for mode, total in totals.items()),
        "link utilisation: " + ", ".join(f"{mode} {_ratio(used)}" for mode, used in result["utilisation"].items()),
        f"drops: {drops['kernel']} by the kernel's counters, {_number(drops['measured'], digits=0)} by the packets",
        *_beyond(result["wan"]),
    ]


def _beyond(wan: Mapping[str, float] | None) -> list[str]:
    """What lies between the shaped link and the receiver."""
    if wan is None:
        return []
    more = f" and up to {format_duration(wan['jitter_s'])} more" if wan["jitter_s"] else ""
    lost = f", and loses {format_percent(wan['loss_ratio'])}" if wan["loss_ratio"] else ""
    delay = format_duration(wan["delay_s"])
    return [
        f"the WAN behind the link takes {delay}{more} each way{lost}; the receiver's delays are without these {delay}"
    ]


def _number(value: float | None, factor: float = 1.0, *, digits: int = 2) -> str:
    return _BLANK if value is None else f"{value * factor:.{digits}f}"


def _duration(seconds: float | None) -> str:
    return _BLANK if seconds is None else format_duration(seconds)


def _ratio(ratio: float | None) -> str:
    return _BLANK if ratio is None else format_percent(ratio)


def _rate(rate: float | None) -> str:
    return _BLANK if rate is None else format_rate(rate)
