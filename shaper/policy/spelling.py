"""Misspelt keys: each is a problem, and is read as the word that was meant, so that the rest is looked at in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from pydantic import BaseModel

from shaper.errors import Problem
from shaper.policy.directions import WAYS
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document, Node
from shaper.policy.schema import (
    AdaptSpec,
    AqmSpec,
    BandwidthSpec,
    CakeSpec,
    ClassSpec,
    ConnectionSpec,
    DefaultsSpec,
    FileSpec,
    InterfaceSpec,
    LinkPeriodSpec,
    LinkSpec,
    MatchSpec,
    PeriodSpec,
    PoliceSpec,
    PolicySpec,
    ProbeSpec,
    ProfileSpec,
    RateSpec,
    ReflectorsSpec,
    SetSpec,
    WhenSpec,
)
from shaper.policy.text import Loc, did_you_mean, meant, quoted

BELOW: dict[tuple[type[BaseModel], str], type[BaseModel]] = {
    (FileSpec, "interfaces"): InterfaceSpec,
    (FileSpec, "policies"): PolicySpec,
    (FileSpec, "defaults"): DefaultsSpec,
    (FileSpec, "match-groups"): MatchSpec,
    (PolicySpec, "defaults"): DefaultsSpec,
    (InterfaceSpec, "bandwidth"): BandwidthSpec,
    (InterfaceSpec, "link"): LinkSpec,
    (InterfaceSpec, "cake"): CakeSpec,
    (InterfaceSpec, "connection"): ConnectionSpec,
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
    (ClassSpec, "police"): PoliceSpec,
    (ClassSpec, "set"): SetSpec,
    (ClassSpec, "probe"): ProbeSpec,
    (DefaultsSpec, "aqm"): AqmSpec,
    (ClassSpec, "schedule"): PeriodSpec,
    (PeriodSpec, "when"): WhenSpec,
    (PeriodSpec, "adapt"): AdaptSpec,
    (PeriodSpec, "profile"): ProfileSpec,
    (InterfaceSpec, "schedule"): LinkPeriodSpec,
    (LinkPeriodSpec, "when"): WhenSpec,
    (LinkPeriodSpec, "bandwidth"): BandwidthSpec,
    (BandwidthSpec, "egress"): RateSpec,
    (BandwidthSpec, "ingress"): RateSpec,
    (InterfaceSpec, "reflectors"): ReflectorsSpec,
}
"""What stands under a key: for unknown keys, the words that are known there."""
_BY_NAME = frozenset({"interfaces", "policies", "classes", "match-groups"})


@cache
def keys_of(spec: type[BaseModel]) -> Sequence[str]:
    """The keys that such a mapping may have."""
    return tuple(each.alias or name for name, each in spec.model_fields.items())


def unknown_key(document: Document, loc: Loc, known: Sequence[str]) -> Problem:
    """The problem of a key that is none of those known there."""
    name = str(loc[-1])
    guess = "is there no blank after the colon? " if ":" in name else did_you_mean(name, known)
    hint = f"{guess}the keys here are {', '.join(known)}"
    return document.problem(Kind.UNKNOWN_KEY, loc, f"unknown key {quoted(name)}", hint, at_key=True)


def respelt(document: Document) -> tuple[Document, list[Problem]]:
    """The document with the words that were meant in the place of misspelt ones, and the problems of those.

    A word is taken for another where only it looks like that, and that is not there itself.
    """
    problems: list[Problem] = []

    def below(node: Node, loc: Loc, spec: type[BaseModel], *, names: bool = False) -> Node:
        if isinstance(node.value, list):
            items = [below(item, (*loc, place), spec) for place, item in enumerate(node.value)]
            return node if all(map(_same, items, node.value)) else replace(node, value=items)
        if not isinstance(node.value, dict):
            return node
        known = keys_of(spec)
        apart = not names and not WAYS.isdisjoint(node.value) and WAYS.isdisjoint(known)
        found, keys = {}, {}
        words = {} if names or apart else _meant(node, known)
        for key, each in node.value.items():
            place, word = (*loc, key), words.get(key, key)
            if word != key:
                problems.append(unknown_key(document, place, known))
            if names or apart:
                found[word] = below(each, place, spec)
            else:
                inner = BELOW.get((spec, word))
                found[word] = below(each, place, inner, names=word in _BY_NAME) if inner else each
            keys[word] = node.keys[key]
        if not words and all(map(_same, found.values(), node.value.values())):
            return node
        return replace(node, value=found, keys=keys)

    return Document(below(document.root, (), FileSpec)), problems


def _same(one: Node, other: Node) -> bool:
    return one is other


def _meant(node: Node, known: Sequence[str]) -> dict[str, str]:
    """The misspelt keys of a mapping, each with what was meant."""
    assert isinstance(node.value, dict)
    guesses = {key: meant(key, known) for key in node.value if key not in known and ":" not in key}
    taken = [*node.value, *guesses.values()]
    return {key: word for key, word in guesses.items() if word and taken.count(word) == 1}
