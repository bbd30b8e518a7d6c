"""What of all packets a match takes, as boxes: for each axis (a field of the packet) the ranges that its value is in.

A match is met by what is in any of its boxes. A field that a packet does not have is `ABSENT`, a value like any other,
so that a negation takes it in. IPv4 and IPv6 addresses lie behind each other on one axis, the DS field's parts on one
byte. Boxes are sound, not complete: what is contained here is contained for every packet; what is not, may be.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import product

from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, TCP, Masked, Match, Prefix
from shaper.policy.names import WITH_PORTS

Ranges = tuple[tuple[int, int], ...]
"""Sorted, apart, both ends included."""
Box = dict[str, Ranges]

ABSENT = -1
MAX_BOXES = 64
_V6 = 1 << 32
_ENDS = {
    "ethertype": 0xFFFF,
    "protocol": 255,
    "src": _V6 + (1 << 128) - 1,
    "dst": _V6 + (1 << 128) - 1,
    "sport": 65535,
    "dport": 65535,
    "tos": 255,
    "icmp": 511,
    "tcp_flags": 255,
    "length": 65535,
    "vlan": 4095,
    "pcp": 7,
    "src_mac": (1 << 48) - 1,
    "dst_mac": (1 << 48) - 1,
    "iif": (1 << 128) - 1,
}
_ALWAYS = ("ethertype", "mark", "inner", "cgroup")  # axes on which every packet has a value
_TUNNELS = (4, 17, 41, 47)  # IPv4 and IPv6 in IP, VXLAN, GRE


class TooManyBoxesError(ValueError):
    """The match branches so often that nothing is said about it."""


def ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """The same values in the fewest ranges."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def points(values: Iterable[int]) -> Ranges:
    return ranges((value, value) for value in values)


def common(one: Ranges, two: Ranges) -> Ranges:
    """What is in both."""
    shared: list[tuple[int, int]] = []
    left, right = _place(one, two), _place(two, one)
    while left < len(one) and right < len(two):
        first, last = max(one[left][0], two[right][0]), min(one[left][1], two[right][1])
        if first <= last:
            shared.append((first, last))
        if one[left][1] < two[right][1]:
            left += 1
        else:
            right += 1
    return tuple(shared)


def _place(one: Ranges, two: Ranges) -> int:
    """The first range of `one` that may have something of `two`: the one of a long list is not looked for in turn."""
    return max(0, bisect(one, two[0]) - 1) if two else 0


def without(one: Ranges, two: Ranges) -> Ranges:
    """What is in `one` and not in `two`."""
    kept: list[tuple[int, int]] = []
    at = _place(two, one)
    for first, last in one:
        low = first
        while at < len(two) and two[at][1] < low:
            at += 1
        for taken in range(at, len(two)):
            if two[taken][0] > last or low > last:
                break
            if low < two[taken][0]:
                kept.append((low, two[taken][0] - 1))
            low = max(low, two[taken][1] + 1)
        if low <= last:
            kept.append((low, last))
    return tuple(kept)


def boxes_of(conjunction: Iterable[Match]) -> list[Box]:
    """The boxes of what meets every match; none where nothing can. Raises TooManyBoxesError."""
    return [box for box in _all(_boxes(match) for match in conjunction) if _possible(box)]


def _boxes(match: Match, *, holds: bool = True) -> list[Box]:
    """Of what meets the match, or of what does not."""
    clauses = [_clause(match, name, holds) for name in match.asks]
    return _all(clauses) if holds else _any(clauses)


def _clause(match: Match, name: str, holds: bool) -> list[Box]:
    """One condition of a match, or its negation."""

    def parts(matches: Sequence[Match], sign: bool) -> list[list[Box]]:
        return [_boxes(part, holds=sign) for part in matches]

    match name:
        case "any_of":
            return _any(parts(match.any_of, True)) if holds else _all(parts(match.any_of, False))
        case "all_of":
            return _all(parts(match.all_of, True)) if holds else _any(parts(match.all_of, False))
        case "none_of":
            return _all(parts(match.none_of, False)) if holds else _any(parts(match.none_of, True))
        case "inner":
            assert match.inner is not None
            inside: list[Box] = [
                {"inner": ((1, 1),), **{f"inner.{axis}": held for axis, held in box.items()}}
                for box in _boxes(match.inner, holds=holds)
            ]
            return inside if holds else [{"inner": ((0, 0),)}, *inside]
        case "cgroup" | "mark":
            axes = _cgroups(match.cgroup) if name == "cgroup" else _marks(match.mark)
        case _:
            axes = _axes(match, name)
    if holds:
        return [{axis: held} for axis, held in axes]
    negated: list[Box] = [{axis: without(((_start(axis), _end(axis)),), held)} for axis, held in axes]
    return _all([box] for box in negated)


def _axes(match: Match, name: str) -> list[tuple[str, Ranges]]:
    """The axes of a condition on which one must hold, and the ranges on each."""
    asked = getattr(match, name)
    match name:
        case "ethertypes" | "protocols":
            return [(name[:-1], points(asked))]
        case "src" | "dst":
            return [(name, _addresses(asked))]
        case "net":
            return [(axis, _addresses(asked)) for axis in ("src", "dst")]
        case "port":
            return [(axis, ranges(asked)) for axis in ("sport", "dport")]
        case "mac":
            return [(axis, points(asked)) for axis in ("src_mac", "dst_mac")]
        case "dscp":
            return [("tos", ranges((value << 2, value << 2 | 3) for value in asked))]
        case "ecn":
            return [("tos", points(byte for byte in range(256) if byte & 3 in asked))]
        case "tos" | "tcp_flags":
            return [(name, points(byte for byte in range(256) if any(each.holds(byte) for each in asked)))]
        case "icmp":
            return [(name, points((protocol == ICMPV6) << 8 | number for protocol, number in asked))]
        case "iif":
            return [(name, points(int.from_bytes(device.encode(), "big") for device in asked))]
        case "pcp" | "src_mac" | "dst_mac":
            return [(name, points(asked))]
        case _:
            return [(name, ranges(asked))]


