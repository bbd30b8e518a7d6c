"""What a policy asks that the backend it is given can't keep: refused, with the class and the way out.

HTB keeps the whole language, HFSC all but priorities and bursts. CAKE has tins of its own, and ETS and prio an order of
service and no rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from shaper.errors import Problem
from shaper.model.cake import TINS, Fit, by_dscp_alone, dscp_sets, fit, nearest
from shaper.model.match import NETWORK_CONTROL, Rules
from shaper.model.policy import Backend, Classifier, Interface, Tier
from shaper.policy.draft import Draft
from shaper.policy.kinds import Kind
from shaper.policy.names import dscp_text
from shaper.policy.policed import policed_problems
from shaper.policy.reader import Document
from shaper.policy.text import Loc, quoted
from shaper.tree import MOST_BANDS
from shaper.units import format_rate

_OUT = "write `backend: htb`"
_Say = Callable[..., Problem]


def backend_problems(interface: Interface, drafts: Sequence[Draft], document: Document) -> Iterator[Problem]:
    """Of a policy that is sound in itself, on one interface."""
    if interface.policed:
        yield from policed_problems(interface, drafts, document)
        return
    backend = interface.backend
    say, place = document.problem, ("interfaces", interface.name, "backend")
    yield from _cake_alone(interface, say)
    yield from _unordered(backend, drafts, say)
    if backend not in (Backend.AUTO, Backend.HTB):
        yield from _only_htb_has(backend, drafts, say)
    if backend.rated:
        return
    yield from _unkept(backend, drafts, say)
    if any(cls.children for cls in drafts):
        return
    if backend is Backend.CAKE:
        if interface.classifier is not Classifier.AUTO:
            message = "CAKE sorts packets by itself, so no classifier can be chosen"
            at = ("interfaces", interface.name, "classifier")
            yield say(Kind.BACKEND_LACKS, at, message, f"leave it out, or {_OUT}")
        yield from _cake(interface, drafts, say, place)
    else:
        yield from _bands(backend, drafts, say, place)


def _cake_alone(interface: Interface, say: _Say) -> Iterator[Problem]:
    if interface.cake is not None and interface.backend is not Backend.CAKE:
        message = "these are numbers of CAKE at the root of the interface, which has another backend"
        hint = "write `backend: cake`; or `aqm: {kind: cake, ..}` and `fairness` at its classes"
        yield say(Kind.BACKEND_LACKS, ("interfaces", interface.name, "cake"), message, hint, at_key=True)


def _unordered(backend: Backend, drafts: Sequence[Draft], say: _Say) -> Iterator[Problem]:
    """Strict classes, and the queues of CAKE's tins."""
    mends = {
        Backend.HFSC: "give it a delay target, which HFSC keeps by its real-time curve",
        Backend.CAKE: "its tins' order is fixed",
    }
    for cls in (each for top in drafts for each in top.walk()):
        if cls.strict and backend in mends:
            message = f"{backend} serves nobody strictly before all others, as {quoted(cls.path)} asks"
            yield say(Kind.BACKEND_LACKS, (*cls.loc, "priority"), message, f"{mends[backend]}; or {_OUT}")
        if cls.spec.fairness is not None and backend is Backend.CAKE:
            message = "CAKE shares all its tins in one way"
            hint = f"write `cake: {{fairness: {cls.spec.fairness}}}` at the interface"
            yield say(Kind.BACKEND_LACKS, (*cls.loc, "fairness"), message, hint, at_key=True)


def _only_htb_has(backend: Backend, drafts: Sequence[Draft], say: _Say) -> Iterator[Problem]:
    """Keys of a class's queue and of its borrowing, whether the class wrote them or its service class did."""
    for cls in (each for top in drafts for each in top.walk()):
        for key, there in (
            ("priority", cls.spec.priority is not None and not cls.strict),
            ("burst", cls.spec.burst is not None),
            ("cburst", cls.spec.cburst is not None),
            ("aqm", cls.spec.aqm is not None and backend is Backend.CAKE),
        ):
            if not there:
                continue
            preset = any(words.startswith(f"{key} ") for words in cls.presets)
            asks = f"the service class of {quoted(cls.path)} asks for" if preset else f"{quoted(cls.path)} asks for"
            lacks = "keeps its queues short in its own way" if key == "aqm" else "has none"
            instead = f"write its match and tier instead, or {_OUT}" if preset else f"take it out, or {_OUT}"
            message = f"{asks} {_ARTICLES[key]}, and {backend} {lacks}"
            yield say(Kind.BACKEND_LACKS, (*cls.loc, "service-class" if preset else key), message, instead)


