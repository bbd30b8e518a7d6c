"""Text to a tree of nodes, each with its place: YAML 1.2 core scalars, no duplicate keys, everything bounded.

PyYAML's parser gives the events; the scalars are resolved here, since PyYAML's own rules are those of YAML 1.1
(`no` is false, `22:30` is 1350, `010` is 8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NoReturn

import yaml

from shaper.errors import Problem, Where
from shaper.policy.kinds import Kind
from shaper.policy.text import Loc, path_text, printable, quoted
from shaper.policy.yaml_errors import syntax_problem

Scalar = str | int | float | bool | None

MAX_CHARACTERS = 16 * 2**20
MAX_DEPTH = 40
MAX_ALIASES = 1000
MAX_NODES = 500_000

# YAML 1.2.2, section 10.3.2 (core schema).
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]{1,100}\Z")
_RADIX = re.compile(r"0o[0-7]{1,100}\Z|0x[0-9a-fA-F]{1,100}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NO_NUMBER = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_HALF = re.compile("[\ud800-\udfff]")  # surrogates, which escapes let through
_YAML_TAG = "tag:yaml.org,2002:"
_UNPRINTABLE = yaml.reader.Reader.NON_PRINTABLE


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. `keys` has the places of a mapping's keys, `repeated` the keys that came twice.

    `size` counts the nodes below it with every alias written out. `made_of` says, in words, which vars a value is made
    of; `ill` that a var in it is wrong, which was said, so that it means nothing.
    """

    where: Where
    value: Scalar | list[Node] | dict[str, Node]
    keys: Mapping[str, Where] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    size: int = 1
    made_of: tuple[str, ...] = ()
    ill: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is YAML. A place that it lacks is said to be where the key of what should hold it is."""

    root: Node

    def value(self, loc: Loc) -> Where:
        """Where the value at `loc` starts."""
        key, node = self._find(loc)
        return node.where if node is not None else key

    def key(self, loc: Loc) -> Where:
        """Where the key of the value at `loc` is; of a list's item, the item itself."""
        return self._find(loc)[0]

    def problem(self, kind: Kind, loc: Loc, message: str, hint: str, *, at_key: bool = False) -> Problem:
        """A problem at the value of `loc`, or at its key."""
        key, node = self._find(loc)
        if node is None or at_key:
            return problem_at(kind, key, loc, message, hint)
        if node.made_of:
            message = f"{message} ({', '.join(node.made_of)})"
        return problem_at(kind, node.where, loc, message, hint)

    def _find(self, loc: Loc) -> tuple[Where, Node | None]:
        key, node = self.root.where, self.root
        for step in loc:
            below = node.value
            if isinstance(below, dict) and isinstance(step, str) and step in below:
                key, node = node.keys[step], below[step]
            elif isinstance(below, list) and isinstance(step, int) and step < len(below):
                key, node = below[step].where, below[step]
            elif not isinstance(step, int):  # index 0 of what was written without a list is the value itself
                return key, None
        return key, node


def read(text: str, *, source: str) -> tuple[Document | None, list[Problem]]:
    """The document and its problems; without a document nothing more can be said about the text."""
    problems = [
        Problem(
            Kind.YAML_SYNTAX,
            where_in(text, match.start(), source),
            "",
            f"character U+{ord(match[0]):04X} cannot be in YAML",
            "take it out; a policy is plain UTF-8 text",
        )
        for match in islice(_UNPRINTABLE.finditer(text), 20)
    ]
    if len(text) > MAX_CHARACTERS:
        problems.append(
            Problem(
                Kind.TOO_LARGE,
                Where(source, 1, 1),
                "",
                f"the policy has {len(text)} characters",
                f"at most {MAX_CHARACTERS} are read; split it into several files",
            )
        )
    if problems:
        return None, problems
    builder = _Builder(text, source)
    try:
        root = builder.document()
    except yaml.MarkedYAMLError as error:
        builder.fatal.append(syntax_problem(error, text, source))
    except _StopReadingError:
        pass
    problems = builder.fatal + builder.duplicates
    return (None if builder.fatal else Document(root)), problems


class _StopReadingError(Exception):
    """Nothing after this place can be read with any meaning."""


