"""Interfaces and classes as the text of a policy, with comments that say what was taken from where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from shaper.policy.importers.draft import Class, Conditions, Interface, Line, Value, shortened
from shaper.policy.importers.quantities import rate_text

_PLAIN = re.compile(r"[a-z0-9][a-z0-9./%-]*\Z")
_KEYWORDS = {"true", "false", "null"}


def policy_text(interfaces: Sequence[Interface], *, tool: str, lost: int) -> str:
    """The whole file."""
    said = "everything was carried over" if not lost else f"{lost} thing{'s were' if lost > 1 else ' was'} not carried"
    lines = [f"# From {tool}, by `shaper import`; {said}.", "version: 1", "interfaces:"]
    for one in interfaces:
        lines.append(f"  {one.name}:{_from(one.line)}")
        lines.append(f"    device: {_value(one.device)}")
        lines.append(f"    bandwidth: {{egress: {rate_text(one.bandwidth)}}}")
        if one.link:
            lines.append(f"    link: {one.link}")
        lines.append(f"    policy: {one.name}")
    lines.append("policies:")
    for one in interfaces:
        lines += [f"  {one.name}:", "    classes:"]
        lines += (f"      {line}" for cls in one.classes for line in _class(cls))
    return "\n".join(lines) + "\n"


def _class(cls: Class) -> Iterator[str]:
    yield f"{cls.name}:{_from(cls.line)}"
    for key, rate in (("guarantee", cls.guarantee), ("limit", cls.limit)):
        if rate:
            yield f"  {key}: {rate_text(rate)}"
    if cls.rank is not None:
        yield f"  priority: {cls.rank}"
    if cls.burst:
        yield f"  burst: {cls.burst}b"
    if cls.aqm and not cls.classes:
        yield f"  aqm: {cls.aqm}"
    for key, said in (("police", cls.police), ("set", cls.marking)):
        if said:
            yield f"  {key}: {_conditions(said)}"
    if cls.fairness and not cls.classes:
        yield f"  fairness: {cls.fairness}"
    if cls.default:
        yield "  default: true"
    if cls.rules:
        yield "  match:"
        for rule in cls.rules:
            yield f"    - {_conditions(rule.conditions)}{_from(rule.line)}"
    if cls.classes:
        yield "  classes:"
        for child in cls.classes:
            yield from (f"    {line}" for line in _class(child))


def _conditions(conditions: Conditions) -> str:
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in conditions.items()) + "}"


def _value(value: Value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return _value(value[0]) if len(value) == 1 else "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, int):
        return str(value)
    plain = _PLAIN.match(value) and value not in _KEYWORDS and not re.fullmatch(r"[0-9.e-]*|0[xo].*", value)
    return value if plain or re.fullmatch(r"[0-9]+-[0-9]+", value) else json.dumps(value)


def _from(line: Line) -> str:
    text = shortened(line.text)
    return f"  # {line.place}: {text}" if text else f"  # {line.place}"
