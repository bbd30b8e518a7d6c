"""Rules about networks in networks, and packets whose addresses lie in and beside them; from a seeded random."""

from __future__ import annotations

from random import Random

from shaper.model.match import Match, Packet, PortRange, Prefix, Rule, Rules

V4, V6 = 0x0800, 0x86DD
LEAVES = ("a", "b", "c", "d")
_SIDES = ("src", "dst", "net")


def nested(random: Random, *, most: int = 40) -> Rules:
    """Some ask for addresses alone, in runs, and some for more."""
    shared = [_list(random) for _ in range(3)]
    ordered = [_rule(random, shared) for _ in range(random.randrange(most))]
    return Rules(tuple(ordered), "rest")


def _rule(random: Random, shared: list[tuple[Prefix, ...]]) -> Rule:
    side = random.choice(_SIDES)
    asked = [Match(**{side: random.choice((_list(random), random.choice(shared)))})]
    if random.random() < 0.2:
        asked.append(Match(**{random.choice((side, "src", "dst")): random.choice(shared)}))
    if random.random() < 0.15:
        asked.append(Match(dport=(PortRange(80, 80),)))
    if random.random() < 0.05:
        asked.append(Match(none_of=(Match(net=random.choice(shared)),)))
    return Rule(tuple(asked), random.choice(LEAVES))


def _list(random: Random) -> tuple[Prefix, ...]:
    return tuple(prefix(random) for _ in range(random.choice((1, 1, 2, 5))))


def prefix(random: Random) -> Prefix:
    """In few places, so that one holds another as often as not; with bits behind its length."""
    version = random.choice((4, 6))
    bits = 32 if version == 4 else 128
    return Prefix(version, address(random, version), random.choice((0, 1, 2, bits - 3, bits - 2, bits - 1, bits)))


def address(random: Random, version: int) -> int:
    """The first bits and the last are at random, and nothing else."""
    return random.randrange(4) << (30 if version == 4 else 126) | random.randrange(8)


def packet(random: Random) -> Packet:
    """To port 80 or another."""
    version = random.choice((4, 6))
    source, target = address(random, version), address(random, version)
    return Packet(V4 if version == 4 else V6, 17, source, target, 1000, random.choice((80, 81)), 0)
