"""The shape of a policy file: which keys there are, what type each has; and pydantic's errors as Problems.

What is wrong is reported and left out, so that the checks that follow can look at the rest of the file; `Lost`
knows what was left out, so that nothing is blamed for it twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import ErrorDetails

from shaper.errors import Problem
from shaper.model.aqm import AqmKind
from shaper.model.device import Selector
from shaper.model.link import LinkLayer
from shaper.model.match import Masked, PortRange, Prefix
from shaper.model.policy import Backend, Burst, Classifier, Direction, Tier
from shaper.policy import fields, values
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document, Node
from shaper.policy.text import Loc, did_you_mean, quoted


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def listed(value: object) -> object:
    """One value or a list of them."""
    if value == []:
        raise values.refuse(
            Kind.EMPTY, "an empty list matches nothing", "take the key out, or name what it should match"
        )
    return value if isinstance(value, list) else [value]


def _there(value: object) -> object:
    """What may be left out, but not written as nothing."""
    if value is None:
        raise values.refuse(Kind.WRONG_TYPE, "expected a mapping, found nothing", "such as `inner: {dscp: ef}`")
    return value


_Amount = Annotated[values.Amount | None, PlainValidator(values.amount)]
_Prefixes = Annotated[list[Annotated[Prefix, PlainValidator(values.prefix)]], BeforeValidator(listed)]
_Ports = Annotated[list[Annotated[PortRange, PlainValidator(values.ports)]], BeforeValidator(listed)]
_Protocols = Annotated[list[Annotated[int, PlainValidator(fields.protocol)]], BeforeValidator(listed)]
_Family = Annotated[list[Annotated[int, PlainValidator(fields.family)]], BeforeValidator(listed)]
_Ethertypes = Annotated[list[Annotated[int, PlainValidator(fields.ethertype)]], BeforeValidator(listed)]
_Dscps = Annotated[list[Annotated[int, PlainValidator(fields.dscp)]], BeforeValidator(listed)]
_ToS = Annotated[list[Annotated[Masked, PlainValidator(fields.tos)]], BeforeValidator(listed)]
_Ecns = Annotated[list[Annotated[int, PlainValidator(fields.ecn)]], BeforeValidator(listed)]
_Flags = Annotated[list[Annotated[Masked, PlainValidator(fields.tcp_flags)]], BeforeValidator(listed)]
_IcmpType = Annotated[tuple[tuple[int, int], ...], PlainValidator(fields.icmp_type)]
_IcmpTypes = Annotated[list[_IcmpType], BeforeValidator(listed)]
_Lengths = Annotated[list[Annotated[PortRange, PlainValidator(fields.length)]], BeforeValidator(listed)]
_Vlans = Annotated[list[Annotated[PortRange, PlainValidator(fields.vlan)]], BeforeValidator(listed)]
_Pcps = Annotated[list[Annotated[int, PlainValidator(fields.pcp)]], BeforeValidator(listed)]
_Macs = Annotated[list[Annotated[int, PlainValidator(fields.mac)]], BeforeValidator(listed)]
_Marks = Annotated[list[Annotated[Masked, PlainValidator(fields.mark)]], BeforeValidator(listed)]
_Devices = Annotated[list[Annotated[str, PlainValidator(fields.device)]], BeforeValidator(listed)]
_Cgroups = Annotated[list[Annotated[str, PlainValidator(fields.cgroup)]], BeforeValidator(listed)]
_Parts = Annotated[list["MatchSpec"], BeforeValidator(listed)]
_Inner = Annotated["MatchSpec | None", BeforeValidator(_there)]


class MatchSpec(_Spec):
    """Conditions that must all hold; a list inside one means any of its values.

    `inner` asks the packet that a tunnel carries; of `any` one must hold, of `all` every one, of `not` none. `group`
    names a list of matches under `match-groups`, one of which must hold, too.
    """

    group: str | None = None
    family: _Family = []
    proto: _Protocols = []
    src: _Prefixes = []
    dst: _Prefixes = []
    net: _Prefixes = []
    sport: _Ports = []
    dport: _Ports = []
    port: _Ports = []
    dscp: _Dscps = []
    tos: _ToS = []
    ecn: _Ecns = []
    tcp_flags: _Flags = Field([], alias="tcp-flags")
    icmp_type: _IcmpTypes = Field([], alias="icmp-type")
    length: _Lengths = []
    vlan: _Vlans = []
    pcp: _Pcps = []
    mac: _Macs = []
    src_mac: _Macs = Field([], alias="src-mac")
    dst_mac: _Macs = Field([], alias="dst-mac")
    ethertype: _Ethertypes = []
    mark: _Marks = []
    iif: _Devices = []
    cgroup: _Cgroups = []
    inner: _Inner = None
    any_of: _Parts = Field([], alias="any")
    all_of: _Parts = Field([], alias="all")
    none_of: _Parts = Field([], alias="not")

    @model_validator(mode="after")
    def _asks_something(self) -> MatchSpec:
        if not self.model_fields_set and self is not LEFT_OUT:
            hint = "name what it should match, or leave `match` out and write `default: true`"
            raise values.refuse(Kind.EMPTY, "a match without a condition takes everything", hint)
        return self


LEFT_OUT = MatchSpec.model_construct()
"""Stands for a match that was wrong, so that its neighbours keep their places."""


class AdaptSpec(_Spec):
    """What the controller may do: `min` is the floor that it leaves, `max` the most it grants, `step` its grid."""

    min: _Amount = None
    max: Annotated[values.Amount | None, PlainValidator(values.limit)] = None
    step: Annotated[int, PlainValidator(values.step)] = 0

    @model_validator(mode="after")
    def _says_something(self) -> AdaptSpec:
        if not self.model_fields_set:
            raise values.refuse(Kind.EMPTY, "this says nothing of what may be adapted", "such as `min: 500kbit`")
        return self


_KEEPS_ALL = AdaptSpec.model_construct()


class ProfileSpec(_Spec):
    """The contracted traffic: the committed rate, and the burst that may come at once (RFC 2697: CIR, CBS)."""

    cir: Annotated[int, PlainValidator(values.rate)]
    cbs: Annotated[Burst, PlainValidator(values.burst)]


def aqm_named(value: object) -> object:
    """The name of a discipline stands for a mapping with nothing but it."""
    return {"kind": values.aqm_kind(value)} if isinstance(value, str) else value


class AqmSpec(_Spec):
    """How a queue is kept short: a `kind`, and numbers of its own that come before those that are worked out."""

    kind: Annotated[AqmKind, PlainValidator(values.aqm_kind)] = AqmKind.FQ_CODEL
    ecn: bool | None = None
    target: Annotated[float | None, PlainValidator(values.aqm_time)] = None
    interval: Annotated[float | None, PlainValidator(values.aqm_time)] = None
    limit: Annotated[values.QueueLimit | None, PlainValidator(values.queue_limit)] = None


class ClassSpec(_Spec):
    """A class as written; what is None was not."""

    tier: Annotated[Tier | None, PlainValidator(values.tier)] = None
    guarantee: _Amount = None
    limit: Annotated[values.Amount | None, PlainValidator(values.limit)] = None
    share: Annotated[float | None, PlainValidator(values.share)] = None
    priority: Annotated[int | None, PlainValidator(values.priority)] = None
    service_class: Annotated[str | None, PlainValidator(values.service)] = Field(default=None, alias="service-class")
    burst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    cburst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    profile: ProfileSpec | None = None
    aqm: Annotated[AqmSpec, BeforeValidator(aqm_named)] | None = None
    adapt: AdaptSpec = _KEEPS_ALL
    default: bool = False
    match: list[MatchSpec] = []
    sla: Annotated[values.SlaSpec, PlainValidator(values.sla)] = values.SlaSpec()
    classes: dict[str, ClassSpec] = {}


class DefaultsSpec(_Spec):
    """What every class has that does not say it: `tier` at the top of a policy, `sla` where packets wait."""

    tier: Annotated[Tier | None, PlainValidator(values.tier)] = None
    limit: Annotated[values.Amount | None, PlainValidator(values.limit)] = None
    share: Annotated[float | None, PlainValidator(values.share)] = None
    burst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    cburst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    aqm: Annotated[AqmSpec, BeforeValidator(aqm_named)] | None = None
    sla: Annotated[values.SlaSpec, PlainValidator(values.sla)] = values.SlaSpec()


class PolicySpec(_Spec):
    defaults: DefaultsSpec = DefaultsSpec()
    classes: dict[str, ClassSpec]


class BandwidthSpec(_Spec):
    """In bit/s; a direction without one is not shaped."""

    egress: Annotated[int | None, PlainValidator(values.rate)] = None
    ingress: Annotated[int | None, PlainValidator(values.rate)] = None

    @model_validator(mode="after")
    def _shapes_something(self) -> BandwidthSpec:
        if not self.model_fields_set:
            hint = "write egress, ingress or both, such as `{egress: 20mbit, ingress: 100mbit}`"
            raise values.refuse(Kind.MISSING_KEY, "the bandwidth of no direction is said", hint)
        return self

    def of(self, direction: Direction) -> int | None:
        """None where that direction is not shaped."""
        return self.egress if direction is Direction.EGRESS else self.ingress


def link_named(value: object) -> object:
    """The name of a link layer stands for a mapping with nothing but it."""
    return {"type": values.link_layer(value).name} if isinstance(value, str) else value


class LinkSpec(_Spec):
    """What a link puts around a packet: a `type`, and numbers of its own that come before the type's."""

    type: Annotated[LinkLayer | None, PlainValidator(values.link_layer)] = None
    overhead: Annotated[int | None, PlainValidator(values.overhead)] = None
    mpu: Annotated[int | None, PlainValidator(values.mpu)] = None
    atm: bool | None = None
    ptm: bool | None = None


