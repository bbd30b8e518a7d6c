"""`${name}` in the values of a policy: what `vars` says, in whole or as a part of a text.

What stands for it keeps the place of its use; `Node.made_of` names the vars, for the words of a problem there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from shaper.errors import Problem
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document, Node, scalar
from shaper.policy.text import Loc, did_you_mean, named, place_text, quoted
from shaper.policy.values import said

LONGEST = 1000
"""Characters of a var's value."""
MOST = 2 * 2**20
"""Characters of all values that are made of vars."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}\Z")
_USE = re.compile(r"\$\$\{|\$\{(?P<name>[^{}]*)\}|\$\{")
_ESCAPE = "write $${ where the text itself is meant"


def substitute(document: Document) -> tuple[Document, list[Problem]]:
    """The document with every `${name}` replaced; what names no var is marked as ill, and said."""
    root = document.root
    if not isinstance(root.value, dict):
        return document, []
    filler = _Filler(document)
    held = {
        key: filler.known(node) if key == "vars" else filler.filled(node, (key,)) for key, node in root.value.items()
    }
    return Document(replace(root, value=held)), filler.problems


class _Filler:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._done: dict[int, Node] = {}
        self._room = MOST
        self._vars: Mapping[str, Node] | None = {}
        self.problems: list[Problem] = []
        root = document.root.value
        if isinstance(root, dict) and "vars" in root:
            self.known(root["vars"])

    def known(self, node: Node) -> Node:
        """The mapping of vars with its escapes read; where it is none, nothing is said of the uses."""
        if not isinstance(node.value, dict):
            self._vars = None
            return node
        if id(node) in self._done:
            return self._done[id(node)]
        held: dict[str, Node] = {}
        for name, value in node.value.items():
            held[name] = self._var(name, value)
        self._vars = held
        self._done[id(node)] = replace(node, value=held)
        return self._done[id(node)]

    def _var(self, name: str, node: Node) -> Node:
        loc: Loc = ("vars", name)
        if not _NAME.match(name):
            hint = "use letters, digits, dashes and underscores, at most 32, the first no digit or dash"
            self._say(Kind.BAD_NAME, loc, f"{quoted(name)} cannot be a var's name", hint, at_key=True)
        if node.value is None or isinstance(node.value, (list, dict)):
            message = f"expected one value, found {said(node.value)}"
            self._say(Kind.WRONG_TYPE, loc, message, "such as `vars: {uplink: 20mbit}`")
            return replace(node, ill=True)
        if not isinstance(node.value, str):
            return node
        if len(node.value) > LONGEST:
            message = f"the value of {quoted(name)} has {len(node.value)} characters"
            self._say(Kind.BAD_VAR, loc, message, f"at most {LONGEST} fit in a var")
            return replace(node, ill=True)
        if any(use[0] != "$${" for use in _USE.finditer(node.value)):
            hint = f"write the value out, or {_ESCAPE}"
            self._say(Kind.BAD_VAR, loc, "a var cannot be made of another", hint)
            return replace(node, ill=True)
        return replace(node, value=node.value.replace("$${", "${"))

    def filled(self, node: Node, loc: Loc) -> Node:
        """The node and all below it; aliases of one node stay one."""
        done = self._done.get(id(node))
        if done is not None:
            return done
        result = node
        if isinstance(node.value, dict):
            result = replace(node, value={key: self.filled(below, (*loc, key)) for key, below in node.value.items()})
        elif isinstance(node.value, list):
            result = replace(node, value=[self.filled(below, (*loc, at)) for at, below in enumerate(node.value)])
        elif isinstance(node.value, str) and "${" in node.value:
            result = self._text(node, node.value, loc)
        self._done[id(node)] = result
        return result

    def _text(self, node: Node, text: str, loc: Loc) -> Node:
        ill = replace(node, ill=True)
        names = [use["name"] for use in _USE.finditer(text) if use[0] != "$${"]
        if any(name is None for name in names):
            self._say(Kind.BAD_VAR, loc, "a '${' begins the name of a var and no '}' ends it", _ESCAPE)
            return ill
        if self._vars is None:
            return ill if names else replace(node, value=text.replace("$${", "${"))
        unknown = [name for name in names if name not in self._vars]
        if unknown:
            there = f"the vars here are {named(list(self._vars)[:10])}" if self._vars else "add it under `vars`"
            hint = f"{did_you_mean(unknown[0], self._vars)}{there}; {_ESCAPE}"
            self._say(Kind.UNKNOWN_VAR, loc, f"there is no var {quoted(unknown[0])}", hint)
            return ill
        used = {name: self._vars[name] for name in names}
        if any(var.ill for var in used.values()):
            return ill
        if len(names) == 1 and text == f"${{{names[0]}}}":
            value = used[names[0]].value
        else:
            whole = _USE.sub(lambda use: "${" if use[0] == "$${" else _plain(used[use["name"]].value), text)
            if not self._fits(whole, loc):
                return ill
            value = scalar(whole) if used else whole  # read as if it stood there without quotes
        made_of = tuple(
            f"${{{name}}} is {quoted(var.value)} in {place_text(var.where, node.where)}" for name, var in used.items()
        )
        return replace(node, value=value, made_of=made_of)

    def _fits(self, whole: str, loc: Loc) -> bool:
        """Vars may not make a large document of a small one; said once."""
        fitted = self._room >= 0
        self._room -= len(whole)
        if fitted and self._room < 0:
            message = f"with their vars the values have more than {MOST} characters"
            self._say(Kind.TOO_LARGE, loc, message, "use shorter vars")
        return self._room >= 0

    def _say(self, kind: Kind, loc: Loc, message: str, hint: str, *, at_key: bool = False) -> None:
        self.problems.append(self._document.problem(kind, loc, message, hint, at_key=at_key))


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
