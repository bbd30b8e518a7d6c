"""A class's `police`, `set` and `wash` as the actions of a filter.

Two rates and three colours are two buckets in a row, which is RFC 2698, colour-blind, to the letter: the peak's first,
and what it holds no tokens for is red and pays nothing; then the committed one's, and what that holds none for is
yellow and has paid to the peak's alone. Colours that are marked have a part of the list each, where the buckets jump.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from shaper.errors import UnavailableError
from shaper.model.policy import Interface, TrafficClass
from shaper.model.treatment import Outcome
from shaper.tree import (
    CELL,
    CELL_PAYLOAD,
    DROP,
    LARGEST_PACKET,
    OK,
    PIPE,
    POLICE_INDEXES,
    Action,
    Capabilities,
    Checksum,
    Finish,
    LinkFacts,
    Police,
    SetDscp,
    SetMeta,
    jump,
    kind_of,
    ticks,
)
from shaper.units import format_rate, format_size

_ALL_BITS = 0xFFFFFFFF
_LONGEST_BURST = 2**32 - 1
_LEAST_RATE = 8
_IPV4, _IPV6 = 0x0800, 0x86DD
_NO_IP = 0
_NOTHING = Finish(PIPE)
_NOBODY: Mapping[str, Around] = {}


class Counting(NamedTuple):
    """What a packet counts for in a bucket: so many bytes more than its hook gives it, `mpu` at least, whole cells."""

    overhead: int = 0
    mpu: int = 0
    atm: bool = False

    def of(self, size: int) -> int:
        """In bytes, of a packet of that size."""
        size = max(size + self.overhead, self.mpu)
        return -(-size // CELL_PAYLOAD) * CELL if self.atm else size

    def bucket(
        self, numbers: Numbers, about: tuple[str, str], rate: int, burst: int, conform: int, exceed: int
    ) -> Police:
        """One token bucket that counts so; `burst` in ticks, `about` the class and what of it the bucket is."""
        values = rate, burst, conform, exceed
        return Police(numbers.of(*about, *values, *filter(None, self)), *values, LARGEST_PACKET, *self)


class Around(NamedTuple):
    """What stands before and behind the actions that a class asks for itself, and the verdict that drops.

    What they send goes on behind them.
    """

    before: tuple[Finish, ...] = ()
    after: tuple[Action, ...] = ()
    drop: int = DROP
    counting: Counting = Counting()


ALONE = Around()


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to the packets of one leaf: the actions for IPv4, for IPv6, and for all others."""

    ipv4: tuple[Action, ...]
    ipv6: tuple[Action, ...]
    others: tuple[Action, ...]

    def of(self, ethertype: int) -> tuple[Action, ...]:
        """For packets of an ethertype."""
        return {_IPV4: self.ipv4, _IPV6: self.ipv6}.get(ethertype, self.others)

    def by_ethertype(self) -> Mapping[int, tuple[Action, ...]]:
        """By the ethertype that a filter must ask for first, the rest under 0; only where something is done."""
        if self.ipv4 == self.ipv6 == self.others:
            return {0: self.others}
        each = {_IPV4: self.ipv4, _IPV6: self.ipv6, 0: self.others}
        return {ethertype: actions for ethertype, actions in each.items() if actions}


def treatments(
    interface: Interface,
    capabilities: Capabilities,
    facts: LinkFacts,
    *,
    around: Mapping[str, Around] = _NOBODY,
    numbers: Numbers | None = None,
) -> dict[str, Treatment]:
    """By path, of every leaf to which something is done, by itself or by what is `around`, whose `numbers` it goes on
    with.

    Raises UnavailableError where the kernel lacks an action, or a burst is too small for a packet or too long.
    """
    numbers = numbers or Numbers(interface)
    found: dict[str, Treatment] = {}
    for leaf in interface.leaves():
        within = around.get(leaf.path, ALONE)
        if leaf.police is None and not leaf.marking and within is ALONE:
            continue
        buckets = _buckets(leaf, numbers, facts, within)
        found[leaf.path] = Treatment(*(_actions(leaf, buckets, version, within) for version in (4, 6, _NO_IP)))
    every = (action for one in found.values() for part in (one.ipv4, one.ipv6, one.others) for action in part)
    _require(interface, capabilities, every)
    return found


def policers(interface: Interface, treated: Mapping[str, Treatment]) -> dict[str, tuple[int, ...]]:
    """The indexes of the policers that a leaf asks for itself, in the order in which packets meet them."""
    found = {}
    for leaf in interface.leaves():
        if leaf.police is not None and leaf.path in treated:
            indexes = [one.index for one in treated[leaf.path].others if isinstance(one, Police)]
            found[leaf.path] = tuple(indexes[: 2 if leaf.police.pir else 1])
    return found


def treatment_notes(interface: Interface, facts: LinkFacts) -> Iterator[str]:
    """What a policy with treatments must know of this device."""
    policed = [leaf for leaf in interface.leaves() if leaf.police is not None]
    small = [
        f"{leaf.path} ({format_size(size)})"
        for leaf in policed
        if leaf.police is not None
        and (size := min(filter(None, (leaf.police.cbs, leaf.police.pbs)))) < facts.super_packet
    ]
    if small:
        yield (
            f"super-packets of up to {format_size(facts.super_packet)} are policed whole and exceed the bursts of "
            f"{', '.join(small)}: `ip link set dev {interface.device} gso_max_segs 1` mends it, or larger bursts"
        )
    if any(leaf.marking.dscp is not None for leaf in interface.leaves()) or any(
        outcome.dscp is not None for leaf in policed for outcome in _outcomes(leaf)
    ):
        yield "the DSCP is written where at most one VLAN tag stands before the IP header; behind a second one it stays"