class InterfaceSpec(_Spec):
    device: Annotated[Selector, PlainValidator(values.device)]
    bandwidth: BandwidthSpec
    margin: Annotated[float, PlainValidator(values.margin)] = 0.0
    link: Annotated[LinkSpec, BeforeValidator(link_named)] | None = None
    policy: str
    classifier: Annotated[Classifier, PlainValidator(values.classifier)] = Classifier.AUTO
    backend: Annotated[Backend, PlainValidator(values.backend)] = Backend.AUTO


class FileSpec(_Spec):
    """The whole; `include` is followed and `vars` are filled in before this is looked at."""

    version: Annotated[int, PlainValidator(values.version)]
    include: list[str] = []
    vars: dict[str, str | int | float | bool] = {}
    defaults: DefaultsSpec = DefaultsSpec()
    match_groups: dict[str, list[MatchSpec]] = Field({}, alias="match-groups")
    interfaces: dict[str, InterfaceSpec]
    policies: dict[str, PolicySpec]


# What stands under a key: for unknown keys, the words that are known there.
_BELOW: dict[tuple[type[BaseModel], str], type[BaseModel]] = {
    (FileSpec, "interfaces"): InterfaceSpec,
    (FileSpec, "policies"): PolicySpec,
    (FileSpec, "defaults"): DefaultsSpec,
    (FileSpec, "match-groups"): MatchSpec,
    (PolicySpec, "defaults"): DefaultsSpec,
    (InterfaceSpec, "bandwidth"): BandwidthSpec,
    (InterfaceSpec, "link"): LinkSpec,
    (PolicySpec, "classes"): ClassSpec,
    (ClassSpec, "classes"): ClassSpec,
    (ClassSpec, "match"): MatchSpec,
    (MatchSpec, "inner"): MatchSpec,
    (MatchSpec, "any"): MatchSpec,
    (MatchSpec, "all"): MatchSpec,
    (MatchSpec, "not"): MatchSpec,
    (ClassSpec, "adapt"): AdaptSpec,
    (ClassSpec, "profile"): ProfileSpec,
    (ClassSpec, "aqm"): AqmSpec,
    (DefaultsSpec, "aqm"): AqmSpec,
}
_COLLECTIONS = frozenset({"interfaces", "policies", "classes", "match", "match-groups", "any", "all", "not"})
_WHOLE: dict[str, Any] = {"version": 1, "interfaces": {}, "policies": {}}
_EXAMPLES = {
    "interfaces": "{wan: {device: eth1, bandwidth: {egress: 20mbit}, policy: branch-office}}",
    "policies": "{branch-office: {classes: {rest: {default: true}}}}",
    "classes": "{rest: {default: true}}",
    "bandwidth": "{egress: 20mbit, ingress: 100mbit}",
    "device": "eth1",
    "link": "docsis",
    "atm": "true",
    "ptm": "true",
    "policy": "branch-office",
    "adapt": "{min: 500kbit}",
    "default": "true",
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
    "cir": "2mbit",
    "cbs": "20kb",
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
        known = _known_keys(loc[:-1])
        guess = did_you_mean(name, known)
        hint = f"{guess}the keys here are {', '.join(known)}"
        return document.problem(Kind.UNKNOWN_KEY, loc, f"unknown key {quoted(name)}", hint, at_key=True)
    if kind == "missing":
        hint = f"such as `{name}: {_EXAMPLES[name]}`"
        return document.problem(Kind.MISSING_KEY, loc, f"the key {name!r} is missing", hint, at_key=True)
    if kind in _EXPECTED:
        message = f"expected {_EXPECTED[kind]}, found {values.said(detail['input'])}"
        if isinstance(loc[-1], int):
            hint = "such as `{dscp: ef}`"
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


def _known_keys(loc: Loc) -> list[str]:
    """The keys that the mapping at `loc` may have."""
    spec: type[BaseModel] = FileSpec
    steps = iter(loc)
    for step in steps:
        if isinstance(step, int):  # one match of a list
            continue
        spec = _BELOW[spec, step]
        if step in _COLLECTIONS:
            next(steps)
    return [each.alias or name for name, each in spec.model_fields.items()]
