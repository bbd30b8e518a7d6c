"""Tens of thousands of networks, and thousands of subscribers, in tables: where packets go, and what one costs."""

from __future__ import annotations

import sys
import time
from random import Random

from _common import network, options, verdict
from table_samples import country_lists, households, meeting, subscribers
from tabled import answered, cost, counted

from shaper.model.match import Match, Prefix, Rule, Rules

_CLASSIC = 1000
_SAMPLE = 200
"""Packets for which the time is taken."""


def main() -> int:
    """0 without a difference, 1 with some."""
    parser = options("tables", __doc__, count=10_000, of="packets for each of the policies", seed=1)
    parser.add_argument("--ipv4", type=int, default=50_000, help="networks [50000]")
    parser.add_argument("--ipv6", type=int, default=10_000, help="networks [10000]")
    parser.add_argument("--subscribers", type=int, default=5000, help="each a class of its own [5000]")
    parser.add_argument("--households", type=int, default=2000, help="each some classes, told by DSCP and port [2000]")
    parser.add_argument("--repeat", type=int, default=2000, help="of each packet, where its cost is measured [2000]")
    wanted = parser.parse_args()
    random, problems = Random(wanted.seed), []
    policies = {
        f"{wanted.ipv4} networks of IPv4, {wanted.ipv6} of IPv6": country_lists(random, wanted.ipv4, wanted.ipv6),
        f"{wanted.subscribers} subscribers": subscribers(wanted.subscribers),
        f"{wanted.households} households of 1 to 3 classes": households(random, wanted.households),
    }
    for name, rules in policies.items():
        packets, began = meeting(random, rules, wanted.count), time.monotonic()
        found = [f"{name}: {problem}" for problem in answered(rules, packets)]
        print(f"{name}: {wanted.count} packets given to the program one by one, {len(found)} differences", flush=True)
        problems += found
        with network() as (lab, _):
            found = [f"{name}: {problem}" for problem in counted(lab, rules, packets)]
        print(
            f"{name}: {wanted.count} packets sent through a device, {len(found)} differences of its counters "
            f"({time.monotonic() - began:.0f} s)",
            flush=True,
        )
        problems += found
    few = classic(random)
    costs = {
        f"{_CLASSIC} networks, classic": cost(few, meeting(random, few, _SAMPLE), tables=False, repeat=wanted.repeat)
    }
    costs |= {
        name: cost(rules, meeting(random, rules, _SAMPLE), tables=True, repeat=wanted.repeat)
        for name, rules in policies.items()
    }
    base = next(iter(costs.values()))
    print(f"{'':44}{'a packet':>10}{'ratio':>8}{'instructions':>14}{'compiled in':>13}{'loaded in':>11}")
    for name, one in costs.items():
        print(
            f"{name:44}{one.packet * 1e9:7.0f} ns{one.packet / base.packet:8.2f}{one.instructions:14}"
            f"{one.compiling:11.2f} s{one.loading:9.2f} s"
        )
    return verdict(problems, "every packet was answered and counted as it was named")


def classic(random: Random) -> Rules:
    """As many networks as one classic program holds easily."""
    networks = tuple(Prefix(4, random.getrandbits(23) << 9, 24) for _ in range(_CLASSIC))
    return Rules((Rule((Match(dst=networks),), "listed"),), "rest")


if __name__ == "__main__":
    sys.exit(main())