_ARTICLES = {"priority": "a priority", "burst": "a burst", "cburst": "a burst at its limit", "aqm": "an AQM"}


def _unkept(backend: Backend, drafts: Sequence[Draft], say: _Say) -> Iterator[Problem]:
    """Keys that mean nothing here."""
    for cls in (each for top in drafts for each in top.walk()):
        name = quoted(cls.path)
        if cls.children and not cls.implied:
            yield say(
                Kind.BACKEND_LACKS,
                (*cls.loc, "classes"),
                f"{backend} has one level of classes, so {name} can hold none",
                f"write them side by side, or {_OUT}",
            )
        for key, there, without in (
            ("guarantee", cls.spec.guarantee is not None and backend is not Backend.CAKE, "rate to guarantee"),
            ("limit", cls.spec.limit is not None, "limit for a class"),
            ("adapt", bool(cls.spec.adapt.model_fields_set), "rate that a controller could move"),
            (
                "share",
                cls.spec.share is not None and backend is Backend.CAKE,
                "shares to set: its tins' weights are fixed",
            ),
        ):
            if there:
                hint = f"take `{key}` out of {name}, or {_OUT}"
                yield say(Kind.BACKEND_LACKS, (*cls.loc, key), f"{backend} has no {without}", hint)
    if backend is Backend.CAKE:
        yield from _untreated(drafts, say)


def _untreated(drafts: Sequence[Draft], say: _Say) -> Iterator[Problem]:
    """CAKE washes all of its tins or none, and does nothing else to packets."""
    washed = [cls for cls in drafts if cls.spec.wash]
    for cls in drafts:
        if cls.spec.police is not None:
            hint = f"take `police` out of {quoted(cls.path)}, or {_OUT}"
            yield say(Kind.BACKEND_LACKS, (*cls.loc, "police"), "CAKE polices nothing", hint)
        if cls.spec.marking is not None:
            message = "CAKE writes no DSCP, mark or priority, but for washing all of them"
            hint = f"take `set` out of {quoted(cls.path)}, or {_OUT}"
            yield say(Kind.BACKEND_LACKS, (*cls.loc, "set"), message, hint)
        if cls.spec.wash and len(washed) < len(drafts):
            message = "CAKE washes every class or none"
            hint = f"write `wash: true` at every class, or {_OUT}"
            yield say(Kind.BACKEND_LACKS, (*cls.loc, "wash"), message, hint)


def _bands(backend: Backend, drafts: Sequence[Draft], say: _Say, place: Loc) -> Iterator[Problem]:
    """A strict band has one class: two in it would be served one before the other, and not alike."""
    if len(drafts) + 1 > MOST_BANDS:
        message = f"{backend} has {MOST_BANDS} bands, one of them for network-control; the policy has {len(drafts)}"
        yield say(Kind.BACKEND_LACKS, place, message, f"join classes, or {_OUT}")
        return
    lowest = max((cls.tier for cls in drafts), default=Tier.STANDARD)
    first: dict[tuple[bool, Tier], Draft] = {}
    for cls in drafts:
        other = first.setdefault((cls.strict, cls.tier), cls)
        if other is cls or (backend is Backend.ETS and cls.tier is lowest and not cls.strict):
            continue
        tier = cls.tier.name.lower()
        yield say(
            Kind.BACKEND_LACKS,
            cls.tier_loc if cls.spec.tier is not None else cls.loc,
            f"{backend} serves strict bands one after the other, so {quoted(cls.path)} and {quoted(other.path)} "
            f"can't be alike in the tier {tier}",
            f"give them different tiers, {'join them' if backend is Backend.PRIO else 'or put both in the lowest'}, "
            f"or {_OUT}",
            at_key=cls.spec.tier is None,
        )


