"""A file and the files that it includes as one document, in which every node keeps the place where it was written."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic_core import PydanticCustomError

from shaper.errors import Problem, Where
from shaper.policy import values
from shaper.policy.addresses import with_lists
from shaper.policy.kinds import Kind
from shaper.policy.reader import MAX_CHARACTERS, MAX_NODES, Document, Node, problem_at, read
from shaper.policy.sources import Fetch, unread
from shaper.policy.text import Loc, path_text, place_text, printable, quoted

MAX_FILES = 64
MAX_CHAIN = 8
_MERGED = ("vars", "defaults", "match-groups", "policies", "interfaces")


def gather(text: str, source: str, fetch: Fetch) -> tuple[Document | None, list[Problem], dict[str, str]]:
    """The document, its problems, and the texts of the other files by their names, in the order of reading.

    Without a document nothing more can be said: a file of it could not be read.
    """
    gatherer = _Gatherer(source, fetch)
    root = gatherer.file(text, (gatherer.main,))
    if root is not None and root.size > MAX_NODES:
        hint = "take out what no interface uses"
        problem = problem_at(Kind.TOO_LARGE, root.where, (), f"the files hold more than {MAX_NODES} values", hint)
        return None, [*gatherer.problems, problem], gatherer.texts
    whole = root is not None and not gatherer.broken
    return (Document(root) if root is not None and whole else None), gatherer.problems, gatherer.texts


class _Gatherer:
    """`broken` says that a file is missing from the whole; `texts` are those that were read beside the main one."""

    def __init__(self, source: str, fetch: Fetch) -> None:
        self._folder = Path(source).parent
        self._source = source
        self._fetch = fetch
        self._characters = 0
        self.main = Path(source).name
        self._seen: set[str] = set()
        self.broken = False
        self.problems: list[Problem] = []
        self.texts: dict[str, str] = {}

    def file(self, text: str, chain: tuple[str, ...]) -> Node | None:
        """The root of one file with all that it includes; `chain` are the names from the main file to this one."""
        self._characters += len(text)
        source = self._source if len(chain) == 1 else self._label(chain[-1])
        document, problems = read(text, source=source)
        self.problems += problems
        if document is None:
            self.broken = True
            return None
        root = with_lists(document, partial(self._list, chain)).root
        if not isinstance(root.value, dict):
            if len(chain) == 1:
                return root
            self._say(Kind.WRONG_TYPE, root.where, (), "a policy is a mapping", "such as `policies: {...}`")
            self.broken = True
            return None
        if len(chain) > 1:
            root = self._without_version(root)
        wanted = _value(root, "include")
        root = _without(root, "include")
        for place, name in self._names(wanted):
            below = self._included(place, name, chain)
            if below is not None:
                root = self._merged(root, below)
        return root

    def _list(self, chain: tuple[str, ...], written: str) -> str:
        """The text of a list of addresses. Raises OSError, ValueError."""
        name = _named_from(chain, written)
        if name not in self.texts:
            text = self._fetch(name)
            if self._characters + len(text) > MAX_CHARACTERS:
                raise ValueError(f"with it the policy has more than {MAX_CHARACTERS} characters")
            self._characters += len(text)
            self.texts[name] = text
        return self.texts[name]

    def _names(self, node: Node | None) -> list[tuple[tuple[Where, Loc], str]]:
        """What `include` names, each with its place."""
        if node is None:
            return []
        items = node.value if isinstance(node.value, list) else [node]
        named: list[tuple[tuple[Where, Loc], str]] = []
        for index, item in enumerate(items):
            loc: Loc = ("include", index) if items is node.value else ("include",)
            if isinstance(item.value, str) and item.value and "\0" not in item.value:
                named.append(((item.where, loc), item.value))
            else:
                message = f"expected the name of a file, found {values.said(item.value)}"
                self._say(Kind.WRONG_TYPE, item.where, loc, message, "such as `include: [groups.yaml]`")
        return named

    def _included(self, place: tuple[Where, Loc], written: str, chain: tuple[str, ...]) -> Node | None:
        where, loc = place
        name = _named_from(chain, written)
        if name in chain:
            ring = " -> ".join((*chain[chain.index(name) :], name))
            self._say(Kind.INCLUDE_CYCLE, where, loc, f"the files include each other: {ring}", "take one of these out")
            return None
        if name in self._seen:
            return None  # two files may both need a third; it is read once
        hint = "join some of them"
        if len(chain) > MAX_CHAIN:
            self._say(Kind.TOO_LARGE, where, loc, f"more than {MAX_CHAIN} files deep", hint)
            return None
        if len(self._seen) >= MAX_FILES:
            self._say(Kind.TOO_LARGE, where, loc, f"more than {MAX_FILES} files are included", hint)
            return None
        try:
            text = self._fetch(name)
        except (OSError, ValueError) as error:
            self.problems.append(replace(unread(error, self._label(name), written, where), path=path_text(loc)))
            self.broken = True
            return None
        if self._characters + len(text) > MAX_CHARACTERS:
            message = f"with this file the policy has more than {MAX_CHARACTERS} characters"
            self._say(Kind.TOO_LARGE, where, loc, message, "take out what no interface uses")
            self.broken = True
            return None
        self._seen.add(name)
        self.texts[name] = text
        return self.file(text, (*chain, name))

    def _without_version(self, root: Node) -> Node:
        """An included file may say its version, which must be the same."""
        assert isinstance(root.value, dict)
        if "version" in root.value:
            node = root.value["version"]
            try:
                values.version(node.value)
            except PydanticCustomError as error:
                context = error.context or {}
                self._say(Kind.BAD_VERSION, node.where, ("version",), context["message"], context["hint"])
        return _without(root, "version")

    def _merged(self, root: Node, below: Node, loc: Loc = ()) -> Node:
        """Everything of both; of a name that both have the first is kept."""
        assert isinstance(root.value, dict) and isinstance(below.value, dict)
        held, keys, repeated = dict(root.value), dict(root.keys), set(root.repeated | below.repeated)
        for key, node in below.value.items():
            here = (*loc, key)
            if key not in held:
                held[key], keys[key] = node, below.keys[key]
            elif not loc and key in _MERGED and isinstance(held[key].value, dict) and isinstance(node.value, dict):
                held[key] = self._merged(held[key], node, here)
            else:
                first = place_text(keys[key], below.keys[key])
                hint = f"the first is in {first}: keep one, or give this one another name"
                self._say(Kind.DUPLICATE_KEY, below.keys[key], here, f"{quoted(key)} is there twice", hint)
                repeated.add(key)
        return Node(root.where, held, keys, frozenset(repeated), 1 + sum(node.size for node in held.values()))

    def _label(self, name: str) -> str:
        return str(self._folder / name)

    def _say(self, kind: Kind, where: Where, loc: Sequence[str | int], message: str, hint: str) -> None:
        self.problems.append(problem_at(kind, where, tuple(loc), printable(message), hint))


def _named_from(chain: tuple[str, ...], written: str) -> str:
    """What the last file of the chain calls so, as a name from the main file's folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(chain[-1]) if len(chain) > 1 else "", written))


def _value(root: Node, key: str) -> Node | None:
    return root.value.get(key) if isinstance(root.value, dict) else None


def _without(root: Node, key: str) -> Node:
    """The mapping without one key."""
    assert isinstance(root.value, dict)
    if key not in root.value:
        return root
    held = {name: node for name, node in root.value.items() if name != key}
    return Node(root.where, held, root.keys, root.repeated - {key}, 1 + sum(node.size for node in held.values()))
