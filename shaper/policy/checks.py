"""What is wrong between the keys of a policy, whatever the bandwidth: names, defaults, reachability, depth."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from shaper.errors import Problem
from shaper.model.device import spot
from shaper.model.match import NETWORK_CONTROL
from shaper.model.policy import Tier, catch_all
from shaper.policy.connection import connection_problems
from shaper.policy.draft import OTHER, Draft
from shaper.policy.kinds import Kind
from shaper.policy.matching import matching_problems
from shaper.policy.moving import moving_problems
from shaper.policy.policed import ingress_problems
from shaper.policy.probe import probe_problems
from shaper.policy.queue_checks import queue_problems, strict_order, strict_rates
from shaper.policy.reader import Document
from shaper.policy.schema import FileSpec
from shaper.policy.text import Loc, did_you_mean, named, quoted
from shaper.policy.treatment import treatment_problems
from shaper.policy.validate import Lost

MAX_DEPTH = 6  # HTB holds 8 levels (TC_HTB_MAXDEPTH), one of which is the root class and one a leaf's qdisc
MAX_LEAVES = 8000
MAX_RULES = 20_000

_CLASS_NAME = re.compile(r"[a-z0-9-]{1,32}\Z")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}\Z")
_DEVICE = re.compile(r"(?!\.{1,2}\Z)[^\s/:\x00]{1,127}\Z")  # dev_valid_name() in net/core/dev.c, ALTIFNAMSIZ

_OURS = re.compile(r"sh[ip]-")  # ifb_name() in model/policy.py


def file_problems(spec: FileSpec, document: Document, lost: Lost) -> Iterator[Problem]:
    """Interfaces, and the names of policies."""
    for key, values in (("interfaces", spec.interfaces), ("policies", spec.policies)):
        if not values and (key,) not in lost:
            yield document.problem(Kind.EMPTY, (key,), f"there are no {key}", "write at least one")
        for name in values:
            if not _NAME.match(name):
                hint = "use letters, digits, dots, dashes and underscores, at most 32"
                yield document.problem(
                    Kind.BAD_NAME, (key, name), f"{quoted(name)} cannot be a name", hint, at_key=True
                )
    holders: dict[str, str] = {}
    for name, interface in spec.interfaces.items():
        loc = ("interfaces", name)
        device = interface.device.name
        if not (_DEVICE.match(device) or interface.device.mac or interface.device.pattern):
            hint = "write it as `ip link` shows it: at most 127 characters, no blanks, slashes or colons"
            message = f"{quoted(device)} cannot be a network device"
            yield document.problem(Kind.BAD_DEVICE, (*loc, "device"), message, hint)
        if _OURS.match(device):
            message = f"{quoted(device)} is the name of a device that the shaper makes for itself"
            hint = "name the interface itself; what comes in by it is shaped with `bandwidth: {ingress: ..}`"
            yield document.problem(Kind.BAD_DEVICE, (*loc, "device"), message, hint)
        first = holders.setdefault(spot(interface.netns, str(interface.device)), name)
        if first != name and (*loc, "netns") not in lost:
            message = f"the device {quoted(interface.device)} belongs to the interface {quoted(first)} already"
            yield document.problem(Kind.DUPLICATE_DEVICE, (*loc, "device"), message, "name another, or take one out")
        if interface.policy not in spec.policies and ("policies", interface.policy) not in lost:
            known = (
                f"the policies here are {named(list(spec.policies)[:10])}"
                if spec.policies
                else "add it under `policies`"
            )
            hint = did_you_mean(interface.policy, spec.policies) + known
            message = f"there is no policy {quoted(interface.policy)}"
            yield document.problem(Kind.UNKNOWN_POLICY, (*loc, "policy"), message, hint)
        yield from ingress_problems(interface, loc, document)
        if interface.connection is not None:
            yield from connection_problems(interface.connection, interface.bandwidth, loc, document)
        yield from moving_problems(name, interface, document, lost)


def policy_problems(
    name: str, drafts: Sequence[Draft], document: Document, lost: Lost, *, limits: bool
) -> Iterator[Problem]:
    """One policy's classes; `limits` is false where no backend that carries it has any."""
    loc: Loc = ("policies", name)
    classes = [cls for top in drafts for cls in top.walk()]
    leaves = [cls for cls in classes if not cls.children]
    if not drafts and (*loc, "classes") not in lost:
        hint = "write at least `rest: {default: true}`"
        yield document.problem(Kind.EMPTY, (*loc, "classes"), f"the policy {quoted(name)} has no classes", hint)
    if len(leaves) > MAX_LEAVES:
        message = f"the policy {quoted(name)} has {len(leaves)} leaf classes"
        hint = f"at most {MAX_LEAVES} fit on one interface"
        yield document.problem(Kind.TOO_LARGE, loc, message, hint, at_key=True)
    for cls in classes:
        yield from _class_problems(cls, document, lost)
    yield from _defaults(loc, classes, document, lost)
    yield from _unreached(drafts, leaves, document)
    if limits:
        yield from _unlimited(leaves, document)
        yield from strict_rates(leaves, document)
    yield from strict_order(leaves, document)
    yield from _against_tiers(leaves, document)
    if sum(_rule_count(top, 1) for top in drafts) > MAX_RULES:
        message = f"the matches of {quoted(name)} multiply to more than {MAX_RULES} rules"
        hint = "put several values into one match as a list, or nest less"
        yield document.problem(Kind.TOO_LARGE, loc, message, hint, at_key=True)
    else:
        yield from matching_problems(drafts, document)