def _addresses(prefixes: Iterable[Prefix]) -> Ranges:
    starts = ((prefix, prefix.value + (0 if prefix.version == 4 else _V6)) for prefix in prefixes)
    return ranges((start, start + (1 << (prefix.bits - prefix.length)) - 1) for prefix, start in starts)


def _marks(asked: Iterable[Masked]) -> list[tuple[str, Ranges]]:
    """An axis for each mask, as if they had nothing to do with each other."""
    return [(f"mark&{mask:x}", ((value, value),)) for value, mask in asked]


def _cgroups(asked: Iterable[str]) -> list[tuple[str, Ranges]]:
    """An axis for each group: inside or not."""
    return [(f"cgroup {path}", ((1, 1),)) for path in asked]


def _start(axis: str) -> int:
    return 0 if axis.removeprefix("inner.").startswith(_ALWAYS) else ABSENT


def _end(axis: str) -> int:
    if axis.startswith("mark&"):
        return int(axis.removeprefix("mark&"), 16)
    return _ENDS.get(axis.removeprefix("inner."), 1)


def _any(branches: Iterable[list[Box]]) -> list[Box]:
    boxes = [box for branch in branches for box in branch]
    if len(boxes) > MAX_BOXES:
        raise TooManyBoxesError
    return boxes


def _all(clauses: Iterable[list[Box]]) -> list[Box]:
    boxes: list[Box] = [{}]
    for clause in clauses:
        if len(boxes) * len(clause) > MAX_BOXES:
            raise TooManyBoxesError
        boxes = [met for one, two in product(boxes, clause) if (met := _both(one, two)) is not None]
    return boxes


def _both(one: Box, two: Box) -> Box | None:
    met = dict(one)
    for axis, held in two.items():
        narrowed = common(met[axis], held) if axis in met else held
        if not narrowed:
            return None
        met[axis] = narrowed
    return met


def _possible(box: Box) -> bool:
    """Adds what one field says of the others; whether anything is left."""
    return _implied(box, "") and ("inner" not in box or box["inner"] == ((0, 0),) or _implied(box, "inner."))


def _implied(box: Box, inside: str) -> bool:
    def there(axis: str) -> bool:
        held = box.get(inside + axis, ())
        return bool(held) and held[0][0] != ABSENT

    def narrow(axis: str, allowed: Ranges) -> bool:
        whole = ((_start(inside + axis), _end(inside + axis)),)
        box[inside + axis] = common(box.get(inside + axis, whole), allowed)
        return bool(box[inside + axis])

    v4, v6 = ((0, _V6 - 1),), ((_V6, _ENDS["src"]),)
    sound = True
    if there("sport") or there("dport"):
        sound = sound and narrow("protocol", points(WITH_PORTS))
    if there("tcp_flags"):
        sound = sound and narrow("protocol", points((TCP,)))
    if there("icmp"):
        own = {
            (ICMPV6, ETHERTYPE_IPV6) if first > 255 or last > 255 else (ICMP, ETHERTYPE_IPV4)
            for first, last in _split(box[f"{inside}icmp"])
        }
        sound = sound and narrow("protocol", points(protocol for protocol, _ in own))
        sound = sound and narrow("ethertype", points(ethertype for _, ethertype in own))
    if not inside and box.get("inner") == ((1, 1),):
        sound = sound and narrow("protocol", points(_TUNNELS))
    if any(there(axis) for axis in ("protocol", "src", "dst", "tos", "length")):
        sound = sound and narrow("ethertype", points((ETHERTYPE_IPV4, ETHERTYPE_IPV6)))
    for axis in ("src", "dst"):
        if sound and there(axis):
            families = [
                kind for kind, half in ((ETHERTYPE_IPV4, v4), (ETHERTYPE_IPV6, v6)) if common(box[inside + axis], half)
            ]
            sound = narrow("ethertype", points(families))
    for axis in ("src", "dst"):  # once more, since the one may have narrowed the other
        if sound and there(axis):
            kinds = box[f"{inside}ethertype"]
            allowed = (v4 if common(kinds, points((ETHERTYPE_IPV4,))) else ()) + (
                v6 if common(kinds, points((ETHERTYPE_IPV6,))) else ()
            )
            sound = narrow(axis, ranges(allowed))
    return sound


def _split(held: Ranges) -> Ranges:
    """Ranges of ICMP types, none of them across both kinds."""
    return common(held, ((0, 255),)) + common(held, ((256, 511),))


def contains(outer: Box, inner: Box) -> bool:
    """Whether all of `inner` is in `outer`."""
    return all(axis in inner and not without(inner[axis], held) for axis, held in outer.items())


def left_of(box: Box, taken: Box) -> Box | None:
    """What is left of a box where `taken` holds all of it but for one axis; the box itself where it does not."""
    open_axis = None
    for axis, held in taken.items():
        if axis not in box:
            return box
        if without(box[axis], held):
            if open_axis is not None or not common(box[axis], held):
                return box
            open_axis = axis
    if open_axis is None:
        return None
    return {**box, open_axis: without(box[open_axis], taken[open_axis])}
