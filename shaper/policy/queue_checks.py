"""What is wrong with the queue that a class asks for, with whom it shares it, and with its place before all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shaper.errors import Problem
from shaper.model.aqm import HOSTS_ALONE, IN_BYTES, IN_PACKETS, KEYS, AqmKind
from shaper.policy.draft import Draft
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document
from shaper.policy.schema import AqmSpec
from shaper.policy.text import Loc, named, quoted
from shaper.tree import FlowMode

_WHY = {
    (AqmKind.CAKE, "ecn"): "it always marks what can be marked",
    (AqmKind.PIE, "interval"): "it looks every 15 ms (RFC 8033)",
    (AqmKind.FQ_PIE, "interval"): "it looks every 15 ms (RFC 8033)",
    (AqmKind.RED, "interval"): "its average has a memory of a second",
    (AqmKind.SFQ, "ecn"): "it shares and drops; fq_codel marks, too",
    (AqmKind.SFQ, "target"): "only its limit keeps the delay; fq_codel has a target",
}
_LAST = 7


def queue_problems(cls: Draft, document: Document) -> Iterator[Problem]:
    """Of one class."""
    children = named(child.name for child in cls.children if not child.implied)
    for key in ("aqm", "fairness"):
        if cls.children and getattr(cls.spec, key) is not None:
            message = f"{quoted(cls.name)} holds classes; packets wait in those"
            hint = f"write it at the classes inside: {children}"
            yield document.problem(Kind.AQM_NOT_LEAF, (*cls.loc, key), message, hint, at_key=True)
    if cls.spec.aqm is not None:
        yield from _numbers(cls.spec.aqm, (*cls.loc, "aqm"), document)
    fairness, kind = cls.spec.fairness, cls.spec.aqm.kind if cls.spec.aqm is not None else AqmKind.CAKE
    if fairness is not None and not kind.fair:
        message = f"a {kind} has one queue for all, so it cannot share it"
        hint = f"take an aqm of {named(each.value for each in AqmKind if each.fair)}, or take it out"
        yield document.problem(Kind.BAD_FAIRNESS, (*cls.loc, "fairness"), message, hint)
    elif fairness in HOSTS_ALONE and kind is AqmKind.FQ_PIE:
        message = "fq_pie knows flows, not hosts, and takes no filter that would tell it"
        yield document.problem(
            Kind.BAD_FAIRNESS, (*cls.loc, "fairness"), message, "write `aqm: cake` or `aqm: fq_codel`"
        )
    elif fairness is not None and kind is not AqmKind.CAKE and fairness not in (*HOSTS_ALONE, FlowMode.FLOWS):
        message = f"only CAKE shares by {fairness}, and the aqm here is {kind}"
        hint = f"write `aqm: cake`, or a fairness of {named(each.value for each in HOSTS_ALONE)}"
        yield document.problem(Kind.BAD_FAIRNESS, (*cls.loc, "fairness"), message, hint)


def _numbers(aqm: AqmSpec, loc: Loc, document: Document) -> Iterator[Problem]:
    """The keys that a kind has, and how they fit each other."""

    def say(key: str, message: str, hint: str, *, at_key: bool = False) -> Problem:
        return document.problem(Kind.BAD_AQM, (*loc, key), message, hint, at_key=at_key)

    kind, known = aqm.kind, KEYS[aqm.kind]
    for name, field in type(aqm).model_fields.items():
        key = field.alias or name
        if key != "kind" and key not in known and getattr(aqm, name) is not None:
            why = _WHY.get((kind, key), f"it has {', '.join(sorted(known))}")
            yield say(key, f"a {kind} has no {key}", why, at_key=True)
    packets, size = aqm.limit or (0, 0)
    if packets and kind not in IN_PACKETS:
        yield say("limit", f"the limit of a {kind} is not counted in packets", "write a size, such as 64kb")
    if size and kind not in IN_BYTES:
        yield say("limit", f"the limit of a {kind} is not counted in bytes", "write a number, such as 1000")
    if aqm.target is not None and aqm.interval is not None and aqm.interval <= aqm.target:
        message = "CoDel looks at the delay over an interval, which must be longer than the target"
        yield say("interval", message, "ten to twenty times the target (RFC 8289)")
    if aqm.min is not None and aqm.max is not None and aqm.max < 2 * aqm.min:
        message = "RED's max must be well above its min, or its probability jumps"
        yield say("max", message, "at least twice the min; three times is usual")
    elif kind is AqmKind.RED and size and size < max(aqm.max or 0, aqm.min or 0):
        yield say("limit", "the queue is full before its average reaches RED's max", "twice the max is usual")
    if kind is AqmKind.SFQ and packets and packets < (aqm.flows or 0):
        yield say("flows", "SFQ has no more queues than packets", f"at most {packets}")


def strict_rates(leaves: Sequence[Draft], document: Document) -> Iterator[Problem]:
    """A strict class has one rate, and keeps it."""
    for leaf in leaves:
        if not leaf.strict:
            continue
        name, guarantee, limit = quoted(leaf.path), leaf.spec.guarantee, leaf.spec.limit
        if guarantee is None and limit is None:
            message = f"the strict class {name} has no rate, so it could starve all others"
            hint = "write `limit`: so much is served before all others, and never more"
            yield document.problem(Kind.BAD_STRICT, (*leaf.loc, "priority"), message, hint)
        elif guarantee is not None and limit is not None and guarantee != limit:
            message = f"the strict class {name} is guaranteed what it is limited to, and these differ"
            yield document.problem(Kind.BAD_STRICT, (*leaf.loc, "limit"), message, "write one of the two")
        if leaf.spec.adapt.model_fields_set:
            message = f"the rate of the strict class {name} cannot be adapted: below it, it would not be strict"
            hint = "take `adapt` out, or give it a priority of 0 to 7"
            yield document.problem(Kind.BAD_STRICT, (*leaf.loc, "adapt"), message, hint, at_key=True)


def strict_order(leaves: Sequence[Draft], document: Document) -> Iterator[Problem]:
    """Strict classes are of the highest tier that there is; the others have a priority less."""
    strict = [leaf for leaf in leaves if leaf.strict]
    others = [leaf for leaf in leaves if not leaf.strict]
    highest = min(others, key=lambda leaf: leaf.tier, default=None)
    for leaf in strict:
        if highest is not None and highest.tier < leaf.tier:
            own, tier = leaf.tier.name.lower(), highest.tier.name.lower()
            message = (
                f"{quoted(leaf.path)} is served before {quoted(highest.path)} of the {tier} tier, so it can't be of "
                f"the {own} tier"
            )
            hint = f"write `tier: {tier}` at {quoted(leaf.path)}"
            yield document.problem(Kind.BAD_STRICT, (*leaf.loc, "priority"), message, hint)
    last = next((leaf for leaf in leaves if leaf.spec.priority == _LAST), None)
    before = next((leaf for leaf in leaves if leaf.spec.priority == _LAST - 1), None)
    if strict and last is not None and before is not None:
        message = (
            f"HTB has eight priorities and {quoted(strict[0].path)} takes the first, so {quoted(before.path)} and "
            f"{quoted(last.path)} would be alike"
        )
        hint = f"write priority {_LAST - 2} or less for {quoted(before.path)}"
        yield document.problem(Kind.BAD_STRICT, (*before.loc, "priority"), message, hint)
