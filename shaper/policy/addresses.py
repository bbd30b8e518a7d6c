"""Lists of addresses in files of their own: `src: {file: addresses.txt}`, a prefix a line, `#` starts a comment.

A list is put in the place of its mention before anything is looked at, each address with its own file, line and column:
what is wrong with one is then said where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from shaper.errors import Where
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document, Node
from shaper.policy.text import quoted
from shaper.policy.values import Unread

KEYS = frozenset({"src", "dst", "net"})
MAX_ADDRESSES = 200_000

Read = Callable[[str], str]
"""From a name in the policy to the text of that file. Raises OSError or ValueError."""


def with_lists(document: Document, read: Read) -> Document:
    """The document with every list written out."""
    return Document(_Lists(read).node(document.root))


class _Lists:
    def __init__(self, read: Read) -> None:
        self._read = read

    def node(self, node: Node) -> Node:
        """The node with every list below it written out; the same node where there is none."""
        if isinstance(node.value, dict):
            below = {key: self._below(key, value) for key, value in node.value.items()}
            changed = any(below[key] is not value for key, value in node.value.items())
            return replace(node, value=below) if changed else node
        if isinstance(node.value, list):
            items = [self.node(item) for item in node.value]
            changed = any(new is not old for new, old in zip(items, node.value, strict=True))
            return replace(node, value=items) if changed else node
        return node

    def _below(self, key: str, node: Node) -> Node:
        if key not in KEYS:
            return self.node(node)
        items = node.value if isinstance(node.value, list) else [node]
        if not any(isinstance(item.value, dict) for item in items):
            return node
        return replace(node, value=[address for item in items for address in self._addresses(item)])

    def _addresses(self, node: Node) -> list[Node]:
        """What stands for one item: itself, the addresses of its list, or why there are none."""
        if not isinstance(node.value, dict):
            return [node]
        named = node.value.get("file")
        if named is None or len(node.value) != 1 or not isinstance(named.value, str):
            hint = "write a network, or `{file: addresses.txt}` for a list of them"
            message = "expected an address or the name of a list"
            return [Node(node.where, Unread(Kind.WRONG_TYPE, message, hint))]
        name = named.value
        try:
            text = self._read(name)
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            hint = "name a UTF-8 text file that is there and that you may read, from the policy's folder"
            return [Node(named.where, Unread(Kind.ADDRESS_FILE, f"{quoted(name)}: {reason}", hint))]
        found = list(_entries(text, name, named.where))
        if 0 < len(found) <= MAX_ADDRESSES:
            return found
        message = f"{quoted(name)} has {len(found)} addresses, of 1 to {MAX_ADDRESSES} that may be in a list"
        hint = "write a network a line; join many to larger ones"
        return [Node(named.where, Unread(Kind.ADDRESS_FILE, message, hint))]


def _entries(text: str, name: str, mention: Where) -> Iterator[Node]:
    """Every word of every line up to its comment; two in a line are one wrong address, and said to be."""
    folder = mention.file.rpartition("/")[0]
    source = f"{folder}/{name}" if folder and not name.startswith("/") else name
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0]
        if word := said.strip():
            yield Node(Where(source, number, len(said) - len(said.lstrip()) + 1), word)
