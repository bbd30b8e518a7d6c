"""What a class is probed with: the values of `probe`, whether they fit together, and whether it reaches the class.

As in `values`, a function of one scalar takes the bare value and raises PydanticCustomError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from shaper.errors import Problem
from shaper.model.match import Rules, classify
from shaper.model.policy import Direction, Interface, TrafficClass
from shaper.model.probe import Probe, ProbeKind, ProbeWhen
from shaper.policy.kinds import Kind
from shaper.policy.names import dscp_text
from shaper.policy.reader import Document
from shaper.policy.text import Loc, named, quoted
from shaper.policy.values import duration_between, one_of, ports, prefix, refuse, said

if TYPE_CHECKING:
    from shaper.policy.draft import Draft
    from shaper.policy.schema import ProbeSpec

LEAST_INTERVAL, MOST_INTERVAL = 0.01, 60.0
LARGEST = 8972
_LEAST = {ProbeKind.STAMP: 44, ProbeKind.TWAMP_LIGHT: 44, ProbeKind.ICMP: 0}
_LEAST_SIGNED = 112
_LONGEST_TEXT = 255


def kind(value: object) -> ProbeKind:
    """`stamp`, `icmp`, `https` ..."""
    return ProbeKind(one_of(ProbeKind, value, Kind.UNKNOWN_PROBE, "is no kind of probe"))


def when(value: object) -> ProbeWhen:
    """`idle` or `always`."""
    return ProbeWhen(one_of(ProbeWhen, value, Kind.UNKNOWN_NAME, "does not say when to probe"))


def address(value: object) -> str:
    """The address of one host."""
    parsed = prefix(value)
    found = ip_address(str(value).partition("/")[0])
    if parsed.length != parsed.bits or found.is_multicast or found.is_unspecified:
        raise refuse(Kind.BAD_ADDRESS, f"{said(value)} is not one host", "such as 192.0.2.10")
    return str(found)


def port(value: object) -> int:
    """`862`, or a service's name."""
    first, last = ports(value)
    if first != last or not first:
        raise refuse(Kind.BAD_PORT, f"{said(value)} is not one port", "such as 862")
    return first


def interval(value: object) -> float:
    """`200ms` -> 0.2."""
    return duration_between(value, LEAST_INTERVAL, MOST_INTERVAL, "200ms", "the interval of a probe")


def size(value: object) -> int:
    """Bytes of a test packet, or of an echo's data."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        hint = f"write a whole number of bytes up to {LARGEST}, without a unit"
        raise refuse(Kind.BAD_QUANTITY, f"{said(value)} is not the size of a probe", hint)
    return value


def text(value: object) -> str:
    """A name, a path or a file, in printable ASCII without blanks."""
    fits = isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT and value.isascii() and value.isprintable()
    if not fits or " " in str(value):
        raise refuse(Kind.BAD_NAME, f"{said(value)} cannot be this", "write ASCII without blanks, at most 255 letters")
    return str(value)


def probe_problems(cls: Draft, document: Document) -> Iterator[Problem]:
    """What of one class's `probe` does not fit together."""
    spec, loc = cls.spec.probe, (*cls.loc, "probe")
    if spec is None:
        return
    if cls.children:
        hint = f"write it at the classes inside: {named(child.name for child in cls.children if not child.implied)}"
        message = f"{quoted(cls.name)} holds classes; a probe goes through one queue"
        yield document.problem(Kind.PROBE_NOT_LEAF, loc, message, hint, at_key=True)
    yield from _misfits(spec, loc, document)


def _misfits(spec: ProbeSpec, loc: Loc, document: Document) -> Iterator[Problem]:
    said_of = {
        "port": spec.kind is not ProbeKind.ICMP,
        "size": spec.kind.sized,
        "key-file": spec.kind is ProbeKind.STAMP,
        "name": spec.kind.named,
        "path": spec.kind in (ProbeKind.HTTP, ProbeKind.HTTPS),
    }
    for key, fits in said_of.items():
        if key.replace("-", "_") in spec.model_fields_set and not fits:
            message = f"a probe of kind {spec.kind} has no {key}"
            hint = f"take `{key}` out, or write another kind"
            yield document.problem(Kind.BAD_PROBE, (*loc, key), message, hint, at_key=True)
    if spec.kind is not ProbeKind.ICMP and not (spec.port or spec.kind.port):
        message, hint = f"a probe of kind {spec.kind} needs a port", "such as `port: 443`"
        yield document.problem(Kind.BAD_PROBE, (*loc, "kind"), message, hint)
    signed = bool(spec.key_file) and spec.kind is ProbeKind.STAMP
    least = _LEAST_SIGNED if signed else _LEAST.get(spec.kind, 0)
    if spec.size is not None and spec.kind.sized and spec.size < least:
        message = f"a test packet has {least} bytes or more (RFC 8762)"
        yield document.problem(Kind.BAD_PROBE, (*loc, "size"), message, f"write at least {least}, or take it out")
    if spec.key_file and spec.kind is ProbeKind.STAMP and not spec.key_file.startswith("/"):
        message = "a key file is named from the root, wherever the shaper runs"
        yield document.problem(Kind.BAD_PROBE, (*loc, "key-file"), message, f"such as /etc/shaper/{spec.key_file}")
    if "path" in spec.model_fields_set and not spec.path.startswith("/"):
        yield document.problem(Kind.BAD_PROBE, (*loc, "path"), "a path begins with a slash", f"write /{spec.path}")


