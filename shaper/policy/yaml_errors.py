"""What keeps a text from being YAML, in the words of who wrote it: the slip behind the complaint, and its mend.

The parser complains where it can go no further, often a line after the slip; where that is plain the problem is said
to be at the slip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import yaml

from shaper.errors import Problem, Where
from shaper.policy.kinds import Kind
from shaper.policy.text import printable, quoted

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as PyYAML counts lines
_KEY = re.compile(r"[^\s#:]+:(?=\s|\Z)")
_NO_BLANK = re.compile(r"([\w.-]+):([^\s:/][^\s]*)")
_ASSIGNED = re.compile(r"([\w.-]+)\s*=\s*(\S+)")
_GOT = re.compile(r"expected ',' or '([\]}])', but got '(.+)'")
_FOUND = re.compile(r"expected <block end>, but found '(.+)'")
_STARTS = re.compile(r"found character '(.+)' that cannot start any token")
_ESCAPE = re.compile(r"found unknown escape character '(.+)'")
_OPENING = {"}": "{", "]": "["}

_Slip = tuple[int, int, str, str]
"""Line and column from 0, what is wrong, and the mend."""


def syntax_problem(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    """The problem behind an error of the parser's, at the place of the slip."""
    mark = error.problem_mark or error.context_mark
    lines = _BREAK.split(text)
    for reader in _READERS:
        if mark is not None and (slip := reader(error, mark, lines)) is not None:
            line, column, message, hint = slip
            return Problem(
                Kind.YAML_SYNTAX, Where(source, line + 1, column + 1), "", printable(message), printable(hint)
            )
    where = Where(source, mark.line + 1, mark.column + 1) if mark else Where(source, 1, 1)
    begun = ""
    if error.context and error.context_mark and error.context_mark.line != where.line - 1:
        begun = f" ({error.context} that starts in line {error.context_mark.line + 1})"
    hint = "mend the YAML here or just above; the rest of the file is read once this place can be"
    return Problem(Kind.YAML_SYNTAX, where, "", f"this is not YAML: {error.problem}{begun}", hint)


def _character(error: yaml.MarkedYAMLError, mark: yaml.Mark, _: Sequence[str]) -> _Slip | None:
    """A tab, or a character that means something else at the start of a value."""
    said = error.problem or ""
    found = _STARTS.match(said)
    if found and found[1] == "\\t":
        hint = "put blanks in its place; most editors can do that for the whole file"
        return mark.line, mark.column, "there is a tab where YAML has blanks only", hint
    if found:
        hint = "put the value in quotes"
        return mark.line, mark.column, f"a value cannot begin with {quoted(found[1])}", hint
    if said.startswith("expected alphabetic or numeric character"):
        begun = error.context_mark or mark
        hint = "put the value in quotes, or give the anchor a name"
        return begun.line, begun.column, "`*` begins an alias and `&` an anchor, and here neither has a name", hint
    if escape := _ESCAPE.match(said):
        hint = "write the backslash twice, or the text in single quotes"
        return mark.line, mark.column, f"a backslash and {quoted(escape[1])} mean nothing in double quotes", hint
    if said == "expected the node content, but found ':'":
        hint = 'put it in quotes, such as "::1"'
        return mark.line, mark.column, "a value that begins with a colon is not one to YAML", hint
    return None


