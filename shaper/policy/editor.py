"""The policy file's shape as JSON Schema, for editors: made from the models that read it, so it cannot grow old.

It says less than `shaper check`: what a value means, and whether values fit each other, is not the business of a shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from shaper.model.aqm import MOST_FLOWS, MOST_SFQ_DEPTH, AqmKind
from shaper.model.link import LINK_LAYERS
from shaper.model.nat import Nat
from shaper.model.policy import Backend, Classifier, Direction, Drift, Incoming, OnFlap, Tier
from shaper.model.probe import ProbeKind, ProbeWhen
from shaper.model.service import SERVICE_CLASSES
from shaper.policy import fields, probe, queues, reflectors, targets, treatment, values, when
from shaper.policy import schema as schema_of
from shaper.policy.directions import SAME_EITHER_WAY
from shaper.policy.names import (
    DSCP_NAMES,
    ECN_NAMES,
    ETHERTYPE_NAMES,
    FAMILY_NAMES,
    ICMP_TYPE_NAMES,
    PROTOCOL_NAMES,
    TCP_FLAG_NAMES,
)
from shaper.stats import CODECS
from shaper.tree import FlowMode

_USE: JsonSchemaValue = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_-]*\}"}
"""A var may stand for any value, or be a part of it."""


def _or_var(fragment: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [fragment, _USE]} if fragment else {}


def _text(pattern: str, *examples: str) -> JsonSchemaValue:
    return {"type": "string", "pattern": pattern, "examples": list(examples)}


def _names(names: Any) -> JsonSchemaValue:
    return {"enum": sorted(names)}


def _apart(fragment: JsonSchemaValue) -> JsonSchemaValue:
    """A value, or one for each direction (`directions.py`)."""
    ways = {direction.value: fragment for direction in Direction}
    each = {"type": "object", "properties": ways, "minProperties": 1, "additionalProperties": False}
    return {"anyOf": [fragment, each]}


_RATE = r"[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]?[bB][iI][tT])\s*$"
_PERCENT = r"[0-9]+(\.[0-9]+)?\s*%\s*$"
_SIZE = r"[0-9]+(\.[0-9]+)?\s*([kKmM][iI]?)?[bB]\s*$"
_TIME = r"[0-9]+(\.[0-9]+)?\s*(ns|us|µs|ms|s|m|h|d)\s*$"
_SCORE: JsonSchemaValue = {"type": "number", "exclusiveMinimum": 1, "maximum": 4.5}
_TARGETS: JsonSchemaValue = {
    "type": "object",
    "properties": {
        "loss": _apart(_or_var(_text(rf"^\s*{_PERCENT}", "0.1%"))),
        "throughput": _apart(_or_var(_text(rf"^\s*({_RATE}|{_PERCENT})", "2mbit"))),
        "jitter": _apart(_or_var(_text(rf"^\s*{_TIME}", "5ms"))),
        "mos": _apart(
            {
                "anyOf": [
                    *_or_var(_SCORE)["anyOf"],
                    {
                        "type": "object",
                        "properties": {
                            "least": _or_var(_SCORE),
                            "codec": _or_var({"enum": sorted(CODECS)}),
                            "path": _or_var(_text(rf"^\s*{_TIME}", "30ms")),
                        },
                        "required": ["least"],
                        "additionalProperties": False,
                    },
                ]
            }
        ),
    },
    "patternProperties": {
        r"^(delay|jitter)-p[0-9]{1,3}(\.[0-9]{1,3})?$": _apart(_or_var(_text(rf"^\s*{_TIME}", "10ms")))
    },
    "additionalProperties": False,
}
_DEVICE: JsonSchemaValue = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"mac": {"type": "string"}, "pattern": {"type": "string"}},
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        },
    ]
}
_OFFLOADS: JsonSchemaValue = {
    "anyOf": [
        {"enum": ["auto", "keep"]},
        {
            "type": "object",
            "properties": {
                "feeding": {
                    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
                }
            },
            "required": ["feeding"],
            "additionalProperties": False,
        },
    ]
}
_LIST_FILE: JsonSchemaValue = {
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
}

_FLAG_NAMES: JsonSchemaValue = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_FLAGS: JsonSchemaValue = {
    "type": "object",
    "properties": {"set": _FLAG_NAMES, "unset": _FLAG_NAMES},
    "minProperties": 1,
    "additionalProperties": False,
}
_ZONE: JsonSchemaValue = {"type": "string", "examples": ["Europe/Paris", "UTC"]}

_INTEGER: JsonSchemaValue = {"type": "integer", "minimum": 0}
_TEXT: JsonSchemaValue = {"type": "string"}


def _named_or_number(names: Any) -> JsonSchemaValue:
    return {"anyOf": [_INTEGER, _TEXT], "examples": sorted(names)}


_SCALARS: Mapping[Callable[..., Any], JsonSchemaValue] = {
    values.amount: _text(rf"^\s*({_RATE}|{_PERCENT})", "25%"),
    values.limit: _text(rf"^\s*({_RATE}|{_PERCENT})", "25%"),
    values.guarantee: _text(rf"^\s*({_RATE}|{_PERCENT}|{values.REMAINING}$)", "25%", values.REMAINING),
    values.limit_or_rest: _text(rf"^\s*({_RATE}|{_PERCENT}|{values.REMAINING}$)", "25%", values.REMAINING),
    values.rate: _text(rf"^\s*{_RATE}", "20mbit"),
    values.step: _text(rf"^\s*{_RATE}", "100kbit"),
    values.margin: _text(rf"^\s*{_PERCENT}", "5%"),
    values.share: _text(rf"^\s*({_PERCENT}|{values.REMAINING}$)", "60%", values.REMAINING),
    values.burst: _text(rf"^\s*({_SIZE}|{_TIME})", "5ms"),
    values.tier: _names(tier.name.lower() for tier in Tier),
    values.version: {"const": 1},
    values.priority: {"anyOf": [{"const": "strict"}, {"type": "integer", "minimum": 0, "maximum": 7}]},
    values.service: _names(SERVICE_CLASSES),
    values.link_layer: _names(LINK_LAYERS),
    values.overhead: {"type": "integer", "minimum": -64, "maximum": 256},
    values.mpu: {"type": "integer", "minimum": 0, "maximum": 256},
    queues.aqm_kind: _names(AqmKind),
    queues.aqm_time: _text(rf"^\s*{_TIME}", "5ms"),
    queues.flows: {"type": "integer", "minimum": 1, "maximum": MOST_FLOWS},
    queues.depth: {"type": "integer", "minimum": 2, "maximum": MOST_SFQ_DEPTH},
    queues.gain: {"type": "integer", "minimum": 0, "maximum": 32},
    queues.quantum: _text(rf"^\s*{_SIZE}", "1514b"),
    queues.size: _text(rf"^\s*{_SIZE}", "15kb"),
    queues.probability: _text(rf"^\s*{_PERCENT}", "2%"),
    queues.perturb: _text(rf"^\s*{_TIME}", "10s"),
    queues.ack_filter: {"enum": [True, False, "aggressive"]},
    queues.fwmark: {"anyOf": [{"type": "integer", "minimum": 1}, _text("^0x[0-9a-fA-F]{1,8}$", "0xff")]},
    queues.fairness: _names(mode for mode in FlowMode if mode is not FlowMode.FLOWBLIND),
    queues.queue_limit: {"anyOf": [{"type": "integer", "minimum": 1}, _text(rf"^\s*{_SIZE}", "64kb")]},
    values.nat: _names(Nat),
    values.mark_bits: {
        "anyOf": [
            {"type": "integer", "minimum": 0xFF, "maximum": 0xFFFFFFFF},
            _text("^0x[0-9a-fA-F]{1,8}$", "0xffff0000"),
        ]
    },
    targets.sla: _TARGETS,
    when.days: _text(r"^\s*[A-Za-z]+(\s*-\s*[A-Za-z]+)?\s*$", "mon-fri"),
    when.clock: _text(r"^[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?$", "08:00"),
    when.zone: _ZONE,
    values.device: _DEVICE,
    fields.offloads: _OFFLOADS,
    fields.netns: {"type": "string", "minLength": 1},
    treatment.outcome: {
        "anyOf": [
            _names(treatment.WORDS),
            {"type": "object", "properties": {"dscp": {}}, "required": ["dscp"], "additionalProperties": False},
        ]
    },
    treatment.priority: {"type": "integer", "minimum": 0, "maximum": treatment.MOST_PRIORITY},
    probe.address: {**_TEXT, "examples": ["192.0.2.10"]},
    probe.kind: _names(ProbeKind),
    probe.when: _names(ProbeWhen),
    reflectors.kind: _names(reflectors.KINDS),
    reflectors.bloat: _text(rf"^\s*{_TIME}", "15ms"),
    probe.port: _named_or_number(("862", "domain")),
    probe.interval: _text(rf"^\s*{_TIME}", "200ms"),
    probe.size: {"type": "integer", "minimum": 0, "maximum": probe.LARGEST},
    probe.text: {"type": "string", "minLength": 1},
    values.classifier: _names(Classifier),
    values.on_flap: _names(OnFlap),
    values.drift: _names(Drift),
    values.backend: _names(Backend),
    values.incoming: _names(Incoming),
    values.ports: _named_or_number(("443", "5060-5061", "domain")),
    fields.dscp: _named_or_number(DSCP_NAMES),
    fields.protocol: _named_or_number(PROTOCOL_NAMES),
    fields.ecn: _named_or_number(ECN_NAMES),
    fields.ethertype: _named_or_number(ETHERTYPE_NAMES),
    fields.icmp_type: _named_or_number(ICMP_TYPE_NAMES),
    fields.family: {**_TEXT, "examples": sorted(FAMILY_NAMES)},
    fields.tcp_flags: {"anyOf": [_TEXT, _FLAGS], "examples": sorted(TCP_FLAG_NAMES)},
    fields.tos: _named_or_number(("0x10/0xfc",)),
    fields.mark: _named_or_number(("0x100/0xff00",)),
    fields.length: _named_or_number(("0-128",)),
    fields.vlan: _named_or_number(("100-199",)),
    fields.pcp: {"type": "integer", "minimum": 0, "maximum": 7},
    fields.mac: {**_TEXT, "examples": ["02:00:5e:10:00:01"]},
    fields.device: {**_TEXT, "examples": ["eth1"]},
    fields.cgroup: {**_TEXT, "examples": ["/system.slice/backup.service"]},
    values.prefix: {"anyOf": [{"type": "string"}, _LIST_FILE]},
}


class _Editor(GenerateJsonSchema):
    """What pydantic cannot know: what the readers of single values take. Defaults are none of an editor's business."""

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        return _or_var(_SCALARS.get(schema["function"]["function"], {}))

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        inner = super().function_before_schema(schema)
        reader: Any = schema["function"]["function"]
        if reader in (schema_of.listed, reflectors.hosts):
            return {"anyOf": [inner["items"], {**inner, "minItems": 1}]}
        if reader is schema_of.aqm_named:
            return {"anyOf": [_or_var(_names(AqmKind)), inner]}
        if reader is schema_of.link_named:
            return {"anyOf": [_or_var(_names(LINK_LAYERS)), inner]}
        if reader is reflectors.rates_named:
            return {"anyOf": [_or_var(_SCALARS[values.rate]), inner]}
        return inner

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])  # None stands for what was not written

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return _or_var(super().bool_schema(schema))


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a policy file. Parts that are included from elsewhere need not be in it."""
    made = schema_of.FileSpec.model_json_schema(by_alias=True, schema_generator=_Editor)
    required = [key for key in made.pop("required") if key != "version"]
    apart = ("ClassSpec", "DefaultsSpec", "AdaptSpec", "AqmSpec", "ProfileSpec", "PoliceSpec", "SetSpec", "PeriodSpec")
    for name in apart:
        said = made["$defs"][name]["properties"]
        said.update({key: _apart(each) for key, each in said.items() if key not in SAME_EITHER_WAY})
    made["anyOf"] = [{"required": ["version", *required]}, {"required": ["version", "include"]}]
    made["properties"]["include"] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    title = {"title": "A policy of the shaper"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_untitled(made), **title}


def _untitled(node: Any) -> Any:
    """Without the titles that pydantic makes of the names, which say nothing more."""
    if isinstance(node, dict):
        return {key: _untitled(below) for key, below in node.items() if key != "title" or not isinstance(below, str)}
    return [_untitled(below) for below in node] if isinstance(node, list) else node
