"""`defaults`: keys that every class has that does not say them, put into the document where they are not said.

A policy's own come before the file's. What is put in keeps its place under `defaults`, so a problem with it points
there. A class inherits its tier from the one that holds it, so `tier` is put in at the top of a policy only; `sla`
belongs where packets wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shaper.errors import Problem, Where
from shaper.policy.kinds import Kind
from shaper.policy.reader import MAX_NODES, Document, Node
from shaper.policy.schema import DefaultsSpec

_AT_THE_TOP = frozenset({"tier"})
_AT_LEAVES = frozenset({"sla", "aqm", "fairness"})

_Defaults = Mapping[str, tuple[Where, Node]]


def with_defaults(document: Document) -> tuple[Document, list[Problem]]:
    """The document with every default in its place; what is not of the right shape is left for the schema to say."""
    root = document.root
    policies = _below(root, "policies")
    if not isinstance(root.value, dict) or policies is None or not isinstance(policies.value, dict):
        return document, []
    shared = _stated(root)
    filled = _with(policies, {name: _policy(policy, shared) for name, policy in policies.value.items()})
    root = _with(root, {**root.value, "policies": filled})
    if root.size > MAX_NODES:
        message = f"with the defaults of every class this holds more than {MAX_NODES} values"
        return document, [document.problem(Kind.TOO_LARGE, ("defaults",), message, "use fewer or smaller defaults")]
    return Document(root), []


def _stated(node: Node) -> _Defaults:
    stated = _below(node, "defaults")
    if stated is None or not isinstance(stated.value, dict):
        return {}
    return {key: (stated.keys[key], value) for key, value in stated.value.items() if key in DefaultsSpec.model_fields}


def _policy(policy: Node, shared: _Defaults) -> Node:
    return _with_classes(policy, {**shared, **_stated(policy)}, top=True)


def _with_classes(node: Node, defaults: _Defaults, *, top: bool) -> Node:
    classes = _below(node, "classes")
    if not defaults or classes is None or not isinstance(classes.value, dict) or not isinstance(node.value, dict):
        return node
    filled = {name: _class(cls, defaults, top=top) for name, cls in classes.value.items()}
    return _with(node, {**node.value, "classes": _with(classes, filled)})


def _class(cls: Node, defaults: _Defaults, *, top: bool) -> Node:
    if not isinstance(cls.value, dict):
        return cls
    leaf = "classes" not in cls.value
    unsaid = {
        key: each
        for key, each in defaults.items()
        if key not in cls.value and (top or key not in _AT_THE_TOP) and (leaf or key not in _AT_LEAVES)
    }
    keys = {**cls.keys, **{key: where for key, (where, _) in unsaid.items()}}
    cls = _with(cls, {**cls.value, **{key: node for key, (_, node) in unsaid.items()}})
    return _with_classes(replace(cls, keys=keys), defaults, top=False)


def _below(node: Node, key: str) -> Node | None:
    return node.value.get(key) if isinstance(node.value, dict) else None


def _with(node: Node, value: dict[str, Node]) -> Node:
    """The mapping with other values, and its size again."""
    return replace(node, value=value, size=1 + sum(below.size for below in value.values()))