def _open(error: yaml.MarkedYAMLError, mark: yaml.Mark, lines: Sequence[str]) -> _Slip | None:
    """A quote or a bracket that is not closed, a comma that is not there."""
    said, begun = error.problem or "", error.context_mark
    if begun is not None and said == "found unexpected end of stream" and "quoted scalar" in (error.context or ""):
        return begun.line, begun.column, "the quote that opens here is never closed", "close it after the value"
    found = _GOT.match(said)
    if found is None:
        return None
    wanted, got = found.groups()
    if begun is not None and (begun.line != mark.line or got == "<stream end>"):
        message = f"the {_OPENING[wanted]!r} that opens here is not closed, as far as line {mark.line + 1}"
        return (
            begun.line,
            begun.column,
            message,
            f"close it with {wanted!r}, or put a comma where one is missing inside",
        )
    if got in _OPENING:
        message = f"here {got!r} closes what {_OPENING[wanted]!r} opened"
        return mark.line, mark.column, message, f"write {wanted!r} before it"
    hint = "put a comma between two of them, such as `{guarantee: 1mbit, limit: 2mbit}`"
    return mark.line, mark.column, "what comes before this does not end in a comma", hint


def _indent(error: yaml.MarkedYAMLError, mark: yaml.Mark, lines: Sequence[str]) -> _Slip | None:
    """A line that stands beside nothing above it."""
    found, begun = _FOUND.match(error.problem or ""), error.context_mark
    if found is None or begun is None:
        return None
    if found[1] in _OPENING:
        message = f"{found[1]!r} closes what was never opened"
        return mark.line, mark.column, message, "take it out, or open it before"
    if found[1] == "<scalar>":
        hint = "close the quote of the value before this, or quote all of the value"
        return mark.line, mark.column, "there is more after the end of a value", hint
    if found[1] == "-":
        message = f"this is an item of a list, among the keys that begin in line {begun.line + 1}"
        return mark.line, mark.column, message, "take the dash out, or put the items under a key of their own"
    if lines[mark.line][: mark.column].strip():
        return None
    above = next((line for line in range(mark.line - 1, -1, -1) if _meant(lines[line])), begun.line)
    message = (
        f"this is indented by {mark.column} blanks, line {above + 1} above it by "
        f"{len(lines[above]) - len(lines[above].lstrip())}, and the keys around it begin in line {begun.line + 1} "
        f"with {begun.column}"
    )
    hint = "indent what stands side by side alike; only what is inside a key goes further in"
    return mark.line, mark.column, message, hint


def _colon(error: yaml.MarkedYAMLError, mark: yaml.Mark, lines: Sequence[str]) -> _Slip | None:
    """A colon that is not there, or has no blank behind it: the parser takes the line for the start of a text."""
    said = error.problem or ""
    if said == "could not find expected ':'" and error.context_mark is not None:
        start = error.context_mark.line
    elif said == "mapping values are not allowed here":
        before = (line for line in range(mark.line - 1, -1, -1) if _meant(lines[line]))
        start = next(before, mark.line)
        if _KEY.search(_meant(lines[start])):  # the line above is in order
            hint = "put the value in quotes where a colon is part of it; else begin a new line"
            return mark.line, mark.column, "a second colon in one value", hint
    else:
        return None
    line = lines[start]
    for slip in _without_colon(line):
        column, message, hint = slip
        return start, column, message, hint
    return None


def _without_colon(line: str) -> Iterator[tuple[int, str, str]]:
    words = _meant(line)
    if glued := _NO_BLANK.search(words):
        yield glued.start(2), "there is no blank after the colon", f"write `{glued[1]}: {glued[2]}`"
    elif assigned := _ASSIGNED.search(words):
        message = "a value comes after a colon, not after ="
        yield assigned.end(1), message, f"write `{assigned[1]}: {assigned[2]}`"
    elif words:
        first, *rest = words.split(None, 1)
        yield (
            len(line) - len(line.lstrip()) + len(first),
            "there is no colon after the key",
            (f"write `{first}: {rest[0]}`" if rest else f"write `{first}:`"),
        )


def _meant(line: str) -> str:
    """A line without its comment, "" where nothing is left."""
    return re.sub(r"(\A|\s)#.*", "", line).strip()


_READERS: tuple[Callable[[yaml.MarkedYAMLError, yaml.Mark, Sequence[str]], _Slip | None], ...] = (
    _character,
    _open,
    _indent,
    _colon,
)
