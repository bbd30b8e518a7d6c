"""A policy's classes with everything that needs no bandwidth: paths, inherited tiers, matches, implied leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from shaper.errors import Problem, Where
from shaper.model.match import Match
from shaper.model.policy import Tier, catch_all
from shaper.policy.kinds import Kind
from shaper.policy.names import TCP, UDP, WITH_PORTS
from shaper.policy.reader import Document
from shaper.policy.schema import LEFT_OUT, ClassSpec, Lost, MatchSpec
from shaper.policy.text import Loc

OTHER = "other"
"""The name of the leaf made for what matches an inner class and none of its children."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A class before its rates are known. `loc` is its place in the document, `tier_loc` where its tier was said.

    `match_locs` are the places of the matches. `limited` says that it or a class above it has a limit; `guessed` that
    part of its match, or of a match above it, was wrong and left out: then nothing can be said about what reaches it.
    """

    name: str
    path: str
    loc: Loc
    where: Where
    spec: ClassSpec
    tier: Tier
    tier_loc: Loc
    limited: bool
    guessed: bool
    match_locs: tuple[Loc, ...] = ()
    matches: tuple[Match, ...] = ()
    children: tuple[Draft, ...] = ()
    implied: bool = False

    @property
    def default(self) -> bool:
        return self.spec.default

    def walk(self) -> Iterator[Draft]:
        """This class and every class below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


class Drafter:
    """Makes the drafts of a document's policies; `problems` collects what is wrong with single matches."""

    def __init__(self, document: Document, lost: Lost) -> None:
        self._document = document
        self._lost = lost
        self.problems: list[Problem] = []

    def draft(self, name: str, spec: ClassSpec, loc: Loc, parent: Draft | None = None) -> Draft:
        """One class with all below it, and the catch-all that it needs."""
        heir = parent if spec.tier is None else None
        guessed = any((*loc, key) in self._lost for key in ("match", "default", "classes"))
        written = [((*loc, "match", index), match) for index, match in enumerate(spec.match) if match is not LEFT_OUT]
        cls = Draft(
            name=name,
            path=f"{parent.path}/{name}" if parent else name,
            loc=loc,
            where=self._document.key(loc),
            spec=spec,
            tier=heir.tier if heir else Tier.STANDARD if spec.tier is None else spec.tier,
            tier_loc=heir.tier_loc if heir else (*loc, "tier"),
            limited=spec.limit is not None or (*loc, "limit") in self._lost or (parent is not None and parent.limited),
            guessed=guessed or (parent is not None and parent.guessed),
            match_locs=tuple(place for place, _ in written),
            matches=tuple(self._match(match, place) for place, match in written),
        )
        children = tuple(
            self.draft(child, below, (*loc, "classes", child), cls) for child, below in spec.classes.items()
        )
        cls = replace(cls, children=children)
        if children and cls.matches and catch_all(cls) is None:
            other = self.draft(OTHER, ClassSpec(), (*loc, "classes", OTHER), cls)
            cls = replace(cls, children=(*children, replace(other, where=cls.where, implied=True)))
        return cls

    def _match(self, spec: MatchSpec, loc: Loc) -> Match:
        say = self._document.problem
        protocols = spec.proto
        if spec.sport or spec.dport:
            without = sorted(set(protocols) - WITH_PORTS)
            if without:
                ports = (*loc, "dport" if spec.dport else "sport")
                hint = "give the ports a match of their own with `proto: tcp` or `proto: udp`"
                message = f"protocol {without[0]} has no ports, so this never matches"
                self.problems.append(say(Kind.PORTS_WITHOUT_TRANSPORT, ports, message, hint))
            protocols = protocols or [TCP, UDP]
        families = [{prefix.version for prefix in prefixes} for prefixes in (spec.src, spec.dst) if prefixes]
        if len(families) == 2 and families[0] != families[1]:
            hint = "write one match for IPv4 and one for IPv6, each with its own source and destination"
            message = "source and destination are not of the same IP versions, so not all of them can match"
            self.problems.append(say(Kind.MIXED_FAMILIES, (*loc, "dst"), message, hint))
        return Match(
            dscp=tuple(sorted(set(spec.dscp))),
            protocols=tuple(sorted(set(protocols))),
            src=tuple(sorted(set(spec.src))),
            dst=tuple(sorted(set(spec.dst))),
            sport=tuple(sorted(set(spec.sport))),
            dport=tuple(sorted(set(spec.dport))),
            where=self._document.value(loc),
        )
