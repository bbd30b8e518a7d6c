"""How problems are worded: places in the document, guesses at what was meant, values quoted in short."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

from shaper.errors import Where

_GUESSES = 100
"""So many known words are looked at: a thousand typos among a thousand words would take minutes."""

Loc = tuple[str | int, ...]
"""A place in the document: keys and list indices from the top."""


def path_text(loc: Loc) -> str:
    """("policies", "p", "match", 0) -> `policies.p.match[0]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")


def printable(text: str) -> str:
    """The text with what a terminal could not show, or could obey, written as escapes."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def quoted(value: object) -> str:
    """A value of the document in quotes, shortened to fit a line."""
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")


def place_text(where: Where, here: Where) -> str:
    """`line 3`, or `line 3 of shared.yaml` where that is another file than the one of `here`."""
    return f"line {where.line}" + (f" of {where.file}" if where.file != here.file else "")


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like it, "" where none does."""
    return next(iter(difflib.get_close_matches(word[:64], islice(known, _GUESSES), n=1, cutoff=0.7)), "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'limit'? `, or "" where nothing known looks like the word."""
    close = meant(word, known)
    return f"did you mean {close!r}? " if close else ""


def named(names: Iterable[str]) -> str:
    """`voice`, `video` and `bulk`: a list in words."""
    words = list(names)
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
