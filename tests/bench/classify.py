"""Whether random packets are counted in the class that `explain` names, for random policies, by every classifier."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import closing
from functools import partial

from _common import network, options, verdict
from agreement import PATHS, Totals, agreed
from masquerade import masqueraded, masquerading
from policy_samples import BY_FLOWER, BY_TABLES, BY_U32, FIELDS
from sorting import ByPriority, ByTables, Sorter, by_bpf, by_flower, by_u32

MEANS = {
    "bpf": (partial(Sorter, means=by_bpf), FIELDS),
    "ebpf": (ByTables, BY_TABLES),
    "stamp": (ByPriority, BY_TABLES),
    "flower": (partial(Sorter, means=by_flower), BY_FLOWER),
    "u32": (partial(Sorter, means=by_u32), BY_U32),
}
"""Each with the fields that it can be asked for; `stamp` is the program that measures, its filter says nothing."""
PROGRESS = 50
_REFUSED = 10
"""So many times as many policies are tried at the most: not every classifier can say every policy."""


def main() -> int:
    """0 without a difference, 1 with some, 64 for a classifier that the kernel lacks."""
    parser = options("classify", __doc__, count=500, of="policies for each classifier", seed=1000)
    parser.add_argument("--packets", type=int, default=20, help="of each policy [20]")
    parser.add_argument(
        "--classifier", choices=MEANS, action="append", help="may be repeated [all that the kernel has]"
    )
    parser.add_argument(
        "--nat", action="store_true", help="through a router that masquerades, with their answers where it has ctinfo"
    )
    wanted = parser.parse_args()
    with network() as (lab, _):
        capabilities = lab.kernel().capabilities()
    loaded = {"lookup": "ebpf", "ebpf": "stamp"}
    there = capabilities.filters | {loaded[name] for name in capabilities.features & loaded.keys()}
    have = [name for name in MEANS if name in there]
    names = wanted.classifier or have
    if lacking := set(names) - set(have):
        parser.error(f"the kernel lacks {', '.join(sorted(lacking))} (`scripts/lab run` has all)")
    seeds = range(wanted.seed, wanted.seed + wanted.count * _REFUSED)
    problems: list[str] = []
    for name in ["masqueraded"] if wanted.nat else names:
        found = behind_a_router(seeds, wanted.packets) if wanted.nat else here(name, seeds, wanted.packets)
        problems += [f"{name}: {problem}" for problem in counted(name, found, wanted.count, seeds.start)]
    return verdict(problems, "every packet was counted in the class that was named")


def here(name: str, seeds: range, packets: int) -> Generator[Totals, None, None]:
    """By one classifier, on one device."""
    sorter, fields = MEANS[name]
    with network() as (lab, _):
        yield from agreed(lab, sorter(lab, PATHS), seeds, packets, fields)


def behind_a_router(seeds: range, packets: int) -> Generator[Totals, None, None]:
    """By what the policy's addresses become where they are translated."""
    with network() as (lab, _), masquerading(lab) as router:
        yield from masqueraded(router, seeds, packets)


def counted(name: str, found: Generator[Totals, None, None], count: int, seed: int) -> list[str]:
    """The differences of `count` policies besides those that cannot be said, and what was not asked."""
    began, totals = time.monotonic(), Totals()
    with closing(found):
        for totals in found:
            if totals.policies % PROGRESS == 0 and sys.stderr.isatty():
                print(f"{totals.policies} of {count} policies, {len(totals.differences)} differences", file=sys.stderr)
            if totals.policies == count:
                break
    print(f"{name}, seeds from {seed}, {time.monotonic() - began:.0f} s: {totals}", flush=True)
    missing = [f"no {version} packet was sent" for version in ("IPv4", "IPv6") if not totals.versions[version]]
    if totals.policies < count:
        missing.append(f"only {totals.policies} policies were taken")
    return [*totals.differences, *missing]


if __name__ == "__main__":
    sys.exit(main())