def _outcomes(leaf: TrafficClass) -> tuple[Outcome, ...]:
    """What becomes of green, yellow and red."""
    police = leaf.police
    return () if police is None else (police.green, police.yellow, police.red)


def _require(interface: Interface, capabilities: Capabilities, actions: Iterable[Action]) -> None:
    kinds = sorted({kind_of(action) for action in actions})
    lacking = [each for each in kinds if each.kind not in capabilities.actions]
    if not lacking:
        return
    keys = "police" if any(each.kind == "police" for each in lacking) else "set"
    wanting = [leaf for leaf in interface.leaves() if leaf.police is not None or leaf.marking]
    cls = next((leaf for leaf in wanting if leaf.police is not None or keys == "set"), wanting[0])
    names = ", ".join(each.kind for each in lacking)
    raise UnavailableError(
        f"{cls.path}: the kernel ({capabilities.kernel}) lacks the actions for `{keys}`: {names}",
        hint=f"`modprobe {' '.join(each.module for each in lacking)}`, or take `{keys}` out of the class",
        where=cls.where,
    )


class Numbers:
    """The index of each policer: one for what it is asked for, so that another number means other buckets.

    So an edit of rules finds the policers that were there, with their tokens; a policer that changes gets a new one.
    """

    def __init__(self, interface: Interface) -> None:
        self._place = f"{interface.shaped} {interface.direction}"
        self._taken: set[int] = set()

    def of(self, *about: object) -> int:
        text = " ".join(map(str, (self._place, *about)))
        number = zlib.crc32(text.encode()) % len(POLICE_INDEXES)
        while number in self._taken:
            number = (number + 1) % len(POLICE_INDEXES)
        self._taken.add(number)
        return POLICE_INDEXES[number]


def _buckets(leaf: TrafficClass, numbers: Numbers, facts: LinkFacts, around: Around) -> tuple[Police, ...]:
    """The peak's, where there is one, and the committed rate's."""
    police = leaf.police
    if police is None:
        return ()
    green, yellow, red = _verdicts(leaf, around)
    wanted = [("cbs", police.cir, police.cbs, green, yellow if police.pir else red)]
    if police.pir:
        wanted.insert(0, ("pbs", police.pir, police.pbs, PIPE, red))
    made = []
    for key, rate, size, conform, exceed in wanted:
        whole = rate // 8 * 8
        _require_burst(leaf, key, whole, size, facts)
        count = ticks(size, whole)
        made.append(around.counting.bucket(numbers, (leaf.path, key), whole, count, conform, exceed))
    return tuple(made)


def _require_burst(leaf: TrafficClass, key: str, rate: int, size: int, facts: LinkFacts) -> None:
    frame = facts.mtu + facts.header
    if size < frame:
        raise UnavailableError(
            f"{leaf.path}: a `{key}` of {format_size(size)} is below the largest frame, which would never conform",
            hint=f"at least {frame}b: {facts.name} sends frames of that size",
            where=leaf.where,
        )
    if rate < _LEAST_RATE or ticks(size, rate) > _LONGEST_BURST:
        raise UnavailableError(
            f"{leaf.path}: a `{key}` of {format_size(size)} at {format_rate(rate)} is too long for the kernel's clock",
            hint="the most is 274 seconds of the rate",
            where=leaf.where,
        )


def _verdicts(leaf: TrafficClass, around: Around) -> list[int]:
    """Of green, yellow and red: where the list goes on. The same for every IP version, since they share the buckets."""
    place = _first_part(leaf, around)
    verdicts = []
    for outcome in _outcomes(leaf):
        part = _part(outcome, _NO_IP, OK)
        verdicts.append(around.drop if outcome.drop else jump(place) if part else _sent(leaf, around))
        place += len(part)
    return verdicts


def _first_part(leaf: TrafficClass, around: Around) -> int:
    """The place of what is done to the first colour that is marked, or of what is behind where none is."""
    return len(around.before) + len(_marked(leaf, _NO_IP)) + (2 if leaf.police is not None and leaf.police.pir else 1)


def _sent(leaf: TrafficClass, around: Around) -> int:
    """The verdict for what a policer lets pass."""
    if not around.after:
        return OK
    return jump(_first_part(leaf, around) + sum(len(_part(outcome, _NO_IP, OK)) for outcome in _outcomes(leaf)))


def _actions(leaf: TrafficClass, buckets: tuple[Police, ...], version: int, around: Around) -> tuple[Action, ...]:
    """The list for packets of one IP version, or of none."""
    own = _marked(leaf, version)
    if not buckets:
        own = tuple(action for action in own if action != _NOTHING)
    else:
        sent = _sent(leaf, around)
        parts = (action for outcome in _outcomes(leaf) for action in _part(outcome, version, sent))
        own = (*own, *buckets, *parts)
    return (*around.before, *own, *around.after)


def _part(outcome: Outcome, version: int, sent: int) -> tuple[Action, ...]:
    """What is done to the packets of one colour."""
    return (*_dscp(outcome.dscp, version), Finish(sent)) if outcome.dscp is not None else ()


def _marked(leaf: TrafficClass, version: int) -> tuple[Action, ...]:
    mark, priority = leaf.marking.mark, leaf.marking.priority
    value, mask = (None, _ALL_BITS) if mark is None else mark
    beside = () if mark is None and priority is None else (SetMeta(value, mask, priority),)
    return (*_dscp(leaf.marking.dscp, version), *beside)


def _dscp(dscp: int | None, version: int) -> tuple[Action, ...]:
    """Two actions for every version, so that the places of those behind are the same."""
    if dscp is None:
        return ()
    if version == _NO_IP:
        return _NOTHING, _NOTHING
    return SetDscp(version, dscp), Checksum() if version == 4 else _NOTHING