def stated(spec: ProbeSpec | None) -> Probe | None:
    """Its DSCP is found when all classes are known."""
    if spec is None:
        return None
    return Probe(
        to=spec.to,
        kind=spec.kind,
        port=0 if spec.kind is ProbeKind.ICMP else spec.port or spec.kind.port,
        interval=spec.interval,
        size=spec.size or 0,
        dscp=spec.dscp or 0,
        when=spec.when,
        key_file=spec.key_file,
        name=spec.name,
        path=spec.path,
    )


def with_probes(
    interface: Interface, drafts: Sequence[Draft], document: Document, *, goes_out: bool
) -> tuple[Interface, list[Problem]]:
    """The interface with each probe marked so that it goes to its class, and what is wrong with those that cannot be.

    A probe is sent by what goes out: the direction that comes in has none. `goes_out` is whether the interface shapes
    that at all.
    """
    specs = {cls.path: cls for top in drafts for cls in top.walk() if cls.spec.probe is not None}
    if not specs:
        return interface, []
    problems: list[Problem] = []
    if not goes_out:
        message = f"nothing that {quoted(interface.name)} sends is shaped, so no probe passes this class on its way out"
        hint = "take it out, or give the interface a bandwidth for `egress`"
        problems += [
            document.problem(Kind.PROBE_NO_WAY, (*each.loc, "probe"), message, hint) for each in specs.values()
        ]
    if interface.direction is Direction.INGRESS:
        marks: Mapping[str, Probe | None] = dict.fromkeys(specs)
    else:
        rules = interface.rules()
        marks = {leaf.path: _marked(leaf, specs, rules) for leaf in interface.leaves() if leaf.probe}
        problems += [
            _elsewhere(leaf, specs[leaf.path], rules, document)
            for leaf in interface.leaves()
            if leaf.probe and marks[leaf.path] is None
        ]
    return replace(interface, classes=_with(interface.classes, marks)), problems


def _with(classes: Sequence[TrafficClass], probes: Mapping[str, Probe | None]) -> tuple[TrafficClass, ...]:
    return tuple(
        replace(cls, probe=probes.get(cls.path, cls.probe), children=_with(cls.children, probes)) for cls in classes
    )


def _marked(leaf: TrafficClass, specs: Mapping[str, Draft], rules: Rules) -> Probe | None:
    """With the DSCP that was said, else the first of its class's own, else none, that takes it to the class."""
    assert leaf.probe is not None
    spec = specs[leaf.path].spec.probe
    assert spec is not None
    own = [
        mark
        for rule in rules.ordered
        if rule.path == leaf.path
        for match in reversed(rule.all_of)
        for mark in match.dscp
    ]
    for dscp in dict.fromkeys([spec.dscp] if spec.dscp is not None else [*own, 0]):
        found = replace(leaf.probe, dscp=dscp)
        if classify(rules, found.packet) == leaf.path:
            return found
    return None


def _elsewhere(leaf: TrafficClass, cls: Draft, rules: Rules, document: Document) -> Problem:
    spec, probe = cls.spec.probe, leaf.probe
    assert spec is not None
    assert probe is not None
    mark = f", DSCP {dscp_text(probe.dscp)}" if spec.dscp is not None else ""
    message = (
        f"the probe ({probe.kind} to {probe.to}{f' port {probe.port}' if probe.port else ''}{mark}) goes to "
        f"{quoted(classify(rules, probe.packet))}, not to {quoted(leaf.path)}"
    )
    hint = "name a kind, port or dscp that the class matches, or match the probe; `shaper explain packet` says why"
    return document.problem(Kind.PROBE_ELSEWHERE, (*cls.loc, "probe"), message, hint)
