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


def subscribers(count: int) -> Rules:
    """Each by addresses of its own, a host and a network, and voice of all of them before."""
    voice = Rule((Match(dscp=(46,)),), "voice")
    own = (Rule((Match(net=_own(number)),), f"s{number}") for number in range(count))
    return Rules((voice, *own), "rest")


def _own(number: int) -> tuple[Prefix, ...]:
    return Prefix(4, 0x0A000000 + number, 32), Prefix(6, 0x20010DB8 << 96 | number << 64, 64)


def households(random: Random, count: int) -> Rules:
    """Each with classes of its own by DSCP and port, and one for the rest; some are neighbours in one network."""
    own: list[Rule] = []
    for number in range(count):
        lists = _own(number) if random.random() < 0.8 else (*_own(number), *_own(number ^ 1))
        own.append(Rule((Match(dst=lists, dscp=(46,)),), f"voice{number}"))
        if random.random() < 0.5:
            own.append(Rule((Match(dport=(PortRange(80, 80),)), Match(dst=lists)), f"web{number}"))
        if random.random() < 0.9:
            own.append(Rule((Match(dst=lists),), f"rest{number}"))
    return Rules(tuple(own), "rest")


def country_lists(random: Random, ipv4: int, ipv6: int) -> Rules:
    """So many networks in four lists that overlap, asked one after the other with more and without."""
    held = [
        *(Prefix(4, random.getrandbits(24) << 8, random.choice((16, 20, 22, 24))) for _ in range(ipv4)),
        *(Prefix(6, random.getrandbits(45) << 80 | 1 << 125, random.choice((32, 40, 48))) for _ in range(ipv6)),
    ]
    wide = tuple(Prefix(4, number << 24, 8) for number in range(0, 256, 16))
    ordered = (
        Rule((Match(src=tuple(held[::3])), Match(dport=(PortRange(80, 80),))), "web"),
        Rule((Match(dst=tuple(held[::2]), none_of=(Match(src=wide),)),), "half"),
        Rule((Match(net=tuple(held[::5])),), "fifth"),
        Rule((Match(dst=tuple(held)),), "listed"),
    )
    return Rules(ordered, "rest")


def meeting(random: Random, rules: Rules, count: int) -> list[Packet]:
    """Packets of which either address is as often as not in a network that the rules ask for."""
    matches = [match for rule in rules.ordered for match in rule.all_of]
    lists = [prefixes for match in matches for prefixes in (match.src, match.dst, match.net) if prefixes]

    def end(version: int) -> int:
        bits, one = 32 if version == 4 else 128, random.choice(random.choice(lists))
        if one.version != version or random.random() < 0.2:
            return random.getrandbits(bits)
        return one.value >> bits - one.length << bits - one.length | random.getrandbits(bits - one.length)

    def packet() -> Packet:
        version, ports, dscps = random.choice((4, 6)), (80, 81), (0, 0, 0, 46)
        kind = V4 if version == 4 else V6
        return Packet(kind, 17, end(version), end(version), 1000, random.choice(ports), random.choice(dscps))

    return [packet() for _ in range(count)]


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