class _Builder:
    """Events to nodes. `fatal` problems leave no document; duplicates do, with the first of each kept."""

    def __init__(self, text: str, source: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._source = source
        self._anchors: dict[str, Node | None] = {}
        self._aliases = 0
        self.fatal: list[Problem] = []
        self.duplicates: list[Problem] = []

    def document(self) -> Node:
        """The one document of the stream; an empty stream is an empty mapping."""
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._stop(
                        Kind.YAML_FEATURE,
                        event,
                        (),
                        "there is a second document",
                        "a policy is one document: take out '---'",
                    )
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, ())
        if root is None or root.value is None:
            return Node(Where(self._source, 1, 1), {})
        return root

    def _node(self, event: yaml.Event, loc: Loc) -> Node:
        if len(loc) > MAX_DEPTH:
            self._stop(Kind.TOO_LARGE, event, (), f"nested deeper than {MAX_DEPTH} levels", "no policy needs that many")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, loc)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None:
            self.fatal.append(
                self._problem(
                    Kind.YAML_FEATURE,
                    event,
                    loc,
                    f"the tag {quoted(event.tag.replace(_YAML_TAG, '!!'))} has no meaning here",
                    "take it out; quote the value where it must be text",
                )
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = self._value(event, loc)
        if node.size > MAX_NODES:
            self._stop(
                Kind.TOO_LARGE,
                event,
                loc,
                f"this holds more than {MAX_NODES} values once its aliases are written out",
                "use fewer aliases inside aliases",
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _value(self, event: yaml.Event, loc: Loc) -> Node:
        where = self._where(event)
        if isinstance(event, yaml.ScalarEvent):
            if _HALF.search(event.value):
                hint = "write the character itself, or \\U and its eight digits"
                self.fatal.append(self._problem(Kind.YAML_SYNTAX, event, loc, "an escape is half a character", hint))
            return Node(where, scalar(event.value) if event.implicit[0] else event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(inner, (*loc, len(items))))
            return Node(where, items, size=1 + sum(item.size for item in items))
        return self._mapping(where, loc)

    def _mapping(self, where: Where, loc: Loc) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Where] = {}
        repeated: set[str] = set()
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._stop(Kind.YAML_FEATURE, event, loc, "a key must be a plain word", "write it as `key: value`")
            key = event.value
            if _HALF.search(key):
                self._stop(Kind.YAML_SYNTAX, event, loc, "an escape is half a character", "write the character itself")
            if key == "<<" and event.implicit[0]:
                self.fatal.append(
                    self._problem(
                        Kind.YAML_FEATURE,
                        event,
                        (*loc, key),
                        "merge keys are not part of YAML 1.2",
                        "write the keys out, or give the whole value an alias",
                    )
                )
            value = self._node(next(self._events), (*loc, key))
            if key in values:
                repeated.add(key)
                self.duplicates.append(
                    self._problem(
                        Kind.DUPLICATE_KEY,
                        event,
                        (*loc, key),
                        f"{quoted(key)} is there twice",
                        f"the first is in line {keys[key].line}: keep one, or give this one another name",
                    )
                )
            else:
                values[key], keys[key] = value, self._where(event)
        return Node(where, values, keys, frozenset(repeated), 1 + sum(node.size for node in values.values()))

    def _alias(self, event: yaml.AliasEvent, loc: Loc) -> Node:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._stop(Kind.TOO_LARGE, event, loc, f"more than {MAX_ALIASES} aliases", "write the values out")
        anchor = event.anchor or ""
        node = self._anchors.get(anchor)
        if node is None:
            inside = anchor in self._anchors
            self._stop(
                Kind.YAML_FEATURE if inside else Kind.YAML_SYNTAX,
                event,
                loc,
                f"the alias {quoted('*' + anchor)} "
                + ("stands inside its own anchor" if inside else "has no anchor before it"),
                "write the value out" if inside else f"put &{anchor} before the value that it repeats",
            )
        return node

    def _where(self, event: yaml.Event) -> Where:
        mark = event.start_mark
        return Where(self._source, mark.line + 1, mark.column + 1) if mark else Where(self._source, 1, 1)

    def _problem(self, kind: Kind, event: yaml.Event, loc: Loc, message: str, hint: str) -> Problem:
        return problem_at(kind, self._where(event), loc, message, hint)

    def _stop(self, kind: Kind, event: yaml.Event, loc: Loc, message: str, hint: str) -> NoReturn:
        self.fatal.append(self._problem(kind, event, loc, message, hint))
        raise _StopReadingError


def scalar(text: str) -> Scalar:
    """A plain scalar as the core schema reads it; numbers too long to mean anything stay text."""
    if _NULL.match(text):
        return None
    if _TRUE.match(text):
        return True
    if _FALSE.match(text):
        return False
    if _INT.match(text):
        return int(text)
    if _RADIX.match(text):
        return int(text, 0)
    if len(text) <= 100 and _FLOAT.match(text):
        return float(text)
    if _NO_NUMBER.match(text):
        return float(text.lower().replace(".", ""))
    return text


def problem_at(kind: Kind, where: Where, loc: Loc, message: str, hint: str) -> Problem:
    """Escapes may put any character into a key or a value; none of them reaches a terminal."""
    return Problem(kind, where, printable(path_text(loc)), printable(message), printable(hint))


def where_in(text: str, index: int, source: str) -> Where:
    """The line and column of a character."""
    start = text.rfind("\n", 0, index) + 1
    return Where(source, text.count("\n", 0, index) + 1, index - start + 1)
