"""Interfaces as a policy resolves to them, small or from a seeded random, for tests of compilation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from shaper.errors import Where
from shaper.model.match import NETWORK_CONTROL, Match, PortRange, Prefix, network_control_matches
from shaper.model.policy import Interface, Tier, TrafficClass
from shaper.model.sla import DelayTarget, Sla
from shaper.tree import Capabilities, LinkFacts

PLACE = Where("branch.yaml", 1, 1)
SMALL_KERNEL = Capabilities(
    "6.18",
    frozenset({"htb", "bfifo", "clsact"}),
    frozenset({"bpf"}),
    frozenset({"mirred"}),
    frozenset({"ifb", "veth"}),
    frozenset({"stab"}),
)
FULL_KERNEL = replace(SMALL_KERNEL, kernel="6.12", qdiscs=SMALL_KERNEL.qdiscs | {"fq_codel"})
FLOWER_KERNEL = replace(FULL_KERNEL, filters=frozenset({"flower"}))
ETHERNET = LinkFacts("eth1", 2, 1500, 14, 1514, True)
VETH = LinkFacts("eth1", 2, 1500, 14, 65536, True)
MBIT = 1_000_000


def a_class(path: str, guarantee: int, limit: int, **more: Any) -> TrafficClass:
    """A class of the standard tier; `delay` in seconds gives it a target for the 99th percentile."""
    delay = more.pop("delay", None)
    values: dict[str, Any] = {"tier": Tier.STANDARD, "floor": guarantee, "share": 1.0, **more}
    if delay is not None:
        values["sla"] = Sla((DelayTarget(0.99, delay),))
    return TrafficClass(path.rpartition("/")[2], path, PLACE, guarantee=guarantee, limit=limit, **values)


def an_interface(classes: Sequence[TrafficClass], bandwidth: int = 20 * MBIT, device: str = "eth1") -> Interface:
    """With the implied network control before the given classes."""
    control = a_class(
        NETWORK_CONTROL,
        bandwidth // 100,
        bandwidth // 10,
        tier=Tier.SPECIAL,
        implied=True,
        matches=tuple(network_control_matches()),
    )
    return Interface("wan", device, bandwidth, "branch-office", (control, *classes), PLACE, PLACE)


def branch_office() -> Interface:
    """Voice, video, an inner class with two leaves of which one is the default, and a class that yields."""
    web = Match(protocols=(6,), dport=(PortRange(80, 80), PortRange(443, 443)))
    office = (
        a_class("office/web", 0, 20 * MBIT, share=70.0, matches=(web,)),
        a_class("office/rest", 0, 20 * MBIT, share=30.0, default=True),
    )
    networks = (Prefix(4, 0xCB007100, 24),), (Prefix(6, 0x20010DB8 << 96, 32),)
    return an_interface(
        [
            a_class(
                "voice",
                2 * MBIT,
                5 * MBIT,
                tier=Tier.SPECIAL,
                delay=0.01,
                matches=(Match(dscp=(46,)), Match(protocols=(17,), dport=(PortRange(16384, 32767),))),
            ),
            a_class(
                "video",
                3 * MBIT,
                20 * MBIT,
                tier=Tier.PRIORITY,
                delay=0.05,
                matches=(Match(dscp=(34, 36, 38)),),
            ),
            a_class("office", 0, 20 * MBIT, share=60.0, children=office),
            a_class(
                "backup",
                4 * MBIT,
                10 * MBIT,
                floor=MBIT // 2,
                share=40.0,
                matches=tuple(Match(dst=network) for network in networks),
            ),
        ]
    )


def any_interface(random: Random) -> Interface:
    """Up to a dozen classes in up to two levels, guarantees within the bandwidth, odd rates included."""
    bandwidth = random.choice((64_000, 1 * MBIT, 20 * MBIT, 999_999_999, 40_000 * MBIT))
    names = [f"c{number}" for number in range(random.randint(1, 8))]
    spare = bandwidth * 9 // 10
    classes: list[TrafficClass] = []
    for name in names:
        guarantee = random.choice((0, random.randint(0, spare // 2)))
        spare -= guarantee
        if random.random() < 0.25:
            parts = random.randint(1, 3)
            children = tuple(
                random_class(random, f"{name}/k{part}", guarantee // parts, bandwidth) for part in range(parts)
            )
            own = random.choice((guarantee, sum(child.floor for child in children)))
            classes.append(
                a_class(name, guarantee, bandwidth, floor=own, share=random.uniform(1, 100), children=children)
            )
        else:
            classes.append(random_class(random, name, guarantee, bandwidth))
    classes.append(a_class("rest", 0, bandwidth, default=True))
    return an_interface(classes, bandwidth)


def random_class(random: Random, path: str, guarantee: int, bandwidth: int) -> TrafficClass:
    """A leaf with this guarantee, its limit between the two, its floor below."""
    return a_class(
        path,
        guarantee,
        max(8000, random.randint(guarantee, bandwidth)),
        floor=random.choice((guarantee, random.randint(0, guarantee))),
        tier=random.choice(tuple(Tier)),
        share=random.uniform(1, 100),
        delay=random.choice((None, 0.001, 0.01, 0.3)),
        matches=(Match(dscp=(random.randrange(64),)),),
    )