def _cake(interface: Interface, drafts: Sequence[Draft], say: _Say, place: Loc) -> Iterator[Problem]:
    other = [
        (loc, cls)
        for cls in drafts
        for loc, match in zip(cls.match_locs, cls.matches, strict=True)
        if not by_dscp_alone(match)
    ]
    for loc, cls in other:
        message = f"CAKE sorts by the DSCP alone, and {quoted(cls.path)} asks for more"
        hint = f"match the DSCP, and mark the traffic where it enters the network, or {_OUT}"
        yield say(Kind.BACKEND_LACKS, loc, message, hint)
    if other:
        return
    rules = interface.rules()
    written = Rules(tuple(rule for rule in rules.ordered if rule.path != NETWORK_CONTROL), rules.default)
    sets = dscp_sets(written, (cls.path for cls in drafts))
    found = fit(sets)
    if found is None:
        yield from _other_tins(sets, drafts, say, place)
    else:
        yield from _kept(interface, found, drafts, say)


def _other_tins(sets: dict[str, frozenset[int]], drafts: Sequence[Draft], say: _Say, place: Loc) -> Iterator[Problem]:
    close = nearest(sets)
    if close is None:
        message = f"CAKE has 1, 3, 4 or 8 tins, the policy {len(sets)} classes"
        yield say(Kind.NOT_CAKES_TINS, place, message, f"write one class for each tin, or {_OUT}")
        return
    tins = TINS[close.diffserv]
    for cls in drafts:
        wanted, tin = sets[cls.path], close.tins[cls.path]
        there = tins.dscps(tin)
        if wanted == there or not cls.matches:  # what a class without a match takes follows from the others
            continue
        wrong = [("lacks", there - wanted), ("takes, from another tin,", wanted - there)]
        said = " and ".join(f"{word} {_names(dscps)}" for word, dscps in wrong if dscps)
        message = f"CAKE's {close.diffserv} has a tin {tins.names[tin]}, of which {quoted(cls.path)} {said}"
        hint = f"write `dscp: [{_names(there)}]`, or {_OUT}"
        yield say(Kind.NOT_CAKES_TINS, (*cls.loc, "match"), message, hint)


def _kept(interface: Interface, found: Fit, drafts: Sequence[Draft], say: _Say) -> Iterator[Problem]:
    """Guarantees beyond a tin's, and tiers against the tins' order."""
    tins = TINS[found.diffserv]
    for cls, resolved in ((cls, one) for cls in drafts for one in interface.classes if one.path == cls.path):
        most = int(interface.bandwidth * tins.kept(found.tins[cls.path]))
        if resolved.guarantee > most:
            tin = tins.names[found.tins[cls.path]]
            message = f"CAKE's tin {tin} is sure of {format_rate(most)} only, not of {format_rate(resolved.guarantee)}"
            hint = f"guarantee at most {format_rate(most)}, or {_OUT}"
            yield say(Kind.BACKEND_LACKS, (*cls.loc, "guarantee"), message, hint)
    served = sorted(drafts, key=lambda cls: -found.tins[cls.path])
    served.sort(key=lambda cls: tins.names[found.tins[cls.path]] == "bulk")  # it comes last, beyond its threshold
    for before, after in pairwise(served):
        if before.tier > after.tier:
            message = (
                f"CAKE serves {tins.names[found.tins[before.path]]} before {tins.names[found.tins[after.path]]}, "
                f"so {quoted(after.path)} can't be of a higher tier than {quoted(before.path)}"
            )
            hint = f"give {quoted(before.path)} the tier {after.tier.name.lower()} at least, or {_OUT}"
            where = after.tier_loc if after.spec.tier is not None else after.loc
            yield say(Kind.BACKEND_LACKS, where, message, hint, at_key=after.spec.tier is None)


def _names(dscps: frozenset[int]) -> str:
    return ", ".join(dscp_text(dscp) for dscp in sorted(dscps))
