"""The shape of a policy file: which keys there are, and what type each has."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from shaper.model.aqm import AqmKind
from shaper.model.device import Offloads, Selector
from shaper.model.link import LinkLayer
from shaper.model.link_rate import BLOAT
from shaper.model.match import Masked, PortRange, Prefix
from shaper.model.nat import Connection, Nat
from shaper.model.policy import Backend, Burst, Classifier, Direction, Drift, Incoming, OnFlap, Tier
from shaper.model.probe import ProbeKind, ProbeWhen
from shaper.model.schedule import DAY
from shaper.model.treatment import DROPPED, SENT, Outcome
from shaper.policy import fields, probe, queues, reflectors, targets, treatment, values, when
from shaper.policy.kinds import Kind
from shaper.tree import AckFilter, FlowMode


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
_Guarantee = Annotated[values.Amount | None, PlainValidator(values.guarantee)]
_Limit = Annotated[values.Amount | None, PlainValidator(values.limit_or_rest)]
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


_Outcome = Annotated[Outcome, PlainValidator(treatment.outcome)]
_PoliceBurst = Annotated[Burst | None, PlainValidator(values.burst)]


class PoliceSpec(_Spec):
    """Token buckets: one rate (`cir`, `cbs`), or two (and `pir`, `pbs`); and what becomes of each colour.

    `ebs` is known only to be refused with the reason.
    """

    cir: Annotated[int, PlainValidator(values.rate)]
    cbs: Annotated[Burst, PlainValidator(values.burst)]
    pir: Annotated[int | None, PlainValidator(values.rate)] = None
    pbs: _PoliceBurst = None
    ebs: _PoliceBurst = None
    green: _Outcome = SENT
    yellow: _Outcome = SENT
    red: _Outcome = DROPPED


class SetSpec(_Spec):
    """What is written on every packet of a class."""

    dscp: Annotated[int | None, PlainValidator(fields.dscp)] = None
    mark: Annotated[Masked | None, PlainValidator(fields.mark)] = None
    priority: Annotated[int | None, PlainValidator(treatment.priority)] = None

    @model_validator(mode="after")
    def _sets_something(self) -> SetSpec:
        if not self.model_fields_set:
            raise values.refuse(Kind.EMPTY, "this sets nothing", "such as `set: {dscp: af21}`")
        return self


class ProbeSpec(_Spec):
    """What is sent through the class, and to whom, while it has no traffic of its own, or always."""

    to: Annotated[str, PlainValidator(probe.address)]
    kind: Annotated[ProbeKind, PlainValidator(probe.kind)] = ProbeKind.STAMP
    port: Annotated[int, PlainValidator(probe.port)] = 0
    interval: Annotated[float, PlainValidator(probe.interval)] = 0.2
    size: Annotated[int | None, PlainValidator(probe.size)] = None
    dscp: Annotated[int | None, PlainValidator(fields.dscp)] = None
    when: Annotated[ProbeWhen, PlainValidator(probe.when)] = ProbeWhen.IDLE
    key_file: Annotated[str, PlainValidator(probe.text)] = Field("", alias="key-file")
    name: Annotated[str, PlainValidator(probe.text)] = ""
    path: Annotated[str, PlainValidator(probe.text)] = "/"


def aqm_named(value: object) -> object:
    """The name of a discipline stands for a mapping with nothing but it."""
    return {"kind": queues.aqm_kind(value)} if isinstance(value, str) else value


class AqmSpec(_Spec):
    """How a queue is kept short: a `kind`, and numbers of its own that come before those that are worked out."""

    kind: Annotated[AqmKind, PlainValidator(queues.aqm_kind)] = AqmKind.FQ_CODEL
    ecn: bool | None = None
    target: Annotated[float | None, PlainValidator(queues.aqm_time)] = None
    interval: Annotated[float | None, PlainValidator(queues.aqm_time)] = None
    limit: Annotated[queues.QueueLimit | None, PlainValidator(queues.queue_limit)] = None
    flows: Annotated[int | None, PlainValidator(queues.flows)] = None
    quantum: Annotated[int | None, PlainValidator(queues.quantum)] = None
    alpha: Annotated[int | None, PlainValidator(queues.gain)] = None
    beta: Annotated[int | None, PlainValidator(queues.gain)] = None
    min: Annotated[int | None, PlainValidator(queues.size)] = None
    max: Annotated[int | None, PlainValidator(queues.size)] = None
    probability: Annotated[float | None, PlainValidator(queues.probability)] = None
    depth: Annotated[int | None, PlainValidator(queues.depth)] = None
    perturb: Annotated[float | None, PlainValidator(queues.perturb)] = None
    nat: bool | None = None
    wash: bool | None = None
    ack_filter: Annotated[AckFilter | None, PlainValidator(queues.ack_filter)] = Field(None, alias="ack-filter")
    split_gso: bool | None = Field(None, alias="split-gso")


class CakeSpec(_Spec):
    """What the CAKE at the root of an interface has beside its bandwidth and tins."""

    fairness: Annotated[FlowMode, PlainValidator(queues.fairness)] = FlowMode.TRIPLE_ISOLATE
    rtt: Annotated[float | None, PlainValidator(queues.aqm_time)] = None
    limit: Annotated[int | None, PlainValidator(queues.size)] = None
    nat: bool = False
    wash: bool = False
    ack_filter: Annotated[AckFilter, PlainValidator(queues.ack_filter)] = Field(AckFilter.NONE, alias="ack-filter")
    split_gso: bool = Field(True, alias="split-gso")
    fwmark: Annotated[int, PlainValidator(queues.fwmark)] = 0

    @model_validator(mode="after")
    def _says_something(self) -> CakeSpec:
        if not self.model_fields_set:
            raise values.refuse(
                Kind.EMPTY, "this says nothing of CAKE", "such as `{fairness: dual-srchost, nat: true}`"
            )
        return self


class WhenSpec(_Spec):
    """A period of the week: `days` on which it begins, from one time of day to another, over midnight where that is
    the earlier one. What is not said: every day, the whole day, the zone of the file."""

    days: Annotated[list[Annotated[frozenset[int], PlainValidator(when.days)]], BeforeValidator(listed)] = []
    begin: Annotated[int, PlainValidator(when.clock)] = Field(0, alias="from")
    end: Annotated[int, PlainValidator(when.clock)] = Field(DAY, alias="to")
    zone: Annotated[when.Zone | None, PlainValidator(when.zone)] = None

    @model_validator(mode="after")
    def _bounds_something(self) -> WhenSpec:
        if not self.model_fields_set & {"days", "begin", "end"}:
            hint = 'such as `{days: mon-fri, from: "08:00", to: "18:00"}`'
            raise values.refuse(Kind.EMPTY, "a period without days and hours is always", hint)
        if self.begin in (self.end, DAY):
            hint = 'a whole day is from "00:00" to "24:00", which need not be said'
            raise values.refuse(Kind.BAD_CLOCK, "the period is over when it begins", hint)
        return self


def period_there(value: object) -> object:
    """A period that was wrong is nothing, so that its neighbours keep their places; written as nothing it is wrong."""
    if value is None:
        hint = "such as `{when: {days: [sat, sun]}, limit: 5mbit}`"
        raise values.refuse(Kind.WRONG_TYPE, "expected a mapping, found nothing", hint)
    return None if value is LEFT_OUT else value


def periods_there(value: object) -> object:
    """At least one."""
    if value == []:
        raise values.refuse(Kind.EMPTY, "a schedule without periods changes nothing", "take the key out, or say when")
    return value


class PeriodSpec(_Spec):
    """What of a class's numbers are others, and when; each stands in the place of the class's own key as a whole."""

    when: WhenSpec
    guarantee: _Guarantee = None
    limit: _Limit = None
    share: Annotated[float | None, PlainValidator(values.share)] = None
    priority: Annotated[int | None, PlainValidator(values.priority)] = None
    burst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    cburst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    profile: ProfileSpec | None = None
    adapt: AdaptSpec = _KEEPS_ALL
    sla: Annotated[targets.SlaSpec, PlainValidator(targets.sla)] = targets.SlaSpec()


_EachPeriod = Annotated[PeriodSpec | None, BeforeValidator(period_there)]
_Periods = Annotated[list[_EachPeriod], BeforeValidator(periods_there)]


class ClassSpec(_Spec):
    """A class as written; what is None was not."""

    tier: Annotated[Tier | None, PlainValidator(values.tier)] = None
    guarantee: _Guarantee = None
    limit: _Limit = None
    share: Annotated[float | None, PlainValidator(values.share)] = None
    priority: Annotated[int | None, PlainValidator(values.priority)] = None
    service_class: Annotated[str | None, PlainValidator(values.service)] = Field(default=None, alias="service-class")
    burst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    cburst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    profile: ProfileSpec | None = None
    aqm: Annotated[AqmSpec, BeforeValidator(aqm_named)] | None = None
    fairness: Annotated[FlowMode | None, PlainValidator(queues.fairness)] = None
    police: PoliceSpec | None = None
    marking: SetSpec | None = Field(default=None, alias="set")
    wash: bool = False
    probe: ProbeSpec | None = None
    adapt: AdaptSpec = _KEEPS_ALL
    default: bool = False
    match: list[MatchSpec] = []
    sla: Annotated[targets.SlaSpec, PlainValidator(targets.sla)] = targets.SlaSpec()
    schedule: _Periods = []
    classes: dict[str, ClassSpec] = {}


class DefaultsSpec(_Spec):
    """What every class has that does not say it: `tier` at the top of a policy, `sla` where packets wait."""

    tier: Annotated[Tier | None, PlainValidator(values.tier)] = None
    limit: _Limit = None
    share: Annotated[float | None, PlainValidator(values.share)] = None
    burst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    cburst: Annotated[Burst | None, PlainValidator(values.burst)] = None
    aqm: Annotated[AqmSpec, BeforeValidator(aqm_named)] | None = None
    fairness: Annotated[FlowMode | None, PlainValidator(queues.fairness)] = None
    sla: Annotated[targets.SlaSpec, PlainValidator(targets.sla)] = targets.SlaSpec()


class PolicySpec(_Spec):
    defaults: DefaultsSpec = DefaultsSpec()
    classes: dict[str, ClassSpec]


class RateSpec(_Spec):
    """What one direction carries, in bit/s: `base`; where that moves, `min` and `max` bound it."""

    min: Annotated[int | None, PlainValidator(values.rate)] = None
    base: Annotated[int, PlainValidator(values.rate)]
    max: Annotated[int | None, PlainValidator(values.rate)] = None

    @property
    def moves(self) -> bool:
        """Whether it is not always the same."""
        return self.min is not None or self.max is not None


_Rates = Annotated[RateSpec, BeforeValidator(reflectors.rates_named)]


class BandwidthSpec(_Spec):
    """A direction without one is not shaped."""

    egress: _Rates | None = None
    ingress: _Rates | None = None

    @model_validator(mode="after")
    def _shapes_something(self) -> BandwidthSpec:
        if not self.model_fields_set:
            hint = "write egress, ingress or both, such as `{egress: 20mbit, ingress: 100mbit}`"
            raise values.refuse(Kind.MISSING_KEY, "the bandwidth of no direction is said", hint)
        return self

    def of(self, direction: Direction) -> int | None:
        """The base, in bit/s; None where that direction is not shaped."""
        rates = self.rates(direction)
        return None if rates is None else rates.base

    def rates(self, direction: Direction) -> RateSpec | None:
        """None where that direction is not shaped."""
        return self.egress if direction is Direction.EGRESS else self.ingress


class ReflectorsSpec(_Spec):
    """Hosts that answer probes over a link that moves, and the `delay` that its queue may add."""

    to: Annotated[list[Annotated[str, PlainValidator(probe.address)]], BeforeValidator(reflectors.hosts)]
    kind: Annotated[ProbeKind, PlainValidator(reflectors.kind)] = ProbeKind.ICMP
    port: Annotated[int, PlainValidator(probe.port)] = 0
    delay: Annotated[float, PlainValidator(reflectors.bloat)] = BLOAT


class LinkPeriodSpec(_Spec):
    """When an interface has another bandwidth; a direction that it does not name keeps its own."""

    when: WhenSpec
    bandwidth: BandwidthSpec = BandwidthSpec.model_construct()


_EachLinkPeriod = Annotated[LinkPeriodSpec | None, BeforeValidator(period_there)]
_LinkPeriods = Annotated[list[_EachLinkPeriod], BeforeValidator(periods_there)]


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


class ConnectionSpec(_Spec):
    """What is kept with a connection: in which bits of its mark, and whether its DSCP is."""

    mark: Annotated[int, PlainValidator(values.mark_bits)] = Connection().mark
    restore_dscp: bool = Field(False, alias="restore-dscp")


class InterfaceSpec(_Spec):
    device: Annotated[Selector, PlainValidator(values.device)]
    netns: Annotated[str, PlainValidator(fields.netns)] = ""
    bandwidth: BandwidthSpec
    margin: Annotated[float, PlainValidator(values.margin)] = 0.0
    link: Annotated[LinkSpec, BeforeValidator(link_named)] | None = None
    policy: str
    reflectors: ReflectorsSpec | None = None
    schedule: _LinkPeriods = []
    classifier: Annotated[Classifier, PlainValidator(values.classifier)] = Classifier.AUTO
    backend: Annotated[Backend, PlainValidator(values.backend)] = Backend.AUTO
    ingress: Annotated[Incoming, PlainValidator(values.incoming)] = Incoming.QUEUE
    cake: CakeSpec | None = None
    offloads: Annotated[Offloads | None, PlainValidator(fields.offloads)] = None
    nat: Annotated[Nat, PlainValidator(values.nat)] = Nat.AUTO
    on_flap: Annotated[OnFlap, PlainValidator(values.on_flap)] = Field(OnFlap.KEEP, alias="on-flap")
    drift: Annotated[Drift, PlainValidator(values.drift)] = Drift.MEND
    connection: ConnectionSpec | None = None


class FileSpec(_Spec):
    """The whole; `include` is followed and `vars` are filled in before this is looked at."""

    version: Annotated[int, PlainValidator(values.version)]
    include: list[str] = []
    zone: Annotated[when.Zone | None, PlainValidator(when.zone)] = None
    vars: dict[str, str | int | float | bool] = {}
    defaults: DefaultsSpec = DefaultsSpec()
    match_groups: dict[str, list[MatchSpec]] = Field({}, alias="match-groups")
    interfaces: dict[str, InterfaceSpec]
    policies: dict[str, PolicySpec]
