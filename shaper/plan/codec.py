"""Plans and trees as plain JSON values and back: steps that are about to be sent, plans and snapshots in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from shaper.plan.steps import Plan, Step, Verb
from shaper.tree import (
    LEAF_KINDS,
    AckFilter,
    Acting,
    Action,
    BpfFilter,
    CakeOptions,
    Cells,
    Checksum,
    Curve,
    Diffserv,
    EtsOptions,
    FifoOptions,
    Finish,
    FlowerFilter,
    FlowerKey,
    FlowMode,
    FqCodelOptions,
    HfscClass,
    HfscOptions,
    HtbClass,
    HtbOptions,
    Ifb,
    Insn,
    LeafOptions,
    LoadedFilter,
    MarkChain,
    MarkSet,
    MarkTable,
    Node,
    Offload,
    Options,
    OtherFilter,
    Police,
    PrioOptions,
    Qdisc,
    RawOptions,
    Restore,
    RootOptions,
    SetDscp,
    SetMeta,
    SizeTable,
    Statement,
    Tree,
    U32Filter,
    U32Key,
    U32Link,
    U32Table,
    kind_of,
    tree,
)

SCHEMA = 1
_NODES: Mapping[str, type[Node]] = {
    "qdisc": Qdisc,
    "class": HtbClass,
    "hfsc-class": HfscClass,
    "filter": BpfFilter,
    "loaded-filter": LoadedFilter,
    "flower-filter": FlowerFilter,
    "u32-table": U32Table,
    "u32-filter": U32Filter,
    "other-filter": OtherFilter,
    "ifb": Ifb,
    "offload": Offload,
    "marks": MarkTable,
}
_NODE_NAMES = {kind: name for name, kind in _NODES.items()}
_OPTIONS: Mapping[str, type[RootOptions | FifoOptions | FqCodelOptions | LeafOptions]] = {
    "htb": HtbOptions,
    "hfsc": HfscOptions,
    "cake": CakeOptions,
    "ets": EtsOptions,
    "prio": PrioOptions,
    "fifo": FifoOptions,
    "fq_codel": FqCodelOptions,
    **{name: options for options, name in LEAF_KINDS.items()},
}
_ACTIONS: Mapping[str, type[Action]] = {
    "police": Police,
    "pedit": SetDscp,
    "csum": Checksum,
    "skbedit": SetMeta,
    "gact": Finish,
}
_WITHIN: Mapping[str, Callable[[Any], object]] = {
    "diffserv": Diffserv,
    "flows": lambda value: value if isinstance(value, int) else FlowMode(value),
    "ack_filter": AckFilter,
    "cells": Cells,
    "quanta": tuple,
    "priomap": tuple,
}
"""Fields of options that JSON has no type for; fq_codel's `flows` is a number."""
_OPTION_NAMES: Mapping[type, str] = {kind: name for name, kind in _OPTIONS.items()}


def to_json(plan: Plan) -> dict[str, Any]:
    """A value that `json.dumps` takes."""
    return {
        "schema": SCHEMA,
        "device": plan.device,
        "steps": [
            {"verb": step.verb.value, "before": _node_out(step.before), "after": _node_out(step.after)}
            for step in plan.steps
        ],
    }