def _class_problems(cls: Draft, document: Document, lost: Lost) -> Iterator[Problem]:
    if not _CLASS_NAME.match(cls.name):
        hint = "use small letters, digits and dashes, at most 32"
        yield document.problem(
            Kind.BAD_NAME, cls.loc, f"{quoted(cls.name)} cannot be a class's name", hint, at_key=True
        )
    if cls.name == NETWORK_CONTROL:
        message = f"{NETWORK_CONTROL!r} is the class that every interface has for ARP, DHCP and routing protocols"
        yield document.problem(Kind.RESERVED_NAME, cls.loc, message, "give this one another name", at_key=True)
    siblings = [child for child in cls.children if child.name == OTHER]
    if len(siblings) > 1:
        message = f"{OTHER!r} is the class made for what matches {quoted(cls.name)} and none of its children"
        hint = "give this one another name, or make it the class for the rest by taking its match out"
        yield document.problem(Kind.RESERVED_NAME, siblings[0].loc, message, hint, at_key=True)
    if "classes" in cls.spec.model_fields_set and not cls.spec.classes and (*cls.loc, "classes") not in lost:
        hint = "take the key out, or name the classes"
        yield document.problem(Kind.EMPTY, (*cls.loc, "classes"), f"{quoted(cls.name)} holds no classes", hint)
    if "match" in cls.spec.model_fields_set and not cls.spec.match:
        hint = "take the key out, or name what it should match"
        yield document.problem(Kind.EMPTY, (*cls.loc, "match"), "an empty list matches nothing", hint)
    if cls.children and cls.spec.sla != type(cls.spec.sla)():
        hint = f"write it at the classes inside: {named(child.name for child in cls.children if not child.implied)}"
        message = f"{quoted(cls.name)} holds classes; delay and loss are kept where packets wait"
        yield document.problem(Kind.SLA_NOT_LEAF, (*cls.loc, "sla"), message, hint, at_key=True)
    if cls.path.count("/") == MAX_DEPTH and not cls.implied:
        message = f"{quoted(cls.name)} is nested {MAX_DEPTH + 1} levels deep"
        hint = f"HTB holds {MAX_DEPTH} levels of classes: put it one level up"
        yield document.problem(Kind.TOO_DEEP, cls.loc, message, hint, at_key=True)
    if cls.children and cls.spec.priority is not None:
        hint = f"write it at the classes inside: {named(child.name for child in cls.children if not child.implied)}"
        message = f"{quoted(cls.name)} holds classes; HTB looks at the priority where packets wait"
        yield document.problem(Kind.PRIORITY_NOT_LEAF, (*cls.loc, "priority"), message, hint, at_key=True)
    yield from queue_problems(cls, document)
    yield from treatment_problems(cls, document)
    yield from probe_problems(cls, document)
    if cls.children and cls.default:
        hint = f"mark one of its classes instead: {named(child.name for child in cls.children if not child.implied)}"
        message = f"{quoted(cls.name)} holds classes, so it can hold no packets itself"
        yield document.problem(Kind.DEFAULT_NOT_LEAF, (*cls.loc, "default"), message, hint)


