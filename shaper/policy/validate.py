"""A document against the shape of a policy file: pydantic's errors as Problems.

What is wrong is reported and left out, so that the checks that follow can look at the rest of the file; `Lost`
knows what was left out, so that nothing is blamed for it twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shaper.errors import Problem
from shaper.policy import values
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document, Node
from shaper.policy.schema import LEFT_OUT, FileSpec
from shaper.policy.spelling import BELOW, keys_of, unknown_key
from shaper.policy.text import Loc

_COLLECTIONS = frozenset(
    {"interfaces", "policies", "classes", "match", "match-groups", "any", "all", "not", "schedule"}
)
_WHOLE: dict[str, Any] = {"version": 1, "interfaces": {}, "policies": {}}
_EXAMPLES = {
    "interfaces": "{wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: branch-office}}",
    "policies": "{branch-office: {classes: {rest: {default: true}}}}",
    "classes": "{rest: {default: true}}",
    "bandwidth": "{egress: 20mbit, ingress: 100mbit}",
    "device": "eth1",
    "base": "20mbit",
    "reflectors": "{to: [192.0.2.1, 192.0.2.2]}",
    "link": "docsis",
    "connection": "{restore-dscp: true}",
    "restore-dscp": "true",
    "atm": "true",
    "ptm": "true",
    "policy": "branch-office",
    "adapt": "{min: 500kbit}",
    "default": "true",
    "schedule": "[{when: {days: [sat, sun]}, limit: 5mbit}]",
    "when": '{days: mon-fri, from: "08:00", to: "18:00"}',
    "match": "[{dscp: ef}, {proto: udp, dport: 5060}]",
    "any": "[{dport: 5060}, {sport: 5060}]",
    "all": "[{dport: 5060}, {sport: 5060}]",
    "not": "{dport: 5060}",
    "inner": "{dscp: ef}",
    "vars": "{uplink: 20mbit}",
    "defaults": "{sla: {delay-p99: 50ms}}",
    "match-groups": "{voip: [{dscp: ef}, {proto: udp, dport: 5060}]}",
    "group": "voip",
    "version": "1",
    "min": "500kbit",
    "profile": "{cir: 2mbit, cbs: 20kb}",
    "aqm": "fq_codel",
    "ecn": "true",
    "nat": "true",
    "wash": "true",
    "split-gso": "true",
    "cake": "{fairness: dual-srchost, nat: true}",
    "cir": "2mbit",
    "cbs": "20kb",
    "police": "{cir: 2mbit, cbs: 20kb}",
    "set": "{dscp: af21}",
    "probe": "{to: 192.0.2.10, kind: stamp}",
    "to": "192.0.2.10",
}
_EXPECTED = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "bool_type": "true or false",
    "string_type": "text",
}


@dataclass(frozen=True, slots=True)
class Lost:
    """Places that were `dropped`; `in` holds for those and for every place above one."""

    dropped: frozenset[Loc]
    above: frozenset[Loc]

    @classmethod
    def of(cls, dropped: set[Loc]) -> Lost:
        """With every place above them."""
        return cls(frozenset(dropped), frozenset(loc[:end] for loc in dropped for end in range(len(loc) + 1)))

    def __contains__(self, loc: object) -> bool:
        return loc in self.above


def validate(document: Document) -> tuple[FileSpec, Lost, list[Problem]]:
    """What of the document has the right shape, what was left out, and why."""
    dropped = {_holder(loc) for loc in _ill(document.root, ())}
    said = frozenset(dropped)
    problems: list[Problem] | None = None
    if not isinstance(document.root.value, dict):
        problem = document.problem(Kind.WRONG_TYPE, (), "a policy is a mapping", "start with `version: 1`")
        return _nothing([problem])
    while True:
        lost: set[Loc] = set()
        plain = _plain(document.root, (), dropped, lost)
        plain |= {key: value for key, value in _WHOLE.items() if (key,) in dropped}
        try:
            return FileSpec.model_validate(plain), Lost.of(lost | dropped), problems or []
        except ValidationError as error:
            details = error.errors(include_url=False)
        if problems is None:  # what a later round finds missing was left out by an earlier one
            problems = [_translated(document, detail) for detail in details if detail["loc"] not in said]
        places = {_to_drop(detail) for detail in details}
        if places <= dropped:
            return _nothing(problems)
        dropped |= places


def _nothing(problems: list[Problem]) -> tuple[FileSpec, Lost, list[Problem]]:
    """Where no part of the document can be looked at."""
    return FileSpec.model_validate(_WHOLE), Lost.of({(key,) for key in _WHOLE}), problems


def _plain(node: Node, loc: Loc, dropped: set[Loc], lost: set[Loc]) -> Any:
    """Bare values without the dropped places; `lost` collects the keys of which a second was left out."""
    if isinstance(node.value, dict):
        lost.update((*loc, key) for key in node.repeated)
        return {
            key: _plain(below, (*loc, key), dropped, lost)
            for key, below in node.value.items()
            if (*loc, key) not in dropped
        }
    if isinstance(node.value, list):
        return [
            LEFT_OUT if (*loc, index) in dropped else _plain(item, (*loc, index), dropped, lost)
            for index, item in enumerate(node.value)
        ]
    return node.value


def _ill(node: Node, loc: Loc) -> Iterator[Loc]:
    """The places whose values mean nothing, which was said."""
    if node.ill:
        yield loc
    elif isinstance(node.value, dict):
        for key, below in node.value.items():
            yield from _ill(below, (*loc, key))
    elif isinstance(node.value, list):
        for index, below in enumerate(node.value):
            yield from _ill(below, (*loc, index))


def _to_drop(detail: ErrorDetails) -> Loc:
    """The key to leave out: what holds a missing one."""
    loc = detail["loc"]
    return _holder(loc[:-1] if detail["type"] == "missing" and len(loc) > 1 else loc)


def _holder(loc: Loc) -> Loc:
    """What is left out with a value: a match as a whole, so that none grows wider."""
    first_index = next((place for place, step in enumerate(loc) if isinstance(step, int)), len(loc))
    return loc[: first_index + 1]


def _translated(document: Document, detail: ErrorDetails) -> Problem:
    kind, loc = detail["type"], detail["loc"]
    name = next((step for step in reversed(loc) if isinstance(step, str)), "")
    if kind == "extra_forbidden":
        return unknown_key(document, loc, _known_keys(loc[:-1]))
    if kind == "missing":
        hint = f"such as `{name}: {_EXAMPLES[name]}`"
        return document.problem(Kind.MISSING_KEY, loc, f"the key {name!r} is missing", hint, at_key=True)
    if kind in _EXPECTED:
        message = f"expected {_EXPECTED[kind]}, found {values.said(detail['input'])}"
        if isinstance(loc[-1], int):
            periods = loc[-2] == "schedule"
            hint = "such as `{when: {days: [sat, sun]}, limit: 5mbit}`" if periods else "such as `{dscp: ef}`"
        elif loc[0] == "match-groups" and len(loc) == 2:
            hint = "such as `[{dscp: ef}, {proto: udp, dport: 5060}]`"
        elif len(loc) > 1 and loc[-2] in _COLLECTIONS:
            hint = "write its keys below it, or take it out"
        else:
            hint = f"such as `{name}: {_EXAMPLES[name]}`"
        return document.problem(Kind.WRONG_TYPE, loc, message, hint)
    context = detail["ctx"]
    at_key = kind in (Kind.UNKNOWN_KEY, Kind.MISSING_KEY, Kind.DUPLICATE_KEY, Kind.BAD_PERCENTILE)
    return document.problem(Kind(kind), loc, context["message"], context["hint"], at_key=at_key)


def _known_keys(loc: Loc) -> Sequence[str]:
    """The keys that the mapping at `loc` may have."""
    spec: type[BaseModel] = FileSpec
    steps = iter(loc)
    for step in steps:
        if isinstance(step, int):  # one match of a list
            continue
        spec = BELOW[spec, step]
        if step in _COLLECTIONS:
            next(steps)
    return keys_of(spec)
