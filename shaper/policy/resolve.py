"""A policy on an interface: percentages to bit/s, defaults filled in, and whether the rates fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shaper.errors import Problem, Where
from shaper.model.aqm import Aqm, CakeSettings
from shaper.model.link_rate import Moving
from shaper.model.match import NETWORK_CONTROL, network_control_matches
from shaper.model.policy import Backend, Contract, Direction, Interface, Tier, TrafficClass
from shaper.model.sla import Sla
from shaper.model.treatment import Marking
from shaper.policy.connection import kept
from shaper.policy.draft import Draft
from shaper.policy.guarantees import IMPLIED_SHARE, Guarantees, shares_of
from shaper.policy.kinds import Kind
from shaper.policy.link import link_layer, usable
from shaper.policy.moving import floor_problem, moving, probes_of
from shaper.policy.policed import at_once, is_policed, unused_keys
from shaper.policy.probe import stated
from shaper.policy.profile import infeasible
from shaper.policy.reader import Document
from shaper.policy.schema import AqmSpec, CakeSpec, InterfaceSpec
from shaper.policy.text import Loc, quoted
from shaper.policy.treatment import marking, policer
from shaper.policy.validate import Lost
from shaper.units import format_rate

SLOWEST = 8_000  # bit/s; below it one full packet takes longer than a second

_ENDLESS = 10**18
_CONTROL_SHARE = 0.01
_CONTROL_LEAST = 64_000
_CONTROL_MOST_SHARE = 0.10
_CONTROL_LIMIT = 10


def interface(
    name: str, spec: InterfaceSpec, direction: Direction, drafts: Sequence[Draft], document: Document, lost: Lost
) -> tuple[Interface, list[Problem]]:
    """One direction of an interface with its classes, and what is wrong with their rates on it.

    With problems it means nothing. The direction must have a bandwidth.
    """
    loc: Loc = ("interfaces", name)
    rate = spec.bandwidth.of(direction) or 0
    resolver = _Resolver(name, document, lost)
    layer, misfits = link_layer(spec, loc, document, lost)
    resolver.problems += misfits
    bandwidth = usable(rate, spec.margin, layer)
    if bandwidth < SLOWEST:
        message = f"{format_rate(bandwidth)} is too slow to be shaped"
        hint = f"at least {format_rate(SLOWEST)}"
        resolver.problems.append(document.problem(Kind.BAD_QUANTITY, (*loc, "bandwidth", direction), message, hint))
    moves = moving(spec, direction, layer)
    most = bandwidth if moves is None else moves.most
    control = network_control(bandwidth, document.value((*loc, "bandwidth", direction)), moves)
    resolver.guarantees.work_out(drafts, bandwidth, reserved=control.guarantee)
    resolver.guarantees.fits_bandwidth(drafts, bandwidth, control.guarantee)
    classes = resolver.classes(drafts, bandwidth, bandwidth, most, reserved=control.guarantee)
    policed = is_policed(spec, direction)
    floors = control.floor + sum(cls.floor for cls in classes)
    if moves is not None and not resolver.problems and floors > moves.least:
        resolver.problems.append(floor_problem(name, spec, direction, floors, moves.least, document))
    prompt = frozenset(leaf.path for top in classes for leaf in top.walk() if leaf.sla.delays or leaf.sla.jitters)
    if policed:
        classes = tuple(map(at_once, classes))
    if not resolver.problems and (*loc, "bandwidth") not in lost:
        resolver.problems += infeasible(drafts, classes, bandwidth, document)
    resolved = Interface(
        name=name,
        device=str(spec.device),
        wanted=spec.device,
        bandwidth=bandwidth,
        policy=spec.policy,
        classes=(control, *classes),
        where=document.key(loc),
        device_where=document.value((*loc, "device")),
        classifier=spec.classifier,
        classifier_where=document.value((*loc, "classifier")),
        backend=Backend.AUTO if policed else spec.backend,
        cake=None if policed else _cake(spec.cake),
        policed=policed,
        policed_where=document.value((*loc, "ingress")) if policed else None,
        unused=unused_keys(drafts) if policed else (),
        prompt=prompt if policed else frozenset(),
        line_rate=rate,
        margin=spec.margin,
        link=layer,
        direction=direction,
        netns=spec.netns,
        netns_where=document.value((*loc, "netns")) if spec.netns else None,
        offloads=spec.offloads and replace(spec.offloads, where=document.value((*loc, "offloads"))),
        nat=spec.nat,
        on_flap=spec.on_flap,
        drift=spec.drift,
        connection=kept(spec.connection),
        moving=moves,
    )
    return resolved, resolver.problems


def unplaced_problems(name: str, drafts: Sequence[Draft], document: Document, lost: Lost) -> list[Problem]:
    """What is wrong with the rates of a policy for which no bandwidth is known: nothing, where one is a part of it."""
    every = [cls.spec for top in drafts for cls in top.walk()]
    amounts = [amount for spec in every for amount in (spec.guarantee, spec.limit, spec.adapt.min, spec.sla.throughput)]
    if any(amount is not None and amount.relative for amount in amounts):
        return []
    resolver = _Resolver(name, document, lost)
    resolver.guarantees.work_out(drafts, _ENDLESS)
    resolver.classes(drafts, _ENDLESS, _ENDLESS, _ENDLESS)
    return resolver.problems


def network_control(bandwidth: int, where: Where, moves: Moving | None = None) -> TrafficClass:
    """What every interface has: 1 % of it, at least 64 kbit/s, at most 10 %, and ten times that where there is room.

    The probes by which a moving link is found are part of it.
    """
    guarantee = min(max(round(bandwidth * _CONTROL_SHARE), _CONTROL_LEAST), round(bandwidth * _CONTROL_MOST_SHARE))
    return TrafficClass(
        name=NETWORK_CONTROL,
        path=NETWORK_CONTROL,
        where=where,
        tier=Tier.SPECIAL,
        guarantee=guarantee,
        floor=guarantee,
        limit=min(_CONTROL_LIMIT * guarantee, bandwidth),
        share=IMPLIED_SHARE,
        matches=(*network_control_matches(), *(probes_of(moves) if moves else ())),
        implied=True,
    )


class _Resolver:
    """Rates of one interface; `guarantees` first, then the rest, each top-down."""

    def __init__(self, interface: str, document: Document, lost: Lost) -> None:
        self._document = document
        self._lost = lost
        self.guarantees = Guarantees(interface, document, lost)
        self.problems = self.guarantees.problems

    def classes(
        self,
        drafts: Sequence[Draft],
        guarantee: int,
        limit: int,
        most: int,
        marked: Marking | None = None,
        reserved: int = 0,
    ) -> tuple[TrafficClass, ...]:
        """The classes below a parent with that guarantee and limit, which marks its packets so.

        Without a limit of their own they may have `most`, which on a link that moves is more than percentages are of.
        Of what remains nobody has the `reserved`.
        """
        shares = shares_of(drafts)
        marked = marked or Marking()
        taken = reserved + sum(self.guarantees.of(cls) for cls in drafts)
        return tuple(
            self._class(cls, share, guarantee, limit, most, marked, taken - self.guarantees.of(cls))
            for cls, share in zip(drafts, shares, strict=True)
        )

    def _class(
        self, cls: Draft, share: float, whole: int, basis: int, most: int, marked: Marking, taken: int
    ) -> TrafficClass:
        """`taken` are the guarantees beside it."""
        marked = marking(cls.spec, marked)
        guarantee = self.guarantees.of(cls)
        limit = most if cls.spec.limit is None else cls.spec.limit.of(basis, taken)
        if cls.spec.limit is not None and not limit:
            self.guarantees.nothing_remains(cls, "limit")
        if cls.strict:  # one rate, whichever of the two was written
            limit = guarantee or limit
        children = self.classes(cls.children, guarantee, limit, limit, marked)
        below = sum(child.floor for child in children)
        if cls.spec.adapt.min is not None:
            floor = cls.spec.adapt.min.of(whole)
        else:  # what a class without a guarantee of its own keeps is what its children keep
            floor = below if children and cls.spec.guarantee is None else guarantee
        throughput, profile = cls.spec.sla.throughput, cls.spec.profile
        resolved = TrafficClass(
            name=cls.name,
            path=cls.path,
            where=cls.where,
            tier=cls.tier,
            guarantee=guarantee,
            floor=floor,
            limit=limit,
            share=share,
            default=cls.default,
            matches=cls.matches,
            sla=Sla(
                delays=cls.spec.sla.delays,
                loss=cls.spec.sla.loss,
                throughput=None if throughput is None else throughput.of(whole),
                jitters=cls.spec.sla.jitters,
                mos=cls.spec.sla.mos,
            ),
            children=children,
            implied=cls.implied,
            most=0 if cls.spec.adapt.max is None else cls.spec.adapt.max.of(basis),
            step=cls.spec.adapt.step,
            priority=cls.spec.priority,
            burst=cls.spec.burst,
            cburst=cls.spec.cburst,
            service=cls.spec.service_class or "",
            presets=cls.presets,
            aqm=_aqm(cls.spec.aqm),
            fairness=cls.spec.fairness,
            police=policer(cls.spec.police),
            marking=marked,
            probe=stated(cls.spec.probe),
            contract=None if profile is None else Contract(profile.cir, profile.cbs.of(profile.cir)),
        )
        self._check(cls, resolved, most, below)
        return resolved

    def _check(self, cls: Draft, resolved: TrafficClass, most: int, below: int) -> None:
        name, guarantee, limit, floor = quoted(cls.path), resolved.guarantee, resolved.limit, resolved.floor
        if cls.spec.limit is not None and limit < guarantee:
            message = f"the limit of {name}, {format_rate(limit)}, is below its guarantee of {format_rate(guarantee)}"
            hint = f"raise the limit to at least {format_rate(guarantee)}, or lower the guarantee"
            self._say(Kind.LIMIT_BELOW_GUARANTEE, cls, "limit", message, hint)
        if limit > most:
            message = f"{name} can never reach {format_rate(limit)}: what it is part of ends at {format_rate(most)}"
            hint = f"write at most {format_rate(most)}, or take the limit out"
            self._say(Kind.LIMIT_ABOVE_PARENT, cls, "limit", message, hint)
        if floor > guarantee and (*cls.loc, "guarantee") not in self._lost:
            message = f"the floor of {name}, {format_rate(floor)}, is above its guarantee of {format_rate(guarantee)}"
            hint = f"write at most {format_rate(guarantee)}, or raise the guarantee"
            self._say(Kind.FLOOR_ABOVE_GUARANTEE, cls, "adapt", message, hint, "min")
        if below > floor and cls.spec.adapt.min is not None:
            message = f"the floors in {quoted(cls.path)} come to {format_rate(below)}, its own is {format_rate(floor)}"
            hint = (
                f"raise it to {format_rate(below)}, or give the classes inside lower floors with `adapt: {{min: ..}}`"
            )
            self._say(Kind.FLOORS_EXCEED_PARENT, cls, "adapt", message, hint, "min")
        if resolved.most and not guarantee <= resolved.most <= limit:
            message = f"the most of {name}, {format_rate(resolved.most)}, is not between its guarantee and its limit"
            hint = f"write a rate from {format_rate(guarantee)} to {format_rate(limit)}, or take it out"
            self._say(Kind.MOST_OUT_OF_BOUNDS, cls, "adapt", message, hint, "max")
        if resolved.police is not None and 0 < resolved.police.most < guarantee:
            let = format_rate(resolved.police.most)
            message = f"{name} is guaranteed {format_rate(guarantee)}, but policed down to {let}"
            hint = f"guarantee at most {let}, or police at a higher rate"
            self._say(Kind.POLICE_BELOW_GUARANTEE, cls, "police", message, hint)
        ends = [(limit, "limited", "raise the limit")]
        if resolved.police is not None and resolved.police.most:
            ends.append((resolved.police.most, "policed down", "police at a higher rate"))
        sent, how, mend = min(ends)
        throughput = resolved.sla.throughput
        if throughput is not None and throughput > sent:
            message = f"{name} is {how} to {format_rate(sent)}, so it cannot reach {format_rate(throughput)}"
            hint = f"write at most {format_rate(sent)}, or {mend}"
            self._say(Kind.THROUGHPUT_ABOVE_LIMIT, cls, "sla", message, hint, "throughput")

    def _say(self, kind: Kind, cls: Draft, key: str, message: str, hint: str, *more: str) -> None:
        self.problems.append(self._document.problem(kind, (*cls.loc, key, *more), message, hint))


def _aqm(spec: AqmSpec | None) -> Aqm | None:
    if spec is None:
        return None
    packets, size = spec.limit or (0, 0)
    return Aqm(
        kind=spec.kind,
        ecn=spec.ecn,
        target=spec.target,
        interval=spec.interval,
        packets=packets or None,
        size=size or None,
        flows=spec.flows,
        quantum=spec.quantum,
        depth=spec.depth,
        perturb=spec.perturb,
        least=spec.min,
        most=spec.max,
        probability=spec.probability,
        alpha=spec.alpha,
        beta=spec.beta,
        nat=spec.nat,
        wash=spec.wash,
        ack_filter=spec.ack_filter,
        split_gso=spec.split_gso,
    )


def _cake(spec: CakeSpec | None) -> CakeSettings | None:
    if spec is None:
        return None
    return CakeSettings(
        fairness=spec.fairness,
        rtt=spec.rtt,
        size=spec.limit,
        nat=spec.nat,
        wash=spec.wash,
        ack_filter=spec.ack_filter,
        split_gso=spec.split_gso,
        fwmark=spec.fwmark,
    )
