"""The one renderer for people: on a terminal in its width and colours, in a pipe plain and 100 columns wide.

NO_COLOR is respected. Text from policies, kernels and errors is never read as markup or as terminal commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaper.errors import Problem, Where
from shaper.model.measurement import Measurement
from shaper.model.status import InterfaceStatus
from shaper.plan.impact import impacts
from shaper.plan.steps import Plan, Verb
from shaper.report import measurement
from shaper.report.shape import shape_table
from shaper.report.steps import step_text, totals_text
from shaper.report.tables import doctor_table, quality_table, status_sentences, status_table, status_title
from shaper.report.words import clean
from shaper.tree import Handle

_PLAIN_WIDTH = 100
_EXCERPT = 80
_STYLES = {Verb.ADD: "green", Verb.CHANGE: "yellow", Verb.DELETE: "red"}


def console(stream: TextIO | None = None) -> Console:
    """A console on the stream (standard output without one)."""
    target = stream if stream is not None else sys.stdout
    terminal = target.isatty()
    return Console(
        file=target,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        width=None if terminal else _PLAIN_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )


def problems(
    found: Sequence[Problem],
    *,
    out: Console,
    summary: bool = False,
    source_text: Callable[[str], str | None] | None = None,
) -> None:
    """Each problem with its line and a caret under the column, as compilers do; `summary` adds how many there are.

    `source_text` gives the text of a file, None where it has none; without it the file is read.
    """
    lookup = source_text or _read
    for problem in found:
        text = Text(clean(f"{problem.where}: ") if problem.where else "", style="bold")
        text.append("error: ", style="bold red")
        text.append(clean(problem.message))
        _line(out, text)
        if problem.where and (source := lookup(problem.where.file)) is not None:
            for line in _excerpt(source, problem.where):
                _line(out, line)
        if problem.hint:
            _line(out, Text("  mend: ", style="green").append(clean(problem.hint), style="default"))
    if summary:
        _line(out, Text(f"{len(found)} problem{'s' if len(found) != 1 else ''}", style="bold"))


def plan_view(
    plan: Plan, *, names: Mapping[Handle, str], notes: Sequence[str], out: Console, done: bool = False, place: str = ""
) -> None:
    """Every step on a line, what it costs below it where it is not hitless or comes late, the notes, the totals.

    `done` when the steps have been taken; `place` names the device and the direction for people.
    """
    for step, impact in zip(plan.steps, impacts(plan, names), strict=True):
        _line(out, Text(clean(step_text(step, names)), style=_STYLES[step.verb]))
        if impact.disruptive:
            _line(out, Text("  ! ", style="bold red").append(clean(f"{impact}"), style="default"))
        elif impact.late:
            _line(out, Text(f"  {clean(impact.reason)}"))
    for note in notes:
        _line(out, Text("note: ", style="cyan").append(clean(note), style="default"))
    _line(out, Text(clean(totals_text(plan, done=done, place=place)), style="bold"))


def status_view(status: InterfaceStatus, *, out: Console) -> None:
    """One interface: a row by class, then in sentences what is missed, short, held, not measured or alarming."""
    _line(out, status_title(status))
    _line(out, Text())
    table = status_table(status)
    if out.is_terminal and _needs(out, table) > out.width:
        table = status_table(status, narrow=True)
    whole_table(table, out=out)
    _line(out, Text())
    for more in (quality_table(status), shape_table(status)):
        if more is not None:
            _table(out, more)
            _line(out, Text())
    for sentence in status_sentences(status):
        _line(out, sentence)


def measurement_view(found: Measurement, *, out: Console) -> None:
    """One measurement: a row by class, the largest flows, then in sentences what the figures are worth."""
    _line(out, measurement.title(found))
    _line(out, Text())
    for table in (
        measurement.classes_table(found),
        measurement.flows_table(found),
        measurement.tcp_table(found),
    ):
        if table is not None:
            whole_table(table, out=out)
            _line(out, Text())
    for sentence in measurement.sentences(found):
        _line(out, sentence)


def whole_table(table: Table, *, out: Console) -> None:
    """A table that is never cut: half a number is a wrong number."""
    if _needs(out, table) > out.width:
        table.width = _needs(out, table)
    _table(out, table)


def doctor_view(rows: Sequence[tuple[str, str, str, str]], *, out: Console) -> None:
    """Rows of an ability, its state, what was seen, and what the shaper does instead."""
    _table(out, doctor_table(rows))


def _line(out: Console, text: Text) -> None:
    """Sentences are never folded or cut: in a pipe they stay one line, a terminal folds them itself."""
    out.print(text, soft_wrap=True)


def _table(out: Console, table: Table) -> None:
    with out.capture() as lines:
        out.print(table, crop=False)
    out.file.write("".join(f"{line.rstrip()}\n" for line in lines.get().splitlines()))


def _needs(out: Console, table: Table) -> int:
    return table.__rich_measure__(out, out.options.update(max_width=10_000)).maximum


def _read(file: str) -> str | None:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _excerpt(source: str, where: Where) -> tuple[Text, ...]:
    """The line that is meant and a caret under its column; of a long line the part around it."""
    lines = source.splitlines()
    if not 1 <= where.line <= len(lines):
        return ()
    line = lines[where.line - 1].replace("\t", " ")
    column = min(where.column - 1, len(line))
    first = max(0, column - _EXCERPT * 3 // 4)
    shown = line[first : first + _EXCERPT]
    before = clean(shown[: column - first])
    number = f"{where.line:5} | "
    return (
        Text(number, style="dim").append(clean(shown), style="default"),
        Text(" " * 6 + "| ", style="dim").append(" " * cell_len(before) + "^", style="bold red"),
    )