def _defaults(loc: Loc, classes: list[Draft], document: Document, lost: Lost) -> Iterator[Problem]:
    """Exactly one leaf takes what no rule matches."""
    leaves = [cls for cls in classes if not cls.children]
    defaults = [leaf for leaf in leaves if leaf.default]
    misplaced = any(cls.default for cls in classes if cls.children)
    for extra in defaults[1:]:
        message = f"{quoted(defaults[0].path)} is the default class already"
        hint = "keep `default: true` at one class"
        yield document.problem(Kind.SEVERAL_DEFAULTS, (*extra.loc, "default"), message, hint)
    unsure = any(
        place[:2] == loc and (place[-1] in ("default", "classes") or place[-2] == "classes") for place in lost.dropped
    )
    written = [leaf for leaf in leaves if not leaf.implied]
    if not (defaults or unsure or misplaced) and written:
        best = next((leaf for leaf in reversed(written) if not leaf.matches), written[-1])
        message = f"the policy {quoted(loc[1])} has no default class, so some packets would have no place"
        hint = f"write `default: true` at one leaf, such as {best.path}, or add `rest: {{default: true}}`"
        yield document.problem(Kind.NO_DEFAULT, loc, message, hint, at_key=True)


def _unreached(drafts: Sequence[Draft], leaves: list[Draft], document: Document) -> Iterator[Problem]:
    """Leaves without a match that are nobody's catch-all."""
    inner = [cls for top in drafts for cls in top.walk() if cls.children and cls.matches]
    reached = {leaf.path for cls in inner if (leaf := catch_all(cls)) is not None}
    for leaf in leaves:
        if not (
            leaf.matches
            or leaf.default
            or leaf.guessed
            or leaf.path in reached
            or "match" in leaf.spec.model_fields_set
        ):
            message = f"no packet ever reaches {quoted(leaf.path)}"
            hint = "give it a `match`, mark it `default: true`, or take it out"
            yield document.problem(Kind.UNREACHABLE_CLASS, leaf.loc, message, hint, at_key=True)


def _unlimited(leaves: list[Draft], document: Document) -> Iterator[Problem]:
    """Special classes come first, so one without a limit starves all the others (RFC 3246, section 5)."""
    said = dict.fromkeys(leaf.tier_loc for leaf in leaves if leaf.tier is Tier.SPECIAL and not leaf.limited)
    for tier_loc in said:
        message = f"the special class {quoted(tier_loc[-2])} has no limit"
        hint = "give it one, such as `limit: 25%`, so that it can starve nobody"
        yield document.problem(Kind.SPECIAL_WITHOUT_LIMIT, tier_loc, message, hint)


def _against_tiers(leaves: list[Draft], document: Document) -> Iterator[Problem]:
    """A priority orders what borrows inside a tier; between tiers the tier decides."""

    def order(leaf: Draft) -> int:
        return int(leaf.tier) if leaf.spec.priority is None else leaf.spec.priority

    borrowers = [leaf for leaf in leaves if not leaf.strict]
    for leaf in borrowers:
        if leaf.spec.priority is None:
            continue
        own = order(leaf)
        ahead = next((other for other in borrowers if other.tier < leaf.tier and order(other) >= own), None)
        behind = next((other for other in borrowers if other.tier > leaf.tier and order(other) <= own), None)
        if other := ahead or behind:
            tier = other.tier.name.lower()
            message = (
                f"with priority {own} {quoted(leaf.path)} borrows no {'later' if ahead else 'earlier'} than "
                f"{quoted(other.path)} of the {tier} tier, which has {order(other)}"
            )
            hint = f"write {'more' if ahead else 'less'} than {order(other)}, or give it the tier that it should have"
            yield document.problem(Kind.PRIORITY_AGAINST_TIER, (*leaf.loc, "priority"), message, hint)


def _rule_count(cls: Draft, ways: int) -> int:
    here = ways * max(1, len(cls.matches))
    return (here if cls.matches else 0) + sum(_rule_count(child, here) for child in cls.children)
