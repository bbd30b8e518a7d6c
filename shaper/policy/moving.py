"""A link whose rate moves, as written: from the least to the most that it carries, and who answers probes over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from shaper.errors import Problem
from shaper.model.link import LinkLayer
from shaper.model.link_rate import Moving
from shaper.model.match import ICMP, ICMPV6, UDP, Match, PortRange, Prefix
from shaper.model.policy import Backend, Direction
from shaper.model.probe import ProbeKind
from shaper.policy.kinds import Kind
from shaper.policy.link import usable
from shaper.policy.reader import Document
from shaper.policy.schema import InterfaceSpec, RateSpec
from shaper.policy.text import Loc, quoted
from shaper.policy.validate import Lost
from shaper.units import format_rate

_ECHOES = {4: tuple((ICMP, kind) for kind in (8, 0)), 6: tuple((ICMPV6, kind) for kind in (128, 129))}
_RATED = frozenset({Backend.AUTO, Backend.HTB, Backend.CAKE})


def moving(spec: InterfaceSpec, direction: Direction, layer: LinkLayer | None) -> Moving | None:
    """What one direction of an interface moves between; None where its rate stands."""
    rates = spec.bandwidth.rates(direction)
    if rates is None or not rates.moves or spec.reflectors is None:
        return None
    least, most = (
        usable(rate, spec.margin, layer)
        for rate in (rates.base if rates.min is None else rates.min, rates.base if rates.max is None else rates.max)
    )
    said = spec.reflectors
    port = 0 if said.kind is ProbeKind.ICMP else said.port or said.kind.port
    return Moving(least, most, tuple(said.to), said.kind, port, said.delay)


def moving_problems(name: str, spec: InterfaceSpec, document: Document, lost: Lost) -> Iterator[Problem]:
    """What of a link that moves does not fit together."""
    loc: Loc = ("interfaces", name)
    moves = []
    for direction in Direction:
        rates = spec.bandwidth.rates(direction)
        if rates is not None:
            yield from _disordered(rates, (*loc, "bandwidth", direction.value), document)
            moves += [direction] if rates.moves else []
    if moves and spec.reflectors is None and (*loc, "reflectors") not in lost:
        message = f"what {quoted(name)} carries is found by probes, and nobody is named who answers them"
        hint = "name two or more hosts beyond the link, such as `reflectors: {to: [192.0.2.1, 192.0.2.2]}`"
        yield document.problem(Kind.NO_REFLECTORS, (*loc, "bandwidth", moves[0].value), message, hint)
    if spec.reflectors is None:
        return
    if not moves and (*loc, "bandwidth") not in lost:
        message = f"the bandwidth of {quoted(name)} stands, so there is nothing to find by reflectors"
        hint = "write what moves, such as `egress: {min: 5mbit, base: 20mbit}`, or take this out"
        yield document.problem(Kind.REFLECTS_NOTHING, (*loc, "reflectors"), message, hint, at_key=True)
    if moves and spec.backend not in _RATED:
        message = f"the root of {spec.backend} has no rate that could follow a link that moves"
        hint = "write `backend: htb` or `backend: cake`, or one bandwidth"
        yield document.problem(Kind.BACKEND_LACKS, (*loc, "backend"), message, hint)
    yield from _unfit(spec, (*loc, "reflectors"), document)


def _disordered(rates: RateSpec, loc: Loc, document: Document) -> Iterator[Problem]:
    if rates.min is not None and rates.min > rates.base:
        message = f"the least, {format_rate(rates.min)}, is above the base, {format_rate(rates.base)}"
        hint = "`base` is where it begins and goes back to: write it between `min` and `max`"
        yield document.problem(Kind.RATES_OUT_OF_ORDER, (*loc, "min"), message, hint)
    if rates.max is not None and rates.max < rates.base:
        message = f"the most, {format_rate(rates.max)}, is below the base, {format_rate(rates.base)}"
        hint = "`base` is where it begins and goes back to: write it between `min` and `max`"
        yield document.problem(Kind.RATES_OUT_OF_ORDER, (*loc, "max"), message, hint)


def _unfit(spec: InterfaceSpec, loc: Loc, document: Document) -> Iterator[Problem]:
    said = spec.reflectors
    assert said is not None
    if said.port and said.kind is ProbeKind.ICMP:
        message, hint = "an echo request has no port", "take `port` out, or write `kind: stamp`"
        yield document.problem(Kind.BAD_PROBE, (*loc, "port"), message, hint, at_key=True)
    for place, address in enumerate(said.to):
        if address in said.to[:place]:
            message = f"{address} is named twice: its voice would count twice"
            yield document.problem(Kind.BAD_PROBE, (*loc, "to", place), message, "take one of them out")


def floor_problem(
    name: str, spec: InterfaceSpec, direction: Direction, floors: int, least: int, document: Document
) -> Problem:
    """Where what nothing takes is more than the least, both in bit/s as used."""
    message = (
        f"{quoted(name)} may carry {format_rate(least)} alone, and the floors of its classes come to "
        f"{format_rate(floors)}: what nothing takes must always fit"
    )
    rates = spec.bandwidth.rates(direction)
    written = least if rates is None else rates.base if rates.min is None else rates.min
    enough = format_rate(-(-floors * written // least // 1000) * 1000)
    hint = f"write at least `min: {enough}`, or give classes lower floors with `adapt: {{min: ..}}`"
    return document.problem(
        Kind.FLOORS_EXCEED_LEAST, ("interfaces", name, "bandwidth", direction.value, "min"), message, hint
    )


def probes_of(moving: Moving) -> Sequence[Match]:
    """What matches the probes and their answers: they wait with network control, and so in no class's queue."""
    found: list[Match] = []
    for address in moving.reflectors:
        parsed = ip_address(address)
        host = (Prefix(parsed.version, int(parsed), parsed.max_prefixlen),)
        if moving.kind is ProbeKind.ICMP:
            found.append(Match(net=host, icmp=_ECHOES[parsed.version]))
        else:
            found.append(Match(net=host, protocols=(UDP,), port=(PortRange(moving.port, moving.port),)))
    return found
