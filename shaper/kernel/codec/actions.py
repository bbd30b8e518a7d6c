"""The list of a filter's actions: each with its kind's name, numbered from 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from collectors.netlink import attribute, attributes, each_attribute, text
from shaper.kernel.codec import csum, gact, pedit, police, skbedit
from shaper.tree import Action, Checksum, Finish, Police, SetDscp, SetMeta, kind_of

_KIND, _OPTIONS = 1, 2

_ENCODE: Mapping[type, Callable[[Any], bytes]] = {
    Police: police.encode,
    SetDscp: pedit.encode,
    Checksum: csum.encode,
    SetMeta: skbedit.encode,
    Finish: gact.encode,
}
_DECODE: Mapping[str, Callable[[bytes], Action | None]] = {
    "police": police.decode,
    "pedit": pedit.decode,
    "csum": csum.decode,
    "skbedit": skbedit.decode,
    "gact": gact.decode,
}


def encode(actions: tuple[Action, ...]) -> bytes:
    """The list; the kernel runs it in the order of the numbers."""
    return b"".join(attribute(number, _one(action)) for number, action in enumerate(actions, 1))


def _one(action: Action) -> bytes:
    name = attribute(_KIND, kind_of(action).kind.encode() + b"\0")
    return name + attribute(_OPTIONS, _ENCODE[type(action)](action))


def decode(data: bytes) -> tuple[Action, ...] | None:
    """Of a dumped filter; None where one of them is not ours to program."""
    found: list[Action] = []
    for _, body in sorted(each_attribute(data)):
        parts = attributes(body)
        make = _DECODE.get(text(parts.get(_KIND, b"")))
        action = make(parts.get(_OPTIONS, b"")) if make is not None else None
        if action is None:
            return None
        found.append(action)
    return tuple(found)
