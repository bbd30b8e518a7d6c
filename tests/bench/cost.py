"""What measuring in the kernel costs: packets forwarded with it and without, in turns, by the processor's time."""

from __future__ import annotations

import statistics
import sys

from _common import network, options, verdict
from forwarding import CUT, Passage, Router, segments_of

from collectors.bpf.delays import copying
from collectors.bpf.windows import difference

_RATE = 100_000
_PAIRS = 41
_LEAST = {1: 0.65, 16: 0.92}
_SUPER = 42 + 11 * CUT
"""Bytes of a super-packet of eleven parts."""


def main() -> int:
    """0 when nothing is lost and it takes no more than it may, 1 when not."""
    parser = options("cost", __doc__, count=50_000, of="packets in each turn", seed=1)
    wanted = parser.parse_args()
    problems: list[str] = []
    with network() as (lab, _):
        router = Router(lab)
        router.send(wanted.count // 10)
        if why := copying():
            print(f"this kernel copies every packet for it: {why}")
        print(
            f"{'':50}{'without':>12}{'with':>12}{'ratio':>8}   (packets to a second of a processor; half of the pairs)"
        )
        for size, sampling in ((64, 1), (64, 16), (1514, 1), (1514, 16), (_SUPER, 1)):
            problems += turns(router, wanted.count, size=size, sampling=sampling, addresses=sampling > 1)
        for sampling, addresses in ((1, True), (16, False)):
            turns(router, wanted.count, size=64, sampling=sampling, addresses=addresses)
        problems += at_a_rate(router, 4 * wanted.count)
    return verdict(problems, "nothing is lost, and as much is forwarded as must be")


def turns(router: Router, count: int, *, size: int, sampling: int, addresses: bool) -> list[str]:
    """In many short pairs, one after the other and each the other way round, so that both meet the same machine."""
    without, measured, problems = [], [], []
    for number in range(_PAIRS):
        if number % 2 == 0:
            without.append(router.send(count, size=size))
        with router.measuring(sampling=sampling, addresses=addresses) as delays:
            earlier = delays.read()[0][router.default]
            measured.append(router.send(count, size=size))
            one = difference(earlier, delays.read()[0][router.default], lost=0, envelope={})
        if number % 2 == 1:
            without.append(router.send(count, size=size))
        arrived, taken, matched = one.arrived_packets, one.taken, one.matched
        expected = count * segments_of(size)
        problems += [f"of {expected} packets {arrived} were counted"] if arrived != expected else []
        problems += [f"of {taken} stamped packets {matched} came out"] if matched != taken else []
    ratios = [after.rate / before.rate for before, after in zip(without, measured, strict=True)]
    least, ratio, most = statistics.quantiles(ratios)
    medians = [statistics.median(each.rate for each in passages) for passages in (without, measured)]
    each = "every packet" if sampling == 1 else f"1 in {sampling}"
    way = f"{each} stamped, known by its {'address' if addresses and not copying() else 'bytes'}"
    print(f"{size:5} B, {way:40}{medians[0]:14,.0f}{medians[1]:12,.0f}{ratio:8.2f}   {least:.2f}..{most:.2f}")
    lost = sum(one.sent - one.arrived for one in (*without, *measured))
    problems += [f"{lost} packets of {size} B were lost"] if lost else []
    if not _LEAST[sampling] / 2 < matched * sampling / expected < 1.25:
        problems.append(f"of {expected} packets {matched} were looked at")
    if size == 64 and ratio < _LEAST[sampling]:
        problems.append(f"with {each} stamped {ratio:.0%} are forwarded, {_LEAST[sampling]:.0%} must be")
    return problems


def at_a_rate(router: Router, count: int) -> list[str]:
    """What it adds at 100,000 packets a second, and that nothing is lost."""
    without = router.send(count, rate=_RATE)
    with router.measuring() as delays:
        earlier = delays.read()[0][router.default]
        measured = router.send(count, rate=_RATE)
        counts, health = delays.read()
    one = difference(earlier, counts[router.default], lost=0, envelope={})

    def share(passage: Passage) -> float:
        return passage.processor / passage.sent * _RATE

    print(
        f"{_RATE:,} packets a second take {share(without):.1%} of a processor without, {share(measured):.1%} with: "
        f"{share(measured) - share(without):+.1%}; {measured.sent - measured.arrived} lost, {one.matched} of "
        f"{one.arrived_packets} counted (offered: {measured.sent / measured.seconds:,.0f} a second)"
    )
    found = [
        (measured.sent - measured.arrived, "packets were lost"),
        (counts[router.default].no_room, "had no room"),
        (health.unknown, "came out and had not been stamped"),
        (one.arrived_packets - one.matched, "were not counted behind the queue"),
    ]
    offered = min(each.sent / each.seconds for each in (without, measured))
    slow = [f"only {offered:,.0f} packets a second could be offered"] if offered < 0.99 * _RATE else []
    return [*slow, *(f"{number} {what}" for number, what in found if number)]


if __name__ == "__main__":
    sys.exit(main())
