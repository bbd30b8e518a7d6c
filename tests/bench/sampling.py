"""A hash sample of captured packets against all of them as eBPF counts them: how often the 99 % intervals cover."""

from __future__ import annotations

import sys

from _common import network, options, verdict
from sampled import PERCENTILES, SAMPLING, windows
from test_capture_matching import shape

SHARE = 195 / 200


def main() -> int:
    """0 when every interval covers in at least 195 of 200 windows, 1 when not."""
    wanted = options("sampling", __doc__, count=200, of="windows", seed=1).parse_args()
    with network() as (lab, _):
        found = list(windows(shape(lab), count=wanted.count, seed=wanted.seed))
    print(f"{len(found)} windows, one packet in {SAMPLING} by its hash; intervals of 99 %")
    print(
        f"{'class':8}{'packets':>9}{'sampled':>9}"
        + "".join(f"{f'p{q * 100:g}':>8}{'bounded':>9}" for q in PERCENTILES)
        + "    loss"
    )
    problems = []
    for name in ("voice", "bulk"):
        ours = [each[name] for each in found]
        counts = {f"p{q * 100:g}": sum(one.covers[q] for one in ours) for q in PERCENTILES}
        counts["loss"] = sum(one.loss for one in ours)
        cells = "".join(f"{counts[f'p{q * 100:g}']:8}{sum(one.bounded[q] for one in ours):9}" for q in PERCENTILES)
        packets, sampled = sum(one.packets for one in ours), sum(one.sampled for one in ours)
        print(f"{name:8}{packets:9}{sampled:9}{cells}{counts['loss']:8}")
        problems += [
            f"{name}: the interval of {what} covers in {count} of {len(ours)} windows"
            for what, count in counts.items()
            if count < SHARE * len(ours)
        ]
    return verdict(problems, f"each interval covers in at least {SHARE:.1%} of the windows")


if __name__ == "__main__":
    sys.exit(main())
