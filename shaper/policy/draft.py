"""A policy's classes with everything that needs no bandwidth: paths, inherited tiers, matches, implied leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from shaper.errors import Problem, Where
from shaper.model.match import Match
from shaper.model.policy import STRICT, Tier, catch_all
from shaper.model.words import KEYS
from shaper.policy.groups import Groups
from shaper.policy.kinds import Kind
from shaper.policy.names import TCP, UDP, WITH_PORTS
from shaper.policy.reader import Document
from shaper.policy.schema import LEFT_OUT, ClassSpec, MatchSpec
from shaper.policy.service import with_presets
from shaper.policy.text import Loc
from shaper.policy.validate import Lost

_T = TypeVar("_T")

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
    presets: tuple[str, ...] = ()

    @property
    def default(self) -> bool:
        return self.spec.default

    @property
    def strict(self) -> bool:
        return self.spec.priority == STRICT

    def walk(self) -> Iterator[Draft]:
        """This class and every class below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


class Drafter:
    """Makes the drafts of a document's policies; `problems` collects what is wrong with single matches."""

    def __init__(self, document: Document, lost: Lost, groups: Groups) -> None:
        self._document = document
        self._lost = lost
        self._groups = groups
        self.problems: list[Problem] = []

    def draft(self, name: str, spec: ClassSpec, loc: Loc, parent: Draft | None = None) -> Draft:
        """One class with all below it, and the catch-all that it needs."""
        spec, presets = with_presets(spec, loc, self._lost)
        heir = parent if spec.tier is None else None
        guessed = any((*loc, key) in self._lost for key in ("match", "default", "classes"))
        guessed = guessed or self._groups.unsure(spec.match)
        written = [
            ((*loc, "match", index), match)
            for index, stated in enumerate(spec.match)
            if stated is not LEFT_OUT
            for match in self._groups.ways(stated, (*loc, "match", index))
        ]
        cls = Draft(
            name=name,
            path=f"{parent.path}/{name}" if parent else name,
            loc=loc,
            where=self._document.key(loc),
            spec=spec,
            tier=heir.tier if heir else Tier.STANDARD if spec.tier is None else spec.tier,
            tier_loc=heir.tier_loc if heir else (*loc, "tier"),
            limited=spec.limit is not None
            or spec.priority == STRICT
            or (*loc, "limit") in self._lost
            or (parent is not None and parent.limited),
            guessed=guessed or (parent is not None and parent.guessed),
            match_locs=tuple(place for place, _ in written),
            matches=tuple(self._match(match, place) for place, match in written),
            presets=presets,
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
        return replace(self._conditions(spec, loc), where=self._document.value(loc))

    def _conditions(self, spec: MatchSpec, loc: Loc, around: Sequence[int] = (), *, inside: bool = False) -> Match:
        """`around` are the protocols that the match around this one asks for: ports alone mean TCP and UDP.

        `inside` says that it asks the packet in a tunnel.
        """
        if inside:
            self._known_inside(spec, loc)
        protocols = self._protocols(spec, loc) or ([] if around or not _has_ports(spec) else [TCP, UDP])
        self._mixed_families(spec, loc)

        def parts(key: str, specs: Sequence[MatchSpec]) -> tuple[Match, ...]:
            below = protocols or around
            places = ((part, (*loc, key, index)) for index, part in enumerate(specs))
            return tuple(self._conditions(part, place, below, inside=inside) for part, place in places)

        return Match(
            dscp=_several(spec.dscp),
            protocols=_several(protocols),
            src=_several(spec.src),
            dst=_several(spec.dst),
            sport=_several(spec.sport),
            dport=_several(spec.dport),
            ethertypes=self._ethertypes(spec, loc),
            net=_several(spec.net),
            port=_several(spec.port),
            tos=_several(spec.tos),
            ecn=_several(spec.ecn),
            icmp=_several(one for types in spec.icmp_type for one in types),
            tcp_flags=_several(spec.tcp_flags),
            length=_several(spec.length),
            vlan=_several(spec.vlan),
            pcp=_several(spec.pcp),
            src_mac=_several(spec.src_mac),
            dst_mac=_several(spec.dst_mac),
            mac=_several(spec.mac),
            mark=_several(spec.mark),
            iif=_several(spec.iif),
            cgroup=_several(spec.cgroup),
            inner=None if spec.inner is None else self._conditions(spec.inner, (*loc, "inner"), inside=True),
            any_of=parts("any", spec.any_of),
            all_of=parts("all", spec.all_of),
            none_of=parts("not", spec.none_of),
        )

    def _protocols(self, spec: MatchSpec, loc: Loc) -> list[int]:
        without = sorted(set(spec.proto) - WITH_PORTS)
        if without and _has_ports(spec):
            key = next(key for key in ("dport", "sport", "port") if getattr(spec, key))
            hint = "give the ports a match of their own with `proto: tcp` or `proto: udp`"
            message = f"protocol {without[0]} has no ports, so this never matches"
            self._say(Kind.PORTS_WITHOUT_TRANSPORT, (*loc, key), message, hint)
        return spec.proto

    def _mixed_families(self, spec: MatchSpec, loc: Loc) -> None:
        families = [{prefix.version for prefix in prefixes} for prefixes in (spec.src, spec.dst) if prefixes]
        if len(families) == 2 and families[0] != families[1]:
            hint = "write one match for IPv4 and one for IPv6, each with its own source and destination"
            message = "source and destination are not of the same IP versions, so not all of them can match"
            self._say(Kind.MIXED_FAMILIES, (*loc, "dst"), message, hint)

    def _ethertypes(self, spec: MatchSpec, loc: Loc) -> tuple[int, ...]:
        """`family` and `ethertype` speak of the same field."""
        if not (spec.family and spec.ethertype):
            return _several(spec.family or spec.ethertype)
        both = set(spec.family) & set(spec.ethertype)
        if not both:
            message = "no frame of this IP version has this ethertype"
            self._say(Kind.NEVER_MATCHES, (*loc, "ethertype"), message, "take one of the two out")
        return _several(both or spec.family)

    def _known_inside(self, spec: MatchSpec, loc: Loc) -> None:
        """A tunnel's packet is looked at from its IP header on, and the kernel holds nothing beside it."""
        for name in spec.model_fields_set & _OUTSIDE_ONLY:
            key = KEYS[name]
            message = f"`{key}` is not known of the packet inside a tunnel"
            self._say(Kind.NOT_INSIDE, (*loc, key), message, "ask it of the packet around: put it beside `inner`")

    def _say(self, kind: Kind, loc: Loc, message: str, hint: str) -> None:
        self.problems.append(self._document.problem(kind, loc, message, hint))


def _has_ports(spec: MatchSpec) -> bool:
    return bool(spec.sport or spec.dport or spec.port)


_OUTSIDE_ONLY = frozenset({"vlan", "pcp", "mac", "src_mac", "dst_mac", "mark", "iif", "cgroup", "inner"})


def _several(values: Iterable[_T]) -> tuple[_T, ...]:
    """Without repetitions, in one order."""
    return tuple(sorted(set(values)))  # type: ignore[type-var]
