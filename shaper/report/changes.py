"""The history of changes, as a table and one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaper.model.change import BEGUN, DONE, FAILED, TAKEN_BACK, Change
from shaper.report.words import clean, when

_STYLES = {BEGUN: "yellow", FAILED: "bold red", TAKEN_BACK: "yellow", DONE: "green"}


def changes_view(changes: Sequence[Change], *, device: str, damaged: int, out: Console) -> None:
    """A row by change, the newest last; what could not be read is said."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0), header_style="bold")
    for name in (device, "when", "what", "who", "policy", "steps", "result", "why"):
        table.add_column(Text(clean(name)), justify="right" if name in (device, "steps") else "left", no_wrap=True)
    for change in changes:
        table.add_row(
            Text(f"{change.number}"),
            Text(when(change.at)),
            Text(_what(change)),
            Text(clean(f"{change.who}")),
            Text(clean(_policy(change))),
            Text(f"{change.step_count}"),
            Text(clean(change.result), style=_STYLES.get(change.result, "default")),
            Text(clean(_why(change))),
        )
    wide = out.options.update(max_width=10_000)
    table.width = table.__rich_measure__(out, wide).maximum  # never cut
    with out.capture() as lines:
        out.print(table, crop=False)
    out.file.write("".join(f"{line.rstrip()}\n" for line in lines.get().splitlines()))
    if damaged:
        said = f"{damaged} line{'s' if damaged != 1 else ''} of the log can't be read: of a program that was killed"
        out.print(Text(said, style="yellow"), soft_wrap=True)


def change_view(change: Change, *, diff: Sequence[str], text: str, out: Console) -> None:
    """Everything of one change."""
    for line in _lines(change, diff, text):
        out.print(line, soft_wrap=True)


def _lines(change: Change, diff: Sequence[str], text: str) -> Iterator[Text]:
    yield Text(clean(f"change {change.number} of {change.place}: {_what(change)}, {change.result}"), style="bold")
    yield Text(clean(f"{when(change.at)} by {change.who}"))
    if why := _why(change):
        yield Text(clean(why))
    if change.sha256:
        yield Text(clean(f"policy {change.source}, sha256 {change.sha256}"))
    yield Text()
    yield Text(f"{change.step_count} steps, {change.disruptive} of them disruptive", style="bold")
    yield from (Text(clean(f"  {step}")) for step in change.steps)
    if change.step_count > len(change.steps):
        yield Text(f"  and {change.step_count - len(change.steps)} more")
    if diff:
        yield Text()
        styles = {"+": "green", "-": "red", "@": "cyan"}
        yield from (Text(clean(line), style=styles.get(line[:1], "default")) for line in diff)
    if text:
        yield Text()
        yield Text("the policy", style="bold")
        yield from (Text(clean(line)) for line in text.splitlines())


def _what(change: Change) -> str:
    about = f" {change.of}" if change.of else ""
    to = " to" if change.what == "rollback" and not change.confirmation else " of" if change.of else ""
    return f"{change.what}{to}{about}"


def _policy(change: Change) -> str:
    return f"{change.source.rsplit('/', 1)[-1]} {change.sha256[:8]}" if change.sha256 else "-"


def _why(change: Change) -> str:
    return "; ".join(part for part in (change.why, change.reason) if part)
