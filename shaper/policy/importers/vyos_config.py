"""VyOS configurations as a tree of words: `set` lines, and the braces of config.boot and `show configuration`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from shaper.policy.importers.draft import Line, Report

_MOST_DEPTH = 40
_MOST_LINES = 50_000


@dataclass(slots=True)
class Branch:
    """What stands below a word, and the line that said it first."""

    line: Line
    below: dict[str, Branch] = field(default_factory=dict)

    def get(self, *path: str) -> Branch | None:
        """What stands below some words."""
        found: Branch | None = self
        for word in path:
            found = found.below.get(word) if found is not None else None
        return found

    def value(self, *path: str) -> tuple[str, Line] | None:
        """The one word below some words, with its line."""
        found = self.get(*path)
        first = next(iter(found.below.items()), None) if found is not None else None
        return (first[0], first[1].line) if first is not None else None

    def items(self, *path: str) -> Iterator[tuple[str, Branch]]:
        """What stands below some words, in the file's order."""
        found = self.get(*path)
        yield from found.below.items() if found is not None else ()

    def add(self, words: list[str], line: Line) -> Branch:
        """The words below it, each below the one before."""
        here = self
        for word in words[:_MOST_DEPTH]:
            here = here.below.setdefault(word, Branch(line))
        return here


def parse(text: str, file: str, report: Report) -> Branch:
    """The whole configuration, in either form, also mixed."""
    root = Branch(Line(file, 0, ""))
    open_branches = [root]
    in_comment = False
    for number, raw in enumerate(text.split("\n")[:_MOST_LINES], 1):
        line = Line(file, number, raw.strip()[:1000])
        if in_comment or line.text.startswith("/*"):
            in_comment = "*/" not in line.text
            continue
        if not line.text or line.text.startswith(("#", "//")):
            continue
        try:
            words = shlex.split(re.sub(r"([{}])\s*$", r" \1", line.text), comments=False)
        except ValueError:
            report.lose(line, "its quotes do not end on this line", "close them here")
            continue
        if words[:1] == ["set"]:
            root.add(words[1:], line)
        elif words[:1] == ["}"]:
            del open_branches[max(1, len(open_branches) - 1) :]
        elif words[-1:] == ["{"]:
            open_branches.append(open_branches[-1].add(words[:-1], line))
        elif words[:1] in (["delete"], ["comment"]):
            report.lose(line, f"`{words[0]}` changes a configuration that is not here", "give the whole one")
        elif words and words[0] not in ("configure", "commit", "save", "exit"):
            open_branches[-1].add(words, line)
    return root
