"""What an import could not carry over: for a person, as JSON, and the table of all importers for the docs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from shaper.policy.importers.draft import Facts, Lost
from shaper.report.words import clean


def lost_view(lost: Sequence[Lost], *, out: Console) -> None:
    """Each thing with its line, why, and its mend."""
    for one in lost:
        text = Text(clean(f"{one.line.place}: "), style="bold").append("not carried: ", style="bold yellow")
        out.print(text.append(clean(one.why), style="default"), soft_wrap=True)
        if one.line.text:
            out.print(Text(clean(f"    {one.line.text}")), soft_wrap=True)
        out.print(Text("  mend: ", style="green").append(clean(one.mend), style="default"), soft_wrap=True)
    count = f"{len(lost)} thing{'' if len(lost) == 1 else 's'} not carried over" if lost else "everything carried over"
    out.print(Text(count, style="bold"), soft_wrap=True)


def lost_json(lost: Sequence[Lost]) -> list[dict[str, Any]]:
    """Sorted by place; `line` is null where there are no lines."""
    return [
        {
            "file": one.line.file,
            "line": one.line.number or None,
            "text": one.line.text,
            "why": one.why,
            "mend": one.mend,
        }
        for one in lost
    ]


def facts_table(tools: Sequence[Facts]) -> str:
    """Markdown: what carries over from each tool, and what does not."""
    return "\n".join(_rows(tools))


def _rows(tools: Sequence[Facts]) -> Iterator[str]:
    yield "| from | carries over | as |"
    yield "|---|---|---|"
    for facts in tools:
        for what, becomes in facts.carried.items():
            yield f"| {facts.tool} | {what} | {becomes} |"
        for what, key in facts.lost.items():
            yield f"| {facts.tool} | {what} | not carried{f'; {key}' if key else ''} |"