def from_json(value: object) -> Plan:
    """The plan again. Raises ValueError with what is wrong."""
    try:
        data: Any = value
        if data["schema"] != SCHEMA:
            raise ValueError(f"it is written in schema {data['schema']}, this program reads {SCHEMA}")
        return Plan(data["device"], tuple(_step_in(step) for step in data["steps"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no plan: {error!r}") from error


def tree_to_json(held: Tree) -> dict[str, Any]:
    """A value that `json.dumps` takes."""
    return {"schema": SCHEMA, "device": held.device, "nodes": [_node_out(node) for node in held.nodes()]}


def tree_from_json(value: object) -> Tree:
    """The tree again. Raises ValueError with what is wrong."""
    try:
        data: Any = value
        if data["schema"] != SCHEMA:
            raise ValueError(f"it is written in schema {data['schema']}, this program reads {SCHEMA}")
        nodes = [_node_in(node) for node in data["nodes"]]
        return tree(data["device"], [node for node in nodes if node is not None])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no tree: {error!r}") from error


def _step_in(data: Any) -> Step:
    step = Step(Verb(data["verb"]), _node_in(data["before"]), _node_in(data["after"]))
    wanted = {Verb.ADD: (True, False), Verb.DELETE: (False, True), Verb.CHANGE: (False, False)}
    if (step.before is None, step.after is None) != wanted[step.verb]:
        raise ValueError(f"a step to {step.verb} has the wrong sides")
    return step


def _node_out(node: Node | None) -> dict[str, Any] | None:
    if node is None:
        return None
    data = {field.name: getattr(node, field.name) for field in fields(node)}
    if isinstance(node, Qdisc):
        data["options"] = _options_out(node.options)
    elif isinstance(node, BpfFilter):
        data["program"] = [list(insn) for insn in node.program]
    elif isinstance(node, (FlowerFilter, U32Filter)):
        data["keys"] = [list(key) for key in node.keys]
    if isinstance(node, Acting):
        data["actions"] = [_action_out(action) for action in node.actions]
    return {"node": _NODE_NAMES[type(node)], **data}


def _node_in(data: Any) -> Node | None:
    if data is None:
        return None
    values = dict(data)
    kind = _NODES[values.pop("node")]
    if kind is Qdisc:
        values["options"] = _options_in(values["options"])
        values["stab"] = SizeTable(*values["stab"]) if values.get("stab") else None
    elif kind is BpfFilter:
        values["program"] = tuple(Insn(*insn) for insn in values["program"])
        values["restore"] = Restore(*values["restore"]) if values.get("restore") else None
    elif kind is MarkTable:
        values["sets"] = tuple(MarkSet(name, bits, _pairs(ranges)) for name, bits, ranges in values["sets"])
        values["chains"] = tuple(_chain_in(*one) for one in values["chains"])
    elif kind is FlowerFilter:
        values["keys"] = tuple(FlowerKey(*key) for key in values["keys"])
    elif kind is U32Filter:
        values["keys"] = tuple(U32Key(*key) for key in values["keys"])
        values["link"] = U32Link(*values["link"]) if values["link"] else None
    if kind in (BpfFilter, LoadedFilter, FlowerFilter, U32Filter):
        values["actions"] = tuple(_action_in(each) for each in values.get("actions", ()))
    elif kind is HfscClass:
        values |= {name: values[name] and Curve(*values[name]) for name in ("rt", "ls", "ul")}
    return kind(**values)


def _action_out(action: Action) -> dict[str, Any]:
    return {"kind": kind_of(action).kind, **{field.name: getattr(action, field.name) for field in fields(action)}}


def _action_in(data: Any) -> Action:
    values = dict(data)
    return _ACTIONS[values.pop("kind")](**values)


def _pairs(data: Any) -> tuple[tuple[int, int], ...]:
    return tuple((first, last) for first, last in data)


def _chain_in(name: str, hook: int, priority: int, rules: Any) -> MarkChain:
    return MarkChain(name, hook, priority, tuple(tuple(Statement(*one) for one in rule) for rule in rules))


def _as_it_is(value: object) -> object:
    return value


def _options_out(options: Options) -> dict[str, Any] | None:
    if options is None:
        return None
    if isinstance(options, RawOptions):
        return {"kind": "raw", "data": options.data.hex()}
    return {"kind": _OPTION_NAMES[type(options)], **options._asdict()}


def _options_in(data: Any) -> Options:
    if data is None:
        return None
    values = dict(data)
    kind = values.pop("kind")
    if kind == "raw":
        return RawOptions(bytes.fromhex(values["data"]))
    if kind in _OPTIONS:
        fields: dict[str, Any] = {name: _WITHIN.get(name, _as_it_is)(value) for name, value in values.items()}
        return _OPTIONS[kind](**fields)
    raise ValueError(f"no options of kind {kind!r} are known")
