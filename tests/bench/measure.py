"""The same traffic by four accounts: the kernel's counters, its own programs (eBPF), captured packets, tracepoints."""

from __future__ import annotations

import sys

from _common import network, options, verdict
from side_by_side import Account, side_by_side
from test_capture_matching import LIMIT, RATE, shape
from traced import PERCENTILES, Compared, UntraceableError, compare


def main() -> int:
    """0 when the accounts agree with each other and with theory, 1 when not."""
    parser = options("measure", __doc__, count=10, of="seconds of traffic", seed=1)
    wanted = parser.parse_args()
    with network() as (lab, _):
        outcome = side_by_side(shape(lab), float(wanted.count))
    print(
        f"{'':8}{'sent':>8}{'dropped':>9}{'lost: eBPF':>12}{'capture':>9}{'p50 ms: eBPF':>15}{'capture':>9}"
        f"{'p99 ms: eBPF':>15}{'capture':>9}"
    )
    problems = [
        problem for name, one in (("voice", outcome.voice), ("bulk", outcome.bulk)) for problem in row(name, one)
    ]
    print(
        f"to read what was counted took {outcome.read:.3f} s of processor time, to match what was captured "
        f"{outcome.drained:.3f}: {outcome.drained / outcome.read:.0f} times as much"
    )
    theory, found = LIMIT * 8 / RATE, outcome.bulk.counts.quantile(0.5)
    print(f"a full queue of {LIMIT} bytes at {RATE / 1e6:g} Mbit/s waits {theory * 1e3:.2f} ms")
    if abs(found / theory - 1) > 0.05:
        problems.append(f"bulk waited {found * 1e3:.2f} ms")
    try:
        with network() as (lab, _):
            problems += tracepoints(compare(lab, seconds=float(wanted.count), seed=wanted.seed))
    except UntraceableError as error:
        problems.append(f"nothing is known of tracepoints: {error}")
    return verdict(problems, "every packet has one fate in all accounts")


def tracepoints(found: list[Compared]) -> list[str]:
    """Prints what the programs and the kernel's tracepoints say of the same packets; what does not agree."""
    print(
        f"{'alone':8}{'sent':>8}{'dropped':>9}",
        *(f"{f'p{q * 100:g} ms':>10}{'off us':>9}" for q in PERCENTILES),
        sep="",
    )
    for one in found:
        cells = (f"{one.traced.quantile(q) * 1e3:10.3f}{one.off(q) * 1e6:+9.1f}" for q in PERCENTILES)
        print(f"{one.name:8}{one.sent:8}{one.dropped:9}", *cells, sep="")
    return [problem for one in found for problem in one.problems()]


def row(name: str, one: Account) -> list[str]:
    """Prints one class; what of it does not agree."""
    quantiles = [
        each * 1e3
        for q in (0.5, 0.99)
        for each in (one.counts.quantile(q), one.captured[min(len(one.captured) - 1, int(q * len(one.captured)))])
    ]
    print(
        f"{name:8}{one.sent:8}{one.dropped:9}{one.counted_lost:12}{one.captured_lost:9}"
        f"{quantiles[0]:15.3f}{quantiles[1]:9.3f}{quantiles[2]:15.3f}{quantiles[3]:9.3f}"
    )
    found = []
    if not one.dropped == one.counted_lost == one.captured_lost:
        found.append(f"{name}: {one.dropped} packets were dropped, {one.counted_lost} and {one.captured_lost} missed")
    if not one.counts.matched == len(one.captured) == one.sent - one.dropped:
        found.append(f"{name}: {one.counts.matched} and {len(one.captured)} packets came out")
    return found


if __name__ == "__main__":
    sys.exit(main())
