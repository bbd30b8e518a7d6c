"""`match-groups`: matches with a name, to be used in any class as `{group: name}`, alone or with further conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shaper.errors import Problem
from shaper.policy.kinds import Kind
from shaper.policy.reader import Document
from shaper.policy.schema import LEFT_OUT, MatchSpec
from shaper.policy.text import Loc, did_you_mean, named, quoted
from shaper.policy.validate import Lost

MOST = 100_000
"""Matches that groups may come to in one file."""


class Groups:
    """The groups of a document; `problems` collects what is wrong with them and with their uses."""

    def __init__(self, groups: Mapping[str, Sequence[MatchSpec]], document: Document, lost: Lost) -> None:
        self._document = document
        self._lost = lost
        self._room = MOST
        self.problems: list[Problem] = []
        self._ways: dict[str, tuple[MatchSpec, ...]] = {name: self._group(name, each) for name, each in groups.items()}

    def _group(self, name: str, matches: Sequence[MatchSpec]) -> tuple[MatchSpec, ...]:
        loc: Loc = ("match-groups", name)
        if not matches and loc not in self._lost:
            self._say(Kind.EMPTY, loc, "an empty list matches nothing", "name what it should match")
        sound = []
        for index, match in enumerate(matches):
            named = list(_named(match, (*loc, index)))
            for place, other in named:
                hint = f"write the matches of {quoted(other)} out"
                self._say(Kind.GROUP_IN_GROUP, place, "a group cannot be made of another", hint)
            if match is not LEFT_OUT and not named:
                sound.append(match)
        return tuple(sound)

    def unsure(self, matches: Sequence[MatchSpec]) -> bool:
        """Whether one of the matches asks for a group of which nothing, or not all, is known."""
        names = {name for match in matches for _, name in _named(match, ())}
        return any(name not in self._ways or ("match-groups", name) in self._lost for name in names)

    def ways(self, match: MatchSpec, loc: Loc) -> Iterator[MatchSpec]:
        """The matches that one match stands for: itself, or one for each of its group's, with its own conditions.

        None of them names a group; what names one deeper inside holds any of its matches there.
        """
        match = self._inside(match, loc)
        if match.group is None:
            yield match
            return
        own = match.model_fields_set - {"group"}
        for way in self._known(match.group, loc):
            if own & way.model_fields_set:  # both must hold
                yield match.model_copy(update={"group": None, "all_of": [*match.all_of, way]})
            else:
                yield way.model_copy(update={name: getattr(match, name) for name in own})

    def _known(self, name: str, loc: Loc) -> Iterator[MatchSpec]:
        """The matches of a group, and a problem where it is not there."""
        if name not in self._ways:
            if ("match-groups", name) not in self._lost and ("match-groups",) not in self._lost.dropped:
                there = f"the groups here are {named(list(self._ways)[:10])}" if self._ways else "add it"
                hint = f"{did_you_mean(name, self._ways)}{there}, under `match-groups`"
                self._say(Kind.UNKNOWN_GROUP, (*loc, "group"), f"there is no group {quoted(name)}", hint)
            return
        for way in self._ways[name]:
            self._room -= 1
            if self._room < 0:
                if self._room == -1:
                    self._say(Kind.TOO_LARGE, loc, f"the groups come to more than {MOST} matches", "use smaller groups")
                return
            yield way

    def _inside(self, match: MatchSpec, loc: Loc) -> MatchSpec:
        """The match with every group named in its parts written out."""
        parts = {
            name: [self._part(part, (*loc, key, index)) for index, part in enumerate(getattr(match, name))]
            for name, key in _PARTS.items()
            if any(_is_named(part) for part in getattr(match, name))
        }
        if match.inner is not None and _is_named(match.inner):
            return match.model_copy(update={**parts, "inner": self._part(match.inner, (*loc, "inner"))})
        return match.model_copy(update=parts) if parts else match

    def _part(self, part: MatchSpec, loc: Loc) -> MatchSpec:
        ways = list(self.ways(part, loc))
        return ways[0] if len(ways) == 1 else MatchSpec.model_construct(_fields_set={"any_of"}, any_of=ways)

    def _say(self, kind: Kind, loc: Loc, message: str, hint: str) -> None:
        self.problems.append(self._document.problem(kind, loc, message, hint))


_PARTS = {"any_of": "any", "all_of": "all", "none_of": "not"}


def _is_named(match: MatchSpec) -> bool:
    return next(_named(match, ()), None) is not None


def _named(match: MatchSpec, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """Every group that the match names, anywhere inside, and where."""
    if match.group is not None:
        yield (*loc, "group"), match.group
    for name, key in _PARTS.items():
        for index, part in enumerate(getattr(match, name)):
            yield from _named(part, (*loc, key, index))
    if match.inner is not None:
        yield from _named(match.inner, (*loc, "inner"))
