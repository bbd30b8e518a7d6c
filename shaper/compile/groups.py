"""Cgroups that rules ask for: our nftables table tells them by the socket that a packet was sent by, and says so in
bits of the packet's mark, one for each group. The classifiers know of the mark alone.

Only what this machine sends has a socket. What it hands on gets none of the bits, and neither does what nftables never
sees: frames of packet sockets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from shaper.errors import Where
from shaper.model.match import Masked, Match, Rule, Rules
from shaper.tree import FORWARD, OUTPUT, MarkChain, Statement

_LAST = 290
"""A priority behind what the machine's own rules do to what it sends."""
_ALL = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Groups:
    """The cgroups by path; the first has the bit `shift` of the mark, the next the one above."""

    paths: tuple[str, ...]
    shift: int

    @property
    def width(self) -> int:
        """How many bits they take."""
        return len(self.paths)

    @property
    def mask(self) -> int:
        """All the bits."""
        return (1 << self.width) - 1 << self.shift

    def carried(self, rules: Rules) -> Rules:
        """The rules with their questions for cgroups put to the mark."""
        if not self.paths:
            return rules
        ordered = tuple(Rule(tuple(map(self._carried, rule.all_of)), rule.path) for rule in rules.ordered)
        return replace(rules, ordered=ordered)

    def _carried(self, match: Match) -> Match:
        asked = (Match(mark=tuple(self._bit(path) for path in match.cgroup)),) if match.cgroup else ()
        return replace(
            match,
            cgroup=(),
            any_of=tuple(map(self._carried, match.any_of)),
            all_of=(*map(self._carried, match.all_of), *asked),
            none_of=tuple(map(self._carried, match.none_of)),
        )

    def _bit(self, path: str) -> Masked:
        bit = 1 << self.shift + self.paths.index(path)
        return Masked(bit, bit)

    def chains(self, leaving: Statement) -> Iterator[MarkChain]:
        """What sets the bits: all go first, since who sends may have set them."""
        if not self.paths:
            return
        wiping = leaving, Statement("mark", 0, _ALL ^ self.mask)
        setting = (
            (leaving, Statement("cgroup", level_of(path), text=path), Statement("mark", bit, _ALL ^ bit))
            for path in self.paths
            for bit in (self._bit(path).value,)
        )
        yield MarkChain("sending", OUTPUT, _LAST, (wiping, *setting))
        yield MarkChain("handing-on", FORWARD, _LAST, (wiping,))

    def note(self) -> str:
        """For people."""
        return (
            f"cgroups ({', '.join(self.paths)}) are told by {self.mask:#010x} of the packet's mark; they must be there "
            "when this is applied"
        )


def level_of(path: str) -> int:
    """How deep below the root a cgroup is."""
    return path.count("/")


def groups_of(rules: Rules, shift: int) -> Groups:
    """Those that the rules ask for, sorted."""
    return Groups(tuple(sorted(groups_asked(rules))), shift)


def groups_asked(rules: Rules) -> dict[str, Where | None]:
    """The cgroups that the rules ask for, and where each is asked for first."""
    found: dict[str, Where | None] = {}
    for match in (match for rule in rules.ordered for match in rule.all_of):
        for path in _asked(match):
            found.setdefault(path, match.where)
    return found


def _asked(match: Match) -> Sequence[str]:
    return [*match.cgroup, *(path for part in match.parts() for path in _asked(part))]
